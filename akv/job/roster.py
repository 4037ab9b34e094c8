"""Who is in a job: sessions that come, go, fall silent and come back, and the seats they have."""

from __future__ import annotations

from typing import Protocol

from akv.errors import AkvError, InvalidArgument, SessionExpired
from akv.job.members import Members, Seat, State
from akv.job.sessions import Role, Session, Sessions
from akv.job.settings import Limits
from akv.job.waiting import WaitList

__all__ = ["Audience", "Roster"]


class Audience(Protocol):
    """Who has to know when the members of a job change."""

    def joined(self, rank: int, fresh: bool, late: bool) -> None:
        """A worker has come: a new one (`fresh`) or one that was lost; `late`: it was not counted until now."""
        ...

    def gone(self, rank: int) -> None:
        """A worker is not counted any more: it has left, or was lost and is dropped."""
        ...

    def lost(self, rank: int) -> None:
        """A worker is lost, and whoever waits for it waits in vain (on_worker_loss=abort)."""
        ...


class Roster:
    """The sessions and members of one job."""

    def __init__(self, policy: str, limits: Limits, members: Members, waitlist: WaitList, audience: Audience) -> None:
        self._policy = policy
        self._members, self._waitlist, self._audience = members, waitlist, audience
        self._sessions = Sessions(limits.sessions, _is_idle)

    # -- coming -----------------------------------------------------------------------------------------------

    def admit(self, identity: bytes, role: Role, rank: int | None) -> None:
        """Let a client in.

        Raises:
            SessionExpired, InvalidArgument, QueueFull: it is not in.
        """
        session = self._sessions.find(identity)
        if session is not None:
            self._return(session, role, rank)
        else:
            self._enter(identity, role, rank)

    def _enter(self, identity: bytes, role: Role, rank: int | None) -> None:
        if role == "reader" and rank is not None:
            raise InvalidArgument(f"a reader has no rank; leave rank={rank} out")
        session = self._sessions.open(identity, role)
        if role == "worker":
            try:
                self._sit(session, rank)
            except AkvError:
                self._sessions.forget(identity)
                raise

    def _return(self, session: Session, role: Role, rank: int | None) -> None:
        if role != session.role or (rank is not None and session.rank is not None and rank != session.rank):
            raise InvalidArgument(
                f"role={role}, rank={rank}: this session is a {session.role} of rank {session.rank} already"
            )
        if role == "worker" and session.seat is None:
            self._sit(session, rank)
        elif role == "worker":
            self._revive(seat_of(session))

    def _sit(self, session: Session, rank: int | None) -> None:
        before = self._members.counted
        session.seat = self._members.take(session.identity, rank, self._waitlist.now)
        self._audience.joined(session.seat.rank, True, session.seat.rank not in before)

    def _revive(self, seat: Seat, at: float | None = None) -> None:
        before, was_live = self._members.counted, seat.state is State.LIVE
        self._members.revive(seat, self._waitlist.now if at is None else at)
        if not was_live:
            self._audience.joined(seat.rank, False, seat.rank not in before)

    # -- being there ------------------------------------------------------------------------------------------

    def member(self, identity: bytes) -> Session:
        """The session that calls, which is a sign of life.

        Raises:
            SessionExpired: it is not known, has left, or was replaced.
        """
        session = self._sessions.heard(identity)
        if session.role == "worker":
            self._revive(seat_of(session))
        return session

    def worker(self, identity: bytes) -> Session:
        """The session that calls for what only workers may do.

        Raises:
            InvalidArgument: it is a reader. SessionExpired: see `member`.
        """
        session = self.member(identity)
        seat_of(session)
        return session

    def find(self, identity: bytes) -> Session | None:
        """The session, if it is known."""
        return self._sessions.find(identity)

    def heard(self, identity: bytes, at: float) -> None:
        """A sign of life, at this time."""
        session = self._sessions.find(identity)
        if session is not None and session.rank is not None:
            self._revive(seat_of(session), at)

    def is_lost(self, identity: bytes) -> bool:
        """Whether the session is that of a worker who is lost."""
        session = self._sessions.find(identity)
        return session is not None and session.rank is not None and seat_of(session).state is State.LOST

    # -- going ------------------------------------------------------------------------------------------------

    def leave(self, identity: bytes) -> None:
        """A client ends its session by intention."""
        session = self._sessions.find(identity)
        if session is not None and session.rank is not None:
            seat, session.seat = seat_of(session), None
            for rank in self._members.leave(seat, self._waitlist.now):
                self._audience.gone(rank)

    def lose(self, identity: bytes) -> None:
        """A worker is dead, though its lease is not over."""
        session = self._sessions.find(identity)
        if session is not None and session.rank is not None:
            self._lose(seat_of(session))

    def expire(self) -> None:
        """Lose those that were not heard of for too long."""
        for seat in self._members.expired(self._waitlist.now):
            self._lose(seat)

    def _lose(self, seat: Seat) -> None:
        if seat.state is State.LOST:
            return
        self._members.lose(seat)
        if self._policy == "drop":
            self._audience.gone(seat.rank)
        elif self._policy == "abort":
            self._audience.lost(seat.rank)

    def validate(self) -> None:
        """Check the invariants, for tests."""
        self._members.validate()
        self._sessions.validate()


def seat_of(session: Session) -> Seat:
    """The seat of a worker.

    Raises:
        InvalidArgument: it is a reader. SessionExpired: it has left, or was replaced.
    """
    if session.role == "reader":
        raise InvalidArgument("a handle with role=reader takes part in no round and no barrier, and changes nothing")
    if session.seat is None:
        raise SessionExpired("this worker has left its job; open a new handle")
    if session.seat.session is None:
        raise SessionExpired(f"rank {session.seat.rank} was lost, and the others have left since; open a new handle")
    if session.rank is None:
        raise SessionExpired(f"rank {session.seat.rank} was given to another worker after this one was lost")
    return session.seat


def _is_idle(session: Session) -> bool:
    return session.rank is None or session.seat is None or session.seat.state is not State.LIVE
