"""The operations whose turn has come: the highest priority goes first, then the oldest."""

from __future__ import annotations

import heapq
from typing import TypeVar

__all__ = ["Ready"]

Op = TypeVar("Op")


class Ready(list[tuple[int, int, Op]]):
    """A heap, for heapq, of (-priority, arrival, operation), of which an operation can be withdrawn in O(1).

    Attributes:
        withdrawn: those that are still in the heap: until they come to its front, or are most of it.
    """

    __slots__ = ("withdrawn",)

    def __init__(self) -> None:
        super().__init__()
        self.withdrawn: set[Op] = set()

    def first(self) -> Op | None:
        """The next to go, if there is one."""
        if self.withdrawn:
            self._drop_withdrawn()
        return self[0][2] if self else None

    def _drop_withdrawn(self) -> None:
        withdrawn = self.withdrawn
        if len(withdrawn) > 16 and len(withdrawn) > len(self) // 2:
            self[:] = [entry for entry in self if entry[2] not in withdrawn]
            heapq.heapify(self)
            withdrawn.clear()
        while withdrawn and self[0][2] in withdrawn:
            withdrawn.remove(heapq.heappop(self)[2])

    def validate(self) -> None:
        """Check the invariants, for tests."""
        assert self.withdrawn <= {entry[2] for entry in self}
        assert all(self[(place - 1) // 2] < entry for place, entry in enumerate(self) if place)
