"""One key of a job: what all consistencies share. What they differ in stands in `rounds` and `clocks`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

from akv.errors import AkvError, KeyNotFound
from akv.job.effects import Create, Discard, Fold, Read
from akv.job.members import Members
from akv.job.settings import Limits, Settings
from akv.job.waiting import Cause, Waiter, WaitList
from akv.values.keys import Key

__all__ = ["Round", "Track"]


class Round(Cause):
    """Contributions to one version of a key, staged by rank; whoever waits for that version waits here.

    Attributes:
        members: the ranks it cannot do without; None until it is the oldest of its key.
        folding: it is complete, and being applied.
        push: the push that is answered when it is applied, outside sync.
    """

    __slots__ = ("contributions", "folding", "members", "push", "track")
    what: ClassVar[str] = "the round of key"

    def __init__(self, track: Track) -> None:
        super().__init__(track.key)
        self.track = track
        self.contributions: dict[int, Any] = {}
        self.members: set[int] | None = None
        self.folding = False
        self.push: Waiter | None = None

    @property
    def complete(self) -> bool:
        """Whether every member's contribution is there."""
        return self.members is not None and self.members <= self.contributions.keys()

    def missing(self) -> tuple[int, ...]:
        return self.track.missing(self)

    def withdraw(self, waiter: Waiter) -> bool:
        return waiter is not self.push or self.track.withdraw(self)


class _Versions(Cause):
    """The calls that wait until the key has a version."""

    __slots__ = ("_track",)
    what: ClassVar[str] = "a version of key"

    def __init__(self, track: Track) -> None:
        super().__init__(track.key)
        self._track = track

    def missing(self) -> tuple[int, ...]:
        return self._track.missing(None)


class _Birth(Cause):
    """The inits that wait for that of the first rank."""

    __slots__ = ("_members",)
    what: ClassVar[str] = "the first worker's init of key"

    def __init__(self, key: Key, members: Members) -> None:
        super().__init__(key)
        self._members = members

    def missing(self) -> tuple[int, ...]:
        first = self._members.first
        return () if first is None else (first,)


