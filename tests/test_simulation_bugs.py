"""Bugs that are planted in server or client: the simulation has to find each of them, or it has lost its teeth."""

from __future__ import annotations

import gc
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from simulation.plan import Plan
from simulation.world import Broken, run

import akv.job.local
from akv.backend.local import LocalBackend
from akv.job import Answer, Job, Read
from akv.job.clocks import FreeTrack
from akv.job.rounds import SyncTrack
from akv.operations import Operation, Push
from akv_tcp import calls, connection, peer, server, session, slots, version_waits
from akv_tcp import wire as w

# Seeds in which a bug has to show.
SEEDS = 100


class Bug(NamedTuple):
    """What stands in for `name` of `owner`, and the words of the law that it breaks."""

    owner: object
    name: str
    law: str
    job: bool = False
    change: Callable[[Plan], None] | None = None


BUGS: dict[Callable[..., Any], Bug] = {}


def plant(*bug: Any, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The function gets the real one first, then its arguments."""

    def planted(function: Callable[..., Any]) -> Callable[..., Any]:
        BUGS[function] = Bug(*bug, **more)
        return function

    return planted


# -- requests -------------------------------------------------------------------------------------------------


@plant(server.Server, "admit", r"saw \{\d+: 2")
def no_dedup(real: Any, self: server.Server, hello: w.Hello) -> session.Session:
    """The server knows nothing of what a client has sent on its last connection: what comes again is done again."""
    found: session.Session = real(self, hello)
    if hello.resume:
        self.forget(found)
        found = real(self, replace(hello, resume=False))
    return found


@plant(LocalBackend, "start", "version")
def answer_before_apply(real: Any, self: LocalBackend, op: Operation, done: Any) -> None:
    """A push is answered when it has come, and applied some time later."""
    if type(op) is not Push:
        real(self, op, done)
        return
    op.result = op.outcome([self.version(key) + 1 for key in op.keys])
    late = Push(list(op.keys), [group[0].copy() for group in op.groups], 0)
    done(op)
    real(self, late, lambda op: None)


@plant(session.Session, "take", "are both version|version")
def repeat_answered_anew(real: Any, self: session.Session, request: w.Request, share: Any) -> None:
    """A push that comes again is not applied again, but told the version of now."""
    seen = self.__dict__.setdefault("seen", set())
    if isinstance(request, w.Push) and request.request in seen and self.responder is not None:
        share.give_back(w.cost_of(request))
        versions = [self.engine.backend.version(entry.key) for entry in request.entries]  # type: ignore[arg-type]
        entries = tuple([w.Entry(None, version=version or 0) for version in versions])
        self.responder.say(w.Result(request.request, entries), 0)
        return
    seen.add(request.request)
    real(self, request, share)


def at_once(plan: Plan) -> None:
    plan.inline = True


@plant(session.Session, "answer", "saw|version", change=at_once)
def dedup_forgotten_on_the_short_way(real: Any, self: session.Session, small: w.SmallMessage) -> bytes | None:
    """A small push that comes again is applied again."""
    record = self._records.get(small.request % slots.SLOTS)
    if record is not None and record.number == small.request:
        record.number -= slots.SLOTS
    return real(self, small)


@plant(calls.Calls, "restored", "do not end")
def resend_dropped(real: Any, self: calls.Calls) -> None:
    """A client waits for answers to what was lost with its last connection."""


@plant(version_waits.VersionWaits, "restored", "do not end")
def wait_dropped(real: Any, self: version_waits.VersionWaits) -> None:
    """The same for waits only."""


@plant(slots.Slots, "take", "ProtocolError|KeyNotFound|saw|version")
def number_used_twice(real: Any, self: slots.Slots) -> int:
    """A slot has one number: what is new looks like what was answered, or cancelled."""
    return int(real(self)) % slots.SLOTS


@plant(peer.Peer, "say", "ProtocolError|saw|version|KeyNotFound")
def reply_to_the_wrong_request(real: Any, self: peer.Peer, message: Any, priority: int) -> None:
    """Of two values that are ready in the same turn of the loop each goes to the other's request."""
    held = self.__dict__.setdefault("held", [])
    if not isinstance(message, w.Result) or not message.data:
        real(self, message, priority)
        return
    held.append(message)
    if len(held) == 1:
        self._loop.call_soon(swap, real, self, held)


def swap(real: Any, self: peer.Peer, held: list[Any]) -> None:
    numbers = [message.request for message in held]
    for message, number in zip(held, reversed(numbers), strict=True):
        real(self, replace(message, request=number), 0)
    held.clear()


def bulky(plan: Plan) -> None:
    plan.large, plan.windows, plan.pace = 140_000, (1 << 14,), (0.001, 0.02)
    plan.acts = ("push", "push", "pull", "cancel", "cancel")


@plant(connection.Connection, "send", "has changed|saw", change=bulky)
def memory_returned_early(real: Any, self: connection.Connection, *arguments: Any) -> bool:
    """Who cancels a push may change its array while the transport still reads it."""
    real(self, *arguments)
    return False


# -- rounds ---------------------------------------------------------------------------------------------------


def job(consistency: str, **more: Any) -> Callable[[Plan], None]:
    """A job in which nobody is lost."""

    def change(plan: Plan) -> None:
        plan.wishes = {"workers": plan.clients, "consistency": consistency}
        if consistency == "ssp":
            plan.wishes["staleness"] = 1
        plan.keep_all(random.Random(plan.seed))
        plan.barriers, plan.relief = (), 0
        for name, value in more.items():
            setattr(plan, name, value)

    return change


@plant(SyncTrack, "push", "part of version|twice|is not|do not end|nowhere", job=True)
def round_counts_requests(real: Any, self: SyncTrack, waiter: Any, contribution: Any) -> bool:
    """As in MXNet: as many requests as there are workers make a round, whoever sent them."""
    if not (self.rounds and not self.rounds[0].folding):
        return bool(real(self, waiter, contribution))
    head = self.rounds[0]
    head.contributions[next(rank for rank in range(99) if rank not in head.contributions)] = contribution
    self._waitlist.answer(waiter, self.version + 1)
    self.advance()
    return True


@plant(
    SyncTrack, "joined", "was under way when it came", job=True, change=job("sync", relief=2, faults=(), keys=("a",))
)
def late_joiner_counted(real: Any, self: SyncTrack, rank: int, fresh: bool, late: bool) -> None:
    """The round that is open waits for who has just come."""
    real(self, rank, fresh, late)
    if self.rounds and not self.rounds[0].folding and self.rounds[0].members is not None:
        self.rounds[0].members.add(rank)


@plant(akv.job.local, "Apply", "is not", job=True, change=job("sync"))
def summed_as_it_comes(real: Any, key: Any, contributions: Any, **options: Any) -> Any:
    """The sum depends on who was first."""
    return real(key, contributions[::-1], **options)


@plant(Job, "pull", "does not see its own|saw a part of|comes after", job=True)
def pull_that_does_not_wait(real: Any, self: Job, ticket: Any, session: bytes, key: Any, now: float, **_: Any) -> Any:
    """A pull sees what is there."""
    return [Read(ticket, key)]


@plant(Job, "barrier", "was let through", job=True, change=job("sync", barriers=(1, 2)))
def barrier_that_does_not_wait(real: Any, self: Job, ticket: Any, *_: Any, **__: Any) -> Any:
    return [Answer(ticket, 1)]


@plant(FreeTrack, "_behind", "with a staleness of", job=True, change=job("ssp", rounds=8, patient=1.0))
def staleness_without_bound(real: Any, self: FreeTrack, rank: int) -> tuple[int, ...]:
    return ()


# -- the hunt -------------------------------------------------------------------------------------------------


@contextmanager
def planted(bug: Callable[..., Any]) -> Iterator[None]:
    owner, name = BUGS[bug].owner, BUGS[bug].name
    real = getattr(owner, name)
    with patch.object(owner, name, lambda *arguments, **options: bug(real, *arguments, **options)):
        yield


def breaks(bug: Bug, seed: int) -> bool:
    """Whether this seed breaks the law that the bug is about; it may break others, too."""
    try:
        run(seed, bug.change, job=bug.job)
    except Broken as broken:
        if isinstance(broken.__cause__, AssertionError):
            return re.search(bug.law, str(broken.__cause__)) is not None
        raise
    return False


# A run that ends at a broken law leaves clients in the midst of what they did, and they protest when they go.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Callable[..., Any]) -> None:
    with planted(bug):
        found = any(breaks(BUGS[bug], seed) for seed in range(SEEDS))
    gc.collect()  # now, and not in another test
    assert found
