"""Clients, by their random 128-bit id: they outlive connections."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, TypeAlias

from akv.errors import QueueFull, SessionExpired
from akv.job.members import Seat

__all__ = ["Role", "Session", "Sessions"]

Role: TypeAlias = Literal["worker", "reader"]


class Session:
    """One client. `seat`: the place that a worker was given; it may have left, or be replaced, since."""

    __slots__ = ("identity", "role", "seat")

    def __init__(self, identity: bytes, role: Role) -> None:
        self.identity = identity
        self.role = role
        self.seat: Seat | None = None

    @property
    def rank(self) -> int | None:
        """A worker's rank; None for a reader, and for a worker that has left or was replaced."""
        return self.seat.rank if self.seat is not None and self.seat.session == self.identity else None


class Sessions:
    """The sessions of a job, the one unheard of for longest first."""

    def __init__(self, most: int, is_idle: Callable[[Session], bool]) -> None:
        self._most, self._is_idle = most, is_idle
        self._known: OrderedDict[bytes, Session] = OrderedDict()

    def find(self, identity: bytes) -> Session | None:
        """The session, which counts as heard of now."""
        session = self._known.get(identity)
        if session is not None:
            self._known.move_to_end(identity)
        return session

    def heard(self, identity: bytes) -> Session:
        """The session, which counts as heard of now.

        Raises:
            SessionExpired: it is not known (any more).
        """
        session = self.find(identity)
        if session is None:
            raise SessionExpired(
                f"session {identity.hex()} is not known (any more), so what it sent before cannot be told from new; "
                "open a new one, and pull before you push"
            )
        return session

    def open(self, identity: bytes, role: Role) -> Session:
        """Remember a new session, in the place of the idle one unheard of for longest if there is no other.

        Raises:
            QueueFull: all are in use.
        """
        if len(self._known) >= self._most:
            self._evict()
        session = self._known[identity] = Session(identity, role)
        return session

    def _evict(self) -> None:
        oldest = next((session for session in self._known.values() if self._is_idle(session)), None)
        if oldest is None:
            raise QueueFull(f"this job has {self._most} sessions in use, the most it may")
        del self._known[oldest.identity]

    def forget(self, identity: bytes) -> None:
        """Forget a session that was just opened."""
        del self._known[identity]

    def validate(self) -> None:
        """Check the invariants, for tests."""
        assert len(self._known) <= self._most
        for session in self._known.values():
            assert session.seat is None or session.role == "worker"
