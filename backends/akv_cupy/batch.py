"""Many small tensors in one launch: a launch takes some microseconds, whatever it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from akv_cupy.device import Array, Device
from akv_cupy.kernels import Kernel, table

__all__ = ["SMALL", "Batch", "Small", "tabulated"]

# Elements that one block of threads goes over in about the time that a launch takes.
SMALL = 1 << 16


class Small(NamedTuple):
    """A launch for one tensor, by itself or as a row of a table."""

    one: Kernel
    many: Kernel
    size: int
    arguments: tuple[object, ...]


class Batch:
    """Launches that may wait for others of their kind.

    They are done in groups, one after the other; within a group in no order at all. So what uses what another one
    changes, or changes what another one uses, goes into a later group.
    """

    def __init__(self) -> None:
        self._groups: list[tuple[Device, list[Small]]] = []
        self._places: dict[tuple[int, Kernel], list[int]] = {}  # of the groups of each kind
        self._changed: dict[int, int] = {}  # by memory, the last group that changes it
        self._used: dict[int, int] = {}  # by memory, the last group that uses it

    def add(self, device: Device, small: Small) -> None:
        """Have it wait."""
        changes, uses = _memories(small)
        after = max([self._used.get(each, -1) for each in changes] + [self._changed.get(each, -1) for each in uses])
        places = self._places.setdefault((device.index, small.many), [])
        place = next((each for each in places if each > after), len(self._groups))
        if place == len(self._groups):
            places.append(place)
            self._groups.append((device, []))
        self._groups[place][1].append(small)
        for each in changes:
            self._changed[each] = max(place, self._changed.get(each, -1))
        for each in uses:
            self._used[each] = max(place, self._used.get(each, -1))

    def take(self) -> Iterator[tuple[Device, Sequence[Small]]]:
        """All groups, in their order."""
        if self._groups:
            groups, self._groups = self._groups, []
            for each in (self._places, self._changed, self._used):
                each.clear()
            yield from groups


def _memories(small: Small) -> tuple[list[int], list[int]]:
    """What it changes, and all that it uses. All of it is kept alive while it waits, so that no number comes twice."""
    changes = [id(small.arguments[place].memory) for place in small.one.writes]  # type: ignore[attr-defined]
    return changes, [id(each.memory) for each in small.arguments if isinstance(each, Array)]


def tabulated(device: Device, group: Sequence[Small]) -> tuple[np.ndarray, list[tuple[Array, bool]]]:
    """The table for one launch of a group, and the arrays that it leads to, with whether they are changed."""
    writes = set(group[0].one.writes)
    rows, beside = [], []
    for small in group:
        row: list[float] = []
        for place, argument in enumerate(small.arguments):
            if isinstance(argument, Array):
                beside.append((argument, place in writes))
                row.append(device.address(argument))
            else:
                assert isinstance(argument, int | float)
                row.append(argument)
        rows.append((small.size, row))
    return table(group[0].one, rows), beside
