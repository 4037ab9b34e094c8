"""The workers of a job: who has which rank, and who is lost. A seat outlives the connections of its worker."""

from __future__ import annotations

from enum import Enum

from akv.errors import InvalidArgument
from akv.job.settings import Settings

__all__ = ["Members", "Seat", "State"]

# A worker that has yet to start imports its libraries first; one that runs only has to answer.
_PATIENCE = 10


class State(Enum):
    """VACANT: expected, nobody has come yet. LIVE: its worker is heard of. LOST: it is not any more."""

    VACANT = "vacant"
    LIVE = "live"
    LOST = "lost"


class Seat:
    """One rank. `session`: whose it is. `heard`: when that gave its last sign of life."""

    __slots__ = ("heard", "rank", "session", "state")

    def __init__(self, rank: int, now: float) -> None:
        self.rank = rank
        self.heard = now
        self.state = State.VACANT
        self.session: bytes | None = None


class Members:
    """The seats of a job, by rank. One that its worker has left is gone.

    Attributes:
        counted: the ranks that a new round, barrier or clock waits for.
        lost: the ranks among them whose worker is lost, so that waiting is in vain (on_worker_loss=abort).
    """

    def __init__(self, settings: Settings, now: float) -> None:
        self._settings = settings
        self.seats: dict[int, Seat] = {}
        self._vacate(now)

    def _vacate(self, now: float) -> None:
        for seat in self.seats.values():
            seat.session = None
        self.seats = {rank: Seat(rank, now) for rank in range(self._settings.workers or 0)}
        self._count()

    def _count(self) -> None:
        seats, policy = self.seats.values(), self._settings.on_worker_loss
        self.counted = frozenset(seat.rank for seat in seats if seat.state is not State.LOST or policy != "drop")
        self.lost = frozenset(seat.rank for seat in seats if seat.state is State.LOST and policy == "abort")

    @property
    def first(self) -> int | None:
        """The rank whose init counts."""
        return min(self.counted, default=None)

    @property
    def number(self) -> int:
        """How many workers the job has."""
        return self._settings.workers or len(self.counted)

    def take(self, session: bytes, rank: int | None, now: float) -> Seat:
        """Give a session a seat: that of `rank`, or the first that is free.

        Raises:
            InvalidArgument: the rank is taken, or there is none.
        """
        if not any(seat.state is State.LIVE for seat in self.seats.values()):
            self._renew(now)
        rank = self._free() if rank is None else rank
        self._check(rank)
        seat = self.seats.setdefault(rank, Seat(rank, now))
        seat.session = session
        self.revive(seat, now)
        return seat

    def _renew(self, now: float) -> None:
        """The first worker has come, or the first after all were lost: from now on the others are expected."""
        for seat in self.seats.values():
            if seat.session is None or self._settings.on_worker_loss == "abort":
                seat.state, seat.heard = State.VACANT, now

    def _free(self) -> int:
        for state in (State.VACANT, State.LOST):
            ranks = [seat.rank for seat in self.seats.values() if seat.state is state]
            if ranks:
                return min(ranks)
        rank = next(rank for rank in range(len(self.seats) + 1) if rank not in self.seats)
        if rank == self._settings.workers:
            raise InvalidArgument(f"all ranks of this job are taken (workers={rank})")
        return rank

    def _check(self, rank: int) -> None:
        workers = self._settings.workers
        if rank < 0:
            raise InvalidArgument(f"rank {rank}: ranks are counted from 0")
        if workers is not None and rank >= workers:
            raise InvalidArgument(f"rank {rank}: this job has {workers} workers, with the ranks 0 to {workers - 1}")
        if rank in self.seats and self.seats[rank].state is State.LIVE:
            raise InvalidArgument(f"rank {rank} is taken by a live worker; leave rank out to get a free one")

    def revive(self, seat: Seat, at: float) -> None:
        """The worker of this seat has been heard of at this time."""
        seat.heard = max(seat.heard, at)
        if seat.state is not State.LIVE:
            seat.state = State.LIVE
            self._count()

    def leave(self, seat: Seat, now: float) -> list[int]:
        """The worker has left; when it was the last, the job waits for a new set. Return the ranks that are gone."""
        del self.seats[seat.rank]
        seat.session = None
        if any(each.state is State.LIVE for each in self.seats.values()):
            self._count()
            return [seat.rank]
        gone = [seat.rank, *self.seats]
        self._vacate(now)
        return gone

    def lose(self, seat: Seat) -> None:
        """The worker is lost."""
        seat.state = State.LOST
        self._count()

    def expired(self, now: float) -> list[Seat]:
        """The seats whose worker has not been heard of for too long."""
        if not any(seat.session for seat in self.seats.values()):
            return []
        return [seat for seat in self.seats.values() if seat.state is not State.LOST and now >= self._expiry(seat)]

    def _expiry(self, seat: Seat) -> float:
        patience = 1 if seat.state is State.LIVE else _PATIENCE
        return seat.heard + self._settings.worker_timeout * patience

    def validate(self) -> None:
        """Check the invariants, for tests."""
        sessions = [seat.session for seat in self.seats.values() if seat.session]
        assert len(sessions) == len(set(sessions))
        assert all(rank == seat.rank for rank, seat in self.seats.items())
        assert all(seat.session for seat in self.seats.values() if seat.state is State.LIVE)
        workers = self._settings.workers
        assert workers is None or all(0 <= rank < workers for rank in self.seats)
        assert self.lost <= self.counted <= self.seats.keys()
