"""`sync`: a round ends when every live worker's contribution is there whole. It counts workers, not requests."""

from __future__ import annotations

from typing import Any

from akv.errors import ProtocolError
from akv.job.track import Round, Track
from akv.job.waiting import Waiter, lost_error

__all__ = ["SyncTrack"]


class SyncTrack(Track):
    """At most two rounds of a key are there: the oldest, and the next one for workers who run ahead."""

    def push(self, waiter: Waiter, contribution: Any) -> bool:
        self.raise_untold(waiter)
        if lost := tuple(sorted(self._members.lost)):
            self._waitlist.lose(waiter, Round(self), lost)
            return False
        rank = waiter.session.rank
        assert rank is not None
        place, round_ = self._slot(rank)
        round_.contributions[rank] = contribution
        self._waitlist.answer(waiter, self.version + 1 + place)
        self.advance()
        return True

    def ahead(self, rank: int) -> int:
        full = len(self.rounds) == 2 and not any(self._takes(round_, rank) for round_ in self.rounds)
        return self.version + 1 if full else 0

    def _slot(self, rank: int) -> tuple[int, Round]:
        """The round that the next push of a rank belongs to, and its place in the queue."""
        for place, round_ in enumerate(self.rounds):
            if self._takes(round_, rank):
                return place, round_
        if len(self.rounds) == 2:
            raise ProtocolError(
                f"push of key {self.key!r}: rank {rank} has pushed to the next round already; "
                f"push again when version {self.version + 1} is there"
            )
        self.rounds.append(round_ := Round(self))
        if len(self.rounds) == 1:
            round_.members = self._members_of(round_)
        return len(self.rounds) - 1, round_

    def _takes(self, round_: Round, rank: int) -> bool:
        counted = round_.members is None or rank in round_.members
        return counted and not round_.folding and rank not in round_.contributions

    def wait(self, waiter: Waiter) -> None:
        super().wait(waiter)
        lost = self._members.lost
        if lost and waiter.cause is self.versions and waiter.session.rank is not None and not self._will_reach(waiter):
            self._waitlist.lose(waiter, self.versions, tuple(sorted(lost)))

    def _will_reach(self, waiter: Waiter) -> bool:
        folding = bool(self.rounds) and self.rounds[0].folding
        return waiter.version <= self.version + folding

    # -- members ----------------------------------------------------------------------------------------------

    def gone(self, rank: int) -> None:
        if self.rounds and (members := self.rounds[0].members) is not None:
            if not self.rounds[0].folding:
                members.discard(rank)
            self.advance()

    def lost(self, rank: int) -> None:
        super().lost(rank)
        needy: list[Round] = []
        while self.rounds and self._needs(self.rounds[-1], rank):
            needy.append(self.rounds.pop())
        since = min((waiter.since for round_ in needy for waiter in round_.waiting), default=self._waitlist.now)
        self.discard(needy, lost_error("push and pull", Round(self), (rank,), self._waitlist.now - since), (rank,))
        for waiter in list(self.versions.waiting):
            if waiter.session.rank is not None and not self._will_reach(waiter):
                self._waitlist.lose(waiter, self.versions, (rank,))

    def _needs(self, round_: Round, rank: int) -> bool:
        if round_.folding or (round_.members is not None and rank not in round_.members):
            return False
        # The next round cannot come before the oldest.
        return rank not in round_.contributions or (round_ is not self.rounds[0] and self._needs(self.rounds[0], rank))

    def missing(self, round_: Round | None) -> tuple[int, ...]:
        head = self.rounds[0] if self.rounds else None
        missing = set() if head is None or head.members is None else head.members - head.contributions.keys()
        if round_ is not None and round_ is not head:
            missing |= self._members.counted - round_.contributions.keys()
        return tuple(sorted(missing))

    def _members_of(self, head: Round) -> set[int]:
        return set(self._members.counted)

    def validate(self) -> None:
        super().validate()
        assert len(self.rounds) <= 2
        assert not (self._members.lost and any(not round_.folding and self._hopeless(round_) for round_ in self.rounds))

    def _hopeless(self, round_: Round) -> bool:
        return any(self._needs(round_, rank) for rank in self._members.lost)
