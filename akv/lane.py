"""Whose turn it is on a key: first come first served, a write excludes, reads between two writes overlap."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

from akv.values.keys import Key

__all__ = ["Lane", "Lanes"]

_MOST_SPARE = 1024


class _Turn(Protocol):
    """What is read of an operation; and `blocked`, for how many of its keys it waits, which is kept here."""

    keys: Sequence[Key]
    writes: ClassVar[bool]
    blocked: int


Op = TypeVar("Op", bound=_Turn)


class Lane(Generic[Op]):
    """The queue of one key: who holds it now, and who waits, in order of arrival."""

    __slots__ = ("readers", "waiting", "writing")

    def __init__(self) -> None:
        self.readers = 0
        self.writing = False
        # A plain dict would do but for its front: finding the first of many removed entries takes linear time.
        self.waiting: OrderedDict[Op, None] = OrderedDict()

    def admits(self, writes: bool) -> bool:
        """Whether those who have the turn leave room for one more."""
        return not (self.writing or (writes and self.readers))

    def take(self, writes: bool) -> None:
        """Take the turn, which is free."""
        if writes:
            self.writing = True
        else:
            self.readers += 1

    def leave(self, op: Op) -> Sequence[Op]:
        """Give up the turn, or the place in the queue; return those whose turn has come by that."""
        waiting = self.waiting
        if waiting and op in waiting:
            del waiting[op]
        elif op.writes:
            self.writing = False
        else:
            self.readers -= 1
        return self._admit() if waiting else ()

    def _admit(self) -> list[Op]:
        admitted = []
        while self.waiting and self.admits((op := next(iter(self.waiting))).writes):
            del self.waiting[op]
            self.take(op.writes)
            admitted.append(op)
        return admitted


class Lanes(Generic[Op]):
    """The queues of all keys.

    Attributes:
        taken: the queues of the keys that somebody has the turn of; all other keys are free, and have none.
    """

    __slots__ = ("_spare", "taken")

    def __init__(self) -> None:
        self.taken: dict[Key, Lane[Op]] = {}
        self._spare: list[Lane[Op]] = []  # empty ones: to make one takes half as long as all the rest of a start

    def is_free(self, key: Key, writes: bool) -> bool:
        """Whether a write, or a read, would have the turn of `key` at once."""
        lane = self.taken.get(key)
        return lane is None or (not lane.waiting and lane.admits(writes))

    def enter(self, op: Op) -> None:
        """Take the turns of all its keys, or places in their queues; `op.blocked` counts the latter."""
        taken, blocked = self.taken, 0
        for key in op.keys:
            lane = taken.get(key)
            if lane is None:
                self.take_free(key, op.writes)
            elif lane.waiting or not lane.admits(op.writes):
                lane.waiting[op] = None
                blocked += 1
            else:
                lane.take(op.writes)
        op.blocked = blocked

    def leave(self, op: Op) -> list[Op]:
        """Give up its turns, and its places in queues; return those who have all their turns by that."""
        unblocked: list[Op] = []
        for key in op.keys:
            lane = self.taken[key]
            if not lane.waiting and lane.readers <= 1:
                self.free(key)
                continue
            for admitted in lane.leave(op):
                admitted.blocked -= 1
                if admitted.blocked == 0:
                    unblocked.append(admitted)
        return unblocked

    def take_free(self, key: Key, writes: bool) -> None:
        """Take the turn of a key that has no queue."""
        lane = self.taken[key] = self._spare.pop() if self._spare else Lane()
        if writes:
            lane.writing = True
        else:
            lane.readers = 1

    def free(self, key: Key) -> None:
        """Give up the turn of a key that only one has, and nobody waits for."""
        lane = self.taken.pop(key)
        lane.writing, lane.readers = False, 0
        if len(self._spare) < _MOST_SPARE:
            self._spare.append(lane)

    def validate(self) -> None:
        """Check the invariants, for tests."""
        for lane in self.taken.values():
            assert lane.writing is not bool(lane.readers)
            assert not lane.waiting or not lane.admits(next(iter(lane.waiting)).writes)
