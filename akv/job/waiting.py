"""Who waits, for what, and since when; and the effects on their way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from akv.errors import AkvError, InvalidArgument, QueueFull, WorkerLost
from akv.job.effects import Answer, Effect, Fail, Ticket
from akv.values.keys import Key

if TYPE_CHECKING:
    from akv.job.sessions import Session

__all__ = ["Cause", "WaitList", "Waiter"]


class Cause:
    """Something that operations wait for.

    Attributes:
        key: the key, or a barrier's name.
        waiting: those who wait, in order of arrival.
    """

    __slots__ = ("key", "waiting")
    what: ClassVar[str]

    def __init__(self, key: Key) -> None:
        self.key = key
        self.waiting: dict[Waiter, None] = {}

    def missing(self) -> tuple[int, ...]:
        """The ranks that this is waiting for."""
        return ()

    def withdraw(self, waiter: Waiter) -> bool:
        """Undo what the waiter has done here; False when it is too late for that."""
        return True


class Waiter:
    """One call on its way. `version`: the one that a wait wants."""

    __slots__ = ("cause", "key", "session", "since", "ticket", "verb", "version")

    def __init__(self, verb: str, ticket: Ticket, session: Session, key: Key, since: float, version: int = 0) -> None:
        self.verb, self.ticket, self.session, self.key = verb, ticket, session, key
        self.since, self.version = since, version
        self.cause: Cause | None = None


class WaitList:
    """Keeps the waiting calls and the effects. Every ticket that came in is answered once.

    Attributes:
        now: the time of the event that is being dealt with, seconds on the driver's clock.
        effects: those of this event so far.
    """

    def __init__(self, most: int) -> None:
        self.now = 0.0
        self.effects: list[Effect] = []
        self.waiting: dict[Ticket, Waiter] = {}
        self._most = most

    def take(self) -> list[Effect]:
        """The effects since the last call."""
        effects, self.effects = self.effects, []
        return effects

    def wait(self, waiter: Waiter, cause: Cause) -> None:
        """Have `waiter` wait for `cause`, be it new or moving on from another.

        Raises:
            QueueFull: the bound on waiting calls is reached.
        """
        if waiter.cause is not None:
            del waiter.cause.waiting[waiter]
        else:
            self._enter(waiter)
        waiter.cause = cause
        cause.waiting[waiter] = None

    def _enter(self, waiter: Waiter) -> None:
        if waiter.ticket in self.waiting:
            raise InvalidArgument(f"{waiter.verb}: ticket {waiter.ticket!r} belongs to a call that still waits")
        if len(self.waiting) >= self._most:
            raise QueueFull(f"{waiter.verb}: {len(self.waiting)} calls wait in this job, the most that may")
        self.waiting[waiter.ticket] = waiter

    def leave(self, waiter: Waiter) -> None:
        """Stop waiting, without an answer."""
        if waiter.cause is not None:
            del waiter.cause.waiting[waiter]
            del self.waiting[waiter.ticket]
            waiter.cause = None

    def grant(self, waiter: Waiter, effect: Effect) -> None:
        """The wait is over, with this effect."""
        self.leave(waiter)
        self.effects.append(effect)

    def answer(self, waiter: Waiter, version: int) -> None:
        """The call has succeeded."""
        self.grant(waiter, Answer(waiter.ticket, version))

    def fail(self, waiter: Waiter, error: AkvError, ranks: tuple[int, ...] = (), waited: float | None = None) -> None:
        """The call has failed."""
        self.grant(waiter, Fail(waiter.ticket, error, ranks, waited))

    def lose(self, waiter: Waiter, cause: Cause, lost: tuple[int, ...]) -> None:
        """The call fails because of lost workers."""
        waited = self.now - waiter.since
        self.fail(waiter, lost_error(waiter.verb, cause, lost, waited), lost, waited)

    def validate(self) -> None:
        """Check the invariants, for tests."""
        assert not self.effects
        assert len(self.waiting) <= self._most
        for ticket, waiter in self.waiting.items():
            assert waiter.ticket == ticket
            assert waiter.cause is not None
            assert waiter in waiter.cause.waiting


def lost_error(verb: str, cause: Cause, lost: tuple[int, ...], waited: float) -> WorkerLost:
    """The error of a call that needs workers who are lost."""
    return WorkerLost(
        f"{verb}: {cause.what} {cause.key!r} needs ranks {list(lost)!r:.200}, which are lost; waited {waited:.3g} s. "
        "It goes on when workers take their places, or with on_worker_loss=drop without them"
    )
