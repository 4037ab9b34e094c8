"""The queue of one key: first come first served, a write excludes, reads between two writes overlap."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

__all__ = ["Lane"]


class _Turn(Protocol):
    """What a lane reads of an operation."""

    writes: ClassVar[bool]


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

    def enter(self, op: Op) -> bool:
        """Take the turn, or a place in the queue; return whether it is the turn."""
        if self.waiting or not self.admits(op.writes):
            self.waiting[op] = None
            return False
        self._take(op)
        return True

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
            self._take(op)
            admitted.append(op)
        return admitted

    def _take(self, op: Op) -> None:
        if op.writes:
            self.writing = True
        else:
            self.readers += 1

    @property
    def idle(self) -> bool:
        """Whether nobody has the turn, or waits for it."""
        return not (self.writing or self.readers or self.waiting)
