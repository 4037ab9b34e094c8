"""A job on a store of this process; its workers are handles of this process, or the sessions of a server's clients.

It drives `Job`: the workers' calls become events, and the effects are carried out by the store's backend, one write or
several reads per key at a time. Whoever's call completes a round applies it, or leaves it to the store's threads if it
is large.
"""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from akv.backend.local import LocalBackend
from akv.errors import AkvError, WorkerLost
from akv.job.agenda import Action, Agenda
from akv.job.core import Job
from akv.job.effects import Effect, Fail, Fold, Welcome
from akv.job.flows import UpdaterFailed
from akv.job.sessions import Role
from akv.job.settings import Settings, Wishes
from akv.job.staging import Apply
from akv.job.steps import Step, Task
from akv.job.turns import Turns
from akv.job.worker import Worker
from akv.operations import Delete, Init, Operation, Restore
from akv.values.keys import Key

__all__ = ["LocalJob"]

# What a caller does at once, and under the lock at once, is the work for so many keys: each takes some 50 us, and a
# server's event loop waits for both.
_FEW = 64


class LocalJob:
    """The workers of this process on one store.

    Args:
        backend: carries out the work; nobody else may use it.
        settings: the rules.
        on_nonfinite: what becomes of pushes with NaN or infinities: "allow", "reject" or "skip".
        inline: whether small work may be done in whatever thread brings it about.
        winds: whether the job looks after its time itself; else somebody calls `tick` every `interval` seconds.
    """

    def __init__(
        self, backend: LocalBackend, settings: Settings, on_nonfinite: str, *, inline: bool = True, winds: bool = True
    ) -> None:
        self.interval = min(0.5, settings.worker_timeout / 4)
        self._winds = winds
        self.backend = backend
        self.settings = settings
        self.on_nonfinite = on_nonfinite
        self._core = Job(settings, monotonic())
        self._lock = threading.Lock()
        self._known: set[Key] = set()  # the keys that the core knows of
        self._workers: weakref.WeakValueDictionary[bytes, Worker] = weakref.WeakValueDictionary()
        self._waits_for_lost = settings.on_worker_loss == "wait"
        self._over: AkvError | None = None
        self._clock: threading.Timer | None = None
        self._agenda = Agenda()
        self._turns = Turns(backend, inline, self._lock, self._agenda)

    # -- members ----------------------------------------------------------------------------------------------

    def join(
        self, wishes: Wishes, role: Role, rank: int | None, max_queued: int, session: bytes | None = None
    ) -> Worker:
        """A new worker, which may queue so many operations; `session`: the id of a client that has one already.

        Raises:
            InvalidArgument: the rank is taken, or the wishes are not the job's settings.
        """
        worker = Worker(self, max_queued, session or secrets.token_bytes(16))
        with self._lock:
            self.settings.check(wishes)  # before anybody makes way
            passed = self._pass_time() + (self._make_way(rank) if role == "worker" else [])
            effects = self._core.join(None, worker.session, monotonic(), role=role, rank=rank)
            outcome = effects[0]
            if isinstance(outcome, Welcome):
                worker.rank = -1 if outcome.rank is None else outcome.rank
                self._workers[worker.session] = worker
            actions = self._plan(passed + effects[1:])
            self._wind()
        self._agenda.run_aside(actions)
        if isinstance(outcome, Fail):
            raise outcome.error
        return worker

    def _make_way(self, rank: int | None) -> list[Effect]:
        """Who names the rank of a worker whose connection is gone is that worker, started anew."""
        effects: list[Effect] = []
        for session, worker in list(self._workers.items()):
            if worker.rank == rank and not worker.attached():  # of several, one at most still has the seat
                effects += self._core.lose(session, monotonic())
        return effects

    def leave(self, session: bytes) -> None:
        """A worker ends its part in the job by intention; nothing, where it is not in any more."""
        self._part(session, lambda: self._core.leave(None, session, monotonic()))

    def lose(self, session: bytes) -> None:
        """A worker will not be heard of again; its seat is left to another."""
        self._part(session, lambda: self._core.lose(session, monotonic()))

    def _part(self, session: bytes, event: Callable[[], list[Effect]]) -> None:
        with self._lock:
            known = self._workers.pop(session, None)
            actions = self._plan(event() if known is not None else [])
            self._wind()
        self._agenda.run_aside(actions)

    def stop(self, error: AkvError) -> None:
        """Whatever waits for other workers ends with `error`, now and from now on."""
        with self._lock:
            self._over = error
            actions = self._plan(self._core.withdraw_all(error, monotonic()))
        self._agenda.run_aside(actions)

    def disagree(self, worker: Worker, error: AkvError) -> None:
        """A worker compresses in another way than the store: those who wait for others hear of it, too."""
        told = type(error)(f"rank {worker.rank} does not compress as the others do: {error}")
        with self._lock:
            actions = self._plan(self._core.withdraw_all(told, monotonic()))
        self._agenda.run_aside(actions)
        for other in list(self._workers.values()):
            if other is not worker:
                other.moved((), told)

    def close(self) -> None:
        """Close the store, once all workers are gone."""
        self.backend.close()

    @property
    def num_workers(self) -> int:
        """How many workers the job has."""
        return self._core.members.number

    # -- tasks ------------------------------------------------------------------------------------------------

    def start(self, task: Task) -> None:
        """Carry a task out, as far as it goes now."""
        if len(task.op.keys) <= _FEW:
            self._agenda.run([task.go_on])
        else:
            self._agenda.run_aside([task.go_on])

    def cancel(self, task: Task) -> None:
        """Have a task end soon. Called under its engine's lock, so that another thread has to do it."""
        self._agenda.run_aside([lambda: self._cancel(task)])

    def _cancel(self, task: Task) -> None:
        error = task.op.cancelled
        assert error is not None
        with self._lock:
            effects: list[Effect] = []
            if task.working is not None:
                task.working.cancelled = error
            for ticket in task.waiting:
                effects += self._core.withdraw(ticket, error, monotonic())
            actions = self._plan(effects)
        self._agenda.run(actions)

    def ask(self, task: Task, events: Sequence[Callable[[Any], Any]]) -> None:
        """Put events to the core; the task goes on when all are answered."""
        tickets, waits = task.expect(len(events)), False
        for start in range(0, len(events), _FEW):
            part = slice(start, start + _FEW)
            with self._lock:
                actions = self._plan(self._put(task, tickets[part], events[part]))
                # Those to come are not answered, either, but it is they who will be looked at then.
                waits = waits or not task.waiting.isdisjoint(tickets[part])
            self._agenda.run(actions)
        if waits:
            task.worker.held(task.op)

    def _put(self, task: Task, tickets: Sequence[Any], events: Sequence[Callable[[Any], Any]]) -> list[Effect]:
        if (error := self._absence(task)) is not None:
            return [Fail(ticket, error) for ticket in tickets]
        effects: list[Effect] = []
        for ticket, event in zip(tickets, events, strict=True):
            effects += event(self._core)(ticket, monotonic())
        end = task.op.cancelled or self._over
        if end is not None:  # another thread has found nothing to withdraw
            for ticket in tickets:
                effects += self._core.withdraw(ticket, end, monotonic())
        return effects

    def _absence(self, task: Task) -> WorkerLost | None:
        """What is still under way of a worker who is lost must not count as a sign of life."""
        session, silence = task.worker.session, task.worker.silence()
        there = session in self._workers and silence < self.settings.worker_timeout
        if there or not self._core.is_lost(session) or (session in self._workers and self._waits_for_lost):
            return None
        return WorkerLost(
            f"{task.op.verb}: rank {task.worker.rank} was lost after {silence:.3g} s of silence, and this with it"
        )

    def perform(self, op: Operation, then: Callable[[Operation], list[Effect]], after: Action) -> None:
        """Have the storage carry `op` out when the turn of its keys has come.

        Args:
            then: called under the lock when it is done, to tell the core.
            after: called after that.
        """

        def follow(step: Step) -> list[Action]:
            actions = self._plan(then(op))
            return [*actions, self._moved(step.keys)] if op.writes and step.keys else actions

        self._turns.perform(op, follow, after)

    def ahead(self, session: bytes, keys: Sequence[Key]) -> list[tuple[Key, int]]:
        """The keys that a worker may not push to yet, with the versions that have to be there before."""
        with self._lock:
            versions = [(key, self._core.ahead(session, key)) for key in keys]
        return [(key, version) for key, version in versions if version]

    def told(self, op: Operation) -> list[Effect]:
        """What the core has to know of an operation of a handle that is done."""
        if isinstance(op, Delete):
            # One of several keys may be left, after an error.
            gone = [key for key in op.keys if not self.backend.version(key)]
            self._known.difference_update(gone)
            return [effect for key in gone for effect in self._core.deleted(key, monotonic())]
        keys = self.backend.storage.keys() if isinstance(op, Restore) else op.keys if isinstance(op, Init) else ()
        effects: list[Effect] = []
        for key in keys:
            version = self.backend.version(key)
            if version and (isinstance(op, Restore) or key not in self._known):
                self._known.add(key)
                effects += self._core.created(key, version, monotonic())
        return effects

    # -- effects ----------------------------------------------------------------------------------------------

    def _plan(self, effects: Sequence[Effect]) -> list[Action]:
        """What effects come to, in their order; they are carried out when the lock is free."""
        actions: list[Action] = []
        for effect in effects:
            if isinstance(effect, Fold):
                actions.append(self._fold(effect))
            elif isinstance(ticket := getattr(effect, "ticket", None), tuple):
                task, place = ticket
                if task.answered(place, effect):
                    actions.append(task.go_on)
        return actions

    def _fold(self, fold: Fold) -> Action:
        apply = Apply(fold.key, fold.contributions, is_round=self.settings.consistency == "sync")

        def then(op: Operation) -> list[Effect]:
            if op.error is None:
                return self._core.committed(fold.key, op.result, monotonic())
            error = op.error if isinstance(op.error, AkvError) else UpdaterFailed(op.error)
            return self._core.broken(fold.key, error, monotonic())

        return lambda: self.perform(apply, then, _nothing)

    # -- time -------------------------------------------------------------------------------------------------

    def _wind(self) -> None:
        """Under the lock: have the clock tick while there are handles."""
        if not self._winds:
            return
        if self._clock is None and self._workers:
            self._clock = threading.Timer(self.interval, self._tick)
            self._clock.name, self._clock.daemon = "akv-job", True
            self._clock.start()
        elif self._clock is not None and not self._workers:
            self._clock.cancel()
            self._clock = None

    def _tick(self) -> None:
        self.tick()
        with self._lock:
            self._clock = None
            self._wind()

    def tick(self) -> None:
        """Look who is there, and end what has waited for too long."""
        with self._lock:
            actions = self._plan(self._pass_time())
        self._agenda.run(actions)
        self._end_vain_waits()

    def _pass_time(self) -> list[Effect]:
        """A worker that nothing refers to any more is as lost as one that is not heard of."""
        effects: list[Effect] = []
        for session, worker in list(self._workers.items()):
            if (silence := worker.silence()) < self.settings.worker_timeout:
                effects += self._core.heard(session, monotonic(), silence)
        return effects + self._core.tick(monotonic())

    # -- versions ---------------------------------------------------------------------------------------------

    def _moved(self, keys: Sequence[Key]) -> Action:
        def tell() -> None:
            for worker in list(self._workers.values()):
                worker.moved(keys)

        return tell

    def _end_vain_waits(self) -> None:
        """Without the lost workers no version comes, under sync; who waits for one waits in its own engine."""
        lost = sorted(self._core.members.lost)
        if lost and self.settings.consistency == "sync":
            error = WorkerLost(f"a version will not come without ranks {lost!r:.200}, which are lost")
            for worker in list(self._workers.values()):
                if not worker.is_reader:
                    worker.moved((), error)


def _nothing() -> None:
    """There is nothing more to do."""
