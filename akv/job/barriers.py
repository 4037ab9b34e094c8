"""Barriers: named and cyclic. One opens with its first arrival, and ends when all who were live then have come."""

from __future__ import annotations

from typing import ClassVar

from akv.errors import InvalidArgument, QueueFull
from akv.job.members import Members
from akv.job.waiting import Cause, Waiter, WaitList
from akv.values.keys import Key

__all__ = ["Barriers"]


class _Cycle(Cause):
    """One time through a barrier. `arrived`: who waits, by rank; `required`: the ranks it cannot do without."""

    __slots__ = ("_barriers", "arrived", "required")
    what: ClassVar[str] = "barrier"

    def __init__(self, name: Key, required: frozenset[int], barriers: Barriers) -> None:
        super().__init__(name)
        self.required = set(required)
        self.arrived: dict[int, Waiter] = {}
        self._barriers = barriers

    def missing(self) -> tuple[int, ...]:
        return tuple(sorted(self.required - self.arrived.keys()))

    def withdraw(self, waiter: Waiter) -> bool:
        rank = next(rank for rank, each in self.arrived.items() if each is waiter)
        del self.arrived[rank]
        if not self.arrived:
            del self._barriers.open[self.key]
        return True


class Barriers:
    """The barriers of a job that somebody waits at, by name.

    Who joins while one is open may arrive, and passes with the others, but is not waited for.
    """

    def __init__(self, most: int, members: Members, waitlist: WaitList) -> None:
        self._most, self._members, self._waitlist = most, members, waitlist
        self.open: dict[Key, _Cycle] = {}

    def arrive(self, waiter: Waiter) -> None:
        """A worker is there.

        Raises:
            InvalidArgument: it waits there already. QueueFull: the bound on barriers is reached.
        """
        name, rank = waiter.key, waiter.session.rank
        assert rank is not None
        cycle = self.open.get(name) or self._open(name)
        if rank in cycle.arrived:
            raise InvalidArgument(f"barrier {name!r}: rank {rank} waits there already")
        self._waitlist.wait(waiter, cycle)
        cycle.arrived[rank] = waiter
        self.open[name] = cycle
        if lost := self._members.lost.intersection(cycle.missing()):
            self._fail(cycle, tuple(sorted(lost)))
        else:
            self._pass_if_complete(cycle)

    def _open(self, name: Key) -> _Cycle:
        if len(self.open) >= self._most:
            raise QueueFull(f"barrier {name!r}: workers wait at {len(self.open)} others, the most that may be")
        return _Cycle(name, self._members.counted, self)

    def gone(self, rank: int) -> None:
        """A worker is not counted any more."""
        for cycle in list(self.open.values()):
            cycle.required.discard(rank)
            self._pass_if_complete(cycle)

    def lost(self, rank: int) -> None:
        """A worker is lost, and whoever waits for it waits in vain."""
        for cycle in list(self.open.values()):
            if rank in cycle.missing():
                self._fail(cycle, (rank,))

    def _pass_if_complete(self, cycle: _Cycle) -> None:
        if not cycle.missing():
            del self.open[cycle.key]
            for waiter in list(cycle.waiting):
                self._waitlist.answer(waiter, 0)

    def _fail(self, cycle: _Cycle, ranks: tuple[int, ...]) -> None:
        del self.open[cycle.key]
        for waiter in list(cycle.waiting):
            self._waitlist.lose(waiter, cycle, ranks)

    def validate(self) -> None:
        """Check the invariants, for tests."""
        assert len(self.open) <= self._most
        for cycle in self.open.values():
            assert cycle.missing()
            assert not self._members.lost.intersection(cycle.missing())
            assert set(cycle.arrived.values()) == set(cycle.waiting)