class Track(ABC):
    """One key, from before its init on.

    Attributes:
        version: the current one; 0: the key does not exist.
        rounds: those that are not applied yet, the oldest first.
        untold: errors of pushes that had been answered already, by rank, until that worker calls again.
    """

    def __init__(self, key: Key, settings: Settings, limits: Limits, members: Members, waitlist: WaitList) -> None:
        self.key = key
        self.version = 0
        self.rounds: deque[Round] = deque()
        self.untold: dict[int, AkvError] = {}
        self.versions = _Versions(self)
        self.birth = _Birth(key, members)
        self._settings, self._limits, self._members, self._waitlist = settings, limits, members, waitlist

    # -- what workers ask -------------------------------------------------------------------------------------

    def init(self, waiter: Waiter) -> None:
        """Init of a worker."""
        first = self._members.first
        if self.version or waiter.session.rank == first:
            self._waitlist.grant(waiter, Create(waiter.ticket, self.key))
            return
        self._waitlist.wait(waiter, self.birth)
        if first in self._members.lost:
            self._waitlist.lose(waiter, self.birth, (first,))

    @abstractmethod
    def push(self, waiter: Waiter, contribution: Any) -> bool:
        """Push of a worker; the key exists. Return whether the contribution was taken."""

    def ahead(self, rank: int) -> int:
        """The version that has to be there before this rank may push again; 0: it may now."""
        return 0

    def pull(self, waiter: Waiter) -> None:
        """Pull, after all that this session has pushed so far."""
        self.raise_untold(waiter)
        rank = waiter.session.rank
        own = None if rank is None else self._last_of(rank)
        if own is not None:
            self._waitlist.wait(waiter, own)
        else:
            self._read(waiter)

    def _read(self, waiter: Waiter) -> None:
        self._waitlist.grant(waiter, Read(waiter.ticket, self.key))

    def wait(self, waiter: Waiter) -> None:
        """Wait for a version."""
        if self.version < waiter.version:
            self._waitlist.wait(waiter, self.versions)
        else:
            self._waitlist.answer(waiter, self.version)

    def raise_untold(self, waiter: Waiter) -> None:
        """Raise what became of an earlier push of this session, if it went wrong after its answer."""
        rank = waiter.session.rank
        if self.untold and rank is not None and (error := self.untold.pop(rank, None)) is not None:
            raise error

    def _last_of(self, rank: int) -> Round | None:
        """The last round that this rank has pushed to and that is not applied."""
        return next((round_ for round_ in reversed(self.rounds) if rank in round_.contributions), None)

    # -- what the storage reports -----------------------------------------------------------------------------

    def created(self, version: int) -> None:
        """The key exists now."""
        self.version = version
        for waiter in list(self.birth.waiting):
            self._waitlist.grant(waiter, Create(waiter.ticket, self.key))
        self._reached()

    def committed(self, version: int) -> None:
        """The oldest round has been applied."""
        done = self._pop()
        self.version = version
        if done.push is not None:
            self._waitlist.answer(done.push, version)
        for waiter in list(done.waiting):
            self._read(waiter)
        self._reached()
        self.advance()

    def broken(self, error: AkvError) -> None:
        """The oldest round could not be applied; its version is left to the next."""
        self._throw_away([self._pop()], error)
        self.advance()

    def deleted(self) -> None:
        """The key is gone, and what was pushed to it and not applied with it."""
        self.version = 0
        self.discard(self._drain(), KeyNotFound(f"key {self.key!r} was deleted before this push was applied"))

    def _drain(self) -> list[Round]:
        """Take out all rounds but the one that is being applied: that has an end of its own."""
        drained = [round_ for round_ in self.rounds if not round_.folding]
        self.rounds = deque(round_ for round_ in self.rounds if round_.folding)
        return drained

    def _pop(self) -> Round:
        assert self.rounds[0].folding
        return self.rounds.popleft()

    def _reached(self) -> None:
        for waiter in list(self.versions.waiting):
            if waiter.version <= self.version:
                self.wait(waiter)

    # -- members ----------------------------------------------------------------------------------------------

    def joined(self, rank: int, fresh: bool, late: bool) -> None:
        """A worker has come; see `Audience`. Rounds count it from the next one on."""
        if fresh:
            self.untold.pop(rank, None)

    @abstractmethod
    def gone(self, rank: int) -> None:
        """A worker is not counted any more: it has left, or was lost and is dropped."""

    def lost(self, rank: int) -> None:
        """A worker is lost, and whoever waits for it waits in vain."""
        if rank == self._members.first:
            for waiter in list(self.birth.waiting):
                self._waitlist.lose(waiter, self.birth, (rank,))

    @abstractmethod
    def missing(self, round_: Round | None) -> tuple[int, ...]:
        """The ranks that this round, or else the next version, is waiting for."""

    def withdraw(self, round_: Round) -> bool:
        """Take the push of this round back, if it is not accepted yet."""
        return False

    def reborn(self) -> None:
        """Another rank may be the first now."""
        for waiter in list(self.birth.waiting):
            if waiter.session.rank == self._members.first:
                self._waitlist.grant(waiter, Create(waiter.ticket, self.key))

    # -- rounds -----------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Have the oldest round applied if it is complete."""
        if not self.rounds or (head := self.rounds[0]).folding:
            return
        if head.members is None:
            head.members = self._members_of(head)
        if head.complete:
            head.folding = True
            contributions = tuple([head.contributions[rank] for rank in sorted(head.contributions)])
            self._waitlist.effects.append(Fold(self.key, contributions))

    @abstractmethod
    def _members_of(self, head: Round) -> set[int]:
        """The ranks that a round counts, now that it is the oldest."""

    def _give_back(self, round_: Round) -> None:
        self._waitlist.effects += [Discard(self.key, contribution) for contribution in round_.contributions.values()]

    def discard(self, rounds: Sequence[Round], error: AkvError, ranks: tuple[int, ...] = ()) -> None:
        """Give back what was staged; those who gave it are told. `ranks`: those to blame."""
        for round_ in rounds:
            self._give_back(round_)
        self._throw_away(rounds, error, ranks)

    def _throw_away(self, rounds: Sequence[Round], error: AkvError, ranks: tuple[int, ...] = ()) -> None:
        # Whoever waits is told now; whoever does not, and was told that the push is accepted, at the next call.
        waiting = [waiter for round_ in rounds for waiter in round_.waiting]
        told = {waiter.session.rank for waiter in waiting}
        self.untold.update({rank: error for round_ in rounds for rank in round_.contributions.keys() - told})
        for waiter in waiting:
            self._waitlist.fail(waiter, error, ranks, self._waitlist.now - waiter.since)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with this object."""
        if self.version:
            return False
        return not (self.rounds or self.untold or self.versions.waiting or self.birth.waiting)

    def validate(self) -> None:
        """Check the invariants, for tests."""
        for place, round_ in enumerate(self.rounds):
            assert round_.contributions
            assert place == 0 or not round_.folding
            assert place > 0 or round_.members is not None
            assert place > 0 or round_.folding == round_.complete
        assert all(waiter.version > self.version for waiter in self.versions.waiting)
        assert not (self.version and self.birth.waiting)
        assert self._members.first is None or all(
            waiter.session.rank != self._members.first for waiter in self.birth.waiting
        )
