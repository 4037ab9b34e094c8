"""`async` and `ssp`: every push is applied by itself; under ssp no worker gets too far ahead of another."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from akv.errors import ProtocolError, WorkerLost
from akv.job.track import Round, Track
from akv.job.waiting import Waiter

__all__ = ["FreeTrack"]


class FreeTrack(Track):
    """A round is one push. A worker's clock is how many pushes of its own on this key were accepted.

    The n-th is accepted when every live worker has made n - 1 - staleness (Ho et al., "More Effective Distributed ML
    via a Stale Synchronous Parallel Parameter Server", NIPS 2013, with a clock per key).

    Attributes:
        held: pushes that are not accepted yet, in order of arrival.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.held: deque[Round] = deque()
        self.clocks: dict[int, int] = {}
        self._staleness = self._settings.staleness if self._settings.consistency == "ssp" else math.inf

    def push(self, waiter: Waiter, contribution: Any) -> bool:
        self.raise_untold(waiter)
        rank = waiter.session.rank
        assert rank is not None
        self._check_ahead(rank)
        round_ = Round(self)
        round_.contributions[rank] = contribution
        round_.members, round_.push = {rank}, waiter
        self._waitlist.wait(waiter, round_)
        self.held.append(round_)
        self._admit()
        return True

    def _check_ahead(self, rank: int) -> None:
        most = self._limits.ahead
        if len(self.rounds) + len(self.held) >= most:
            own = sum(rank in round_.contributions for queue in (self.rounds, self.held) for round_ in queue)
            if own >= most:
                raise ProtocolError(
                    f"push of key {self.key!r}: {own} pushes of rank {rank} are in progress, the most that may be"
                )

    def _last_of(self, rank: int) -> Round | None:
        held = next((round_ for round_ in reversed(self.held) if rank in round_.contributions), None)
        return held or super()._last_of(rank)

    # -- clocks -----------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Accept what may be accepted; one that is may free others. What never can be is refused."""
        while (round_ := self._next_admissible()) is not None:
            self.held.remove(round_)
            self.rounds.append(round_)
            if self._staleness != math.inf:
                rank = _rank(round_)
                self.clocks[rank] = self.clocks.get(rank, 0) + 1
        if self._members.lost:
            self._refuse()
        self.advance()

    def _next_admissible(self) -> Round | None:
        first_of: dict[int, Round] = {}
        for round_ in self.held:
            first_of.setdefault(_rank(round_), round_)
        return next((round_ for rank, round_ in first_of.items() if not self._behind(rank)), None)

    def _behind(self, rank: int) -> tuple[int, ...]:
        """The ranks that are too far behind for the next push of `rank`."""
        if self._staleness == math.inf:
            return ()
        least = self.clocks.get(rank, 0) - self._staleness
        return tuple(sorted(each for each in self._members.counted if self.clocks.get(each, 0) < least))

    def _refuse(self) -> None:
        for round_ in list(self.held):
            lost = self._members.lost.intersection(self._behind(_rank(round_)))
            if lost and round_.push is not None:
                ranks = tuple(sorted(lost))
                self.held.remove(round_)
                self._give_back(round_)
                for waiter in list(round_.waiting):
                    self._waitlist.lose(waiter, round_, ranks)

    def withdraw(self, round_: Round) -> bool:
        queue = self._queue_of(round_)
        if queue is None:
            return False
        queue.remove(round_)
        self._give_back(round_)
        for waiter in list(round_.waiting):
            if waiter is not round_.push:
                self.pull(waiter)  # for what this worker pushed before
        return True

    def _queue_of(self, round_: Round) -> deque[Round] | None:
        """Where a push can still be taken back from: under ssp others may rely on it once it is accepted."""
        if round_ in self.held:
            return self.held
        free = self._staleness == math.inf and round_ in self.rounds and not round_.folding
        return self.rounds if free else None

    # -- members ----------------------------------------------------------------------------------------------

    def joined(self, rank: int, fresh: bool, late: bool) -> None:
        super().joined(rank, fresh, late)
        # For one that was counted all along, the others have waited.
        if late and self._staleness != math.inf:
            others = self._members.counted - {rank}
            self.clocks[rank] = min((self.clocks.get(each, 0) for each in others), default=0)

    def gone(self, rank: int) -> None:
        own = [round_ for round_ in self.held if rank in round_.contributions]
        for round_ in own:
            self.held.remove(round_)
        self.discard(own, WorkerLost(f"push of key {self.key!r}: rank {rank} was gone before its clock allowed it"))
        self.clocks.pop(rank, None)
        self._admit()

    def lost(self, rank: int) -> None:
        super().lost(rank)
        self._refuse()

    def missing(self, round_: Round | None) -> tuple[int, ...]:
        return self._behind(_rank(round_)) if round_ is not None and round_ in self.held else ()

    def _members_of(self, head: Round) -> set[int]:
        return set(head.contributions)

    def _drain(self) -> list[Round]:
        drained = [*super()._drain(), *self.held]
        self.held.clear()
        self.clocks.clear()
        return drained

    @property
    def idle(self) -> bool:
        return super().idle and not self.held

    def validate(self) -> None:
        super().validate()
        assert all(len(round_.contributions) == 1 and round_.push is not None for round_ in (*self.rounds, *self.held))
        assert self._next_admissible() is None
        for queue in (self.rounds, self.held):
            assert all(round_.push in round_.waiting for round_ in queue)


def _rank(round_: Round) -> int:
    (rank,) = round_.contributions
    return rank
