"""Writing: what a push does to the memory of one value."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from akv.backend.screen import Screen
from akv.backend.storage import Pass, Transaction, Where
from akv.optim import sum_into
from akv.optim.updaters import Elementwise
from akv.values.dtypes import accumulator
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv_memory.cell import Cell

__all__ = ["AssignWrite", "Donation", "UpdateWrite", "Write", "sums"]

# Elements whose sum, weights and state stay in a core's cache together between the sum and the update.
_BLOCK = 1 << 16


class _Sums(threading.local):
    """Each thread's memory for the sum of a block, kept from call to call.

    Not the optimizers' scratch: a sum has to outlive the kernel that takes it.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def like(self, part: np.ndarray) -> np.ndarray:
        """An array of the part's shape, in the dtype that its values are summed in."""
        dtype = accumulator(part.dtype)
        nbytes = part.size * dtype.itemsize
        if len(self._memory) < nbytes:
            self._memory = np.empty(nbytes, np.uint8)
        return self._memory[:nbytes].view(dtype).reshape(part.shape)


sums = _Sums()


class Write(Transaction):
    """What all writes share: the cell, what was pushed, where the outcome goes, and the step to the next version."""

    __slots__ = ("_cell", "_parts", "_screen", "_target")

    def __init__(self, cell: Cell, parts: Sequence[Any], screen: Screen | None, work: Pass | None) -> None:
        self._cell, self._parts, self._screen = cell, parts, screen
        self._target = cell.array
        if screen is None:
            super().__init__(cell.nbytes, () if work is None else (work,))
        elif work is None:
            super().__init__(cell.nbytes, (self._look,), tentative=1)
        else:
            super().__init__(cell.nbytes, (self._look, screen.before(work)), tentative=1)

    def _look(self, where: Where) -> None:
        assert self._screen is not None
        for part in self._parts:
            self._screen.look(part.values if isinstance(part, RowSparse) else part[where])

    def commit(self) -> int:
        cell = self._cell
        if self._screen is None or not self._screen.drops():
            cell.replace(self._target)
            cell.count += 1
            cell.version += 1
        return cell.version


class Donation(Write):
    """A plain assign of an array that the caller has handed over: it becomes the value."""

    __slots__ = ()

    def __init__(self, cell: Cell, array: np.ndarray, screen: Screen | None) -> None:
        super().__init__(cell, [array], screen, None)
        self._target = array


class AssignWrite(Write):
    """The sum of some arrays takes the value's place, written into its memory: one pass."""

    __slots__ = ("_into",)

    def __init__(self, cell: Cell, parts: Sequence[np.ndarray], screen: Screen | None) -> None:
        super().__init__(cell, parts, screen, self._assign)
        self._target = self._into = cell.target()

    @property
    def length(self) -> int:
        if all(part.flags.c_contiguous for part in self._parts):
            self._flatten()
        return len(self._into)

    def _flatten(self) -> None:
        self._parts = [part.reshape(-1) for part in self._parts]
        self._into = self._into.reshape(-1)

    def _assign(self, where: Where) -> None:
        if len(self._parts) == 1:
            self._into[where] = self._parts[0][where]
        else:
            sum_into(self._into[where], [part[where] for part in self._parts])


class UpdateWrite(AssignWrite):
    """The sum of some arrays goes through an updater that works element by element, in place: one pass."""

    __slots__ = ("_before", "_fresh", "_kernel", "_state", "_whole")

    def __init__(
        self, key: Key, cell: Cell, parts: Sequence[np.ndarray], updater: Elementwise, screen: Screen | None
    ) -> None:
        super().__init__(cell, parts, screen)
        self._before = cell.array
        self._fresh = self._target is not cell.array
        self._kernel = updater.bind(key, cell.count + 1)
        self._state = cell.state_for(updater)
        self._whole = not updater.sliceable

    @property
    def length(self) -> int:
        return 1 if self._whole else super().length

    def _flatten(self) -> None:
        super()._flatten()
        self._before = self._before.reshape(-1)
        self._state = tuple(array.reshape(-1) for array in self._state)

    def _assign(self, where: Where) -> None:
        for block in self._blocks(where):
            stored = self._into[block]
            if self._fresh:
                stored[...] = self._before[block]
            self._kernel(stored, self._sum(block), tuple(array[block] for array in self._state))

    def _blocks(self, where: Where) -> Iterator[Where]:
        if isinstance(where, slice) and self._into.ndim == 1 and len(self._parts) > 1:
            return (slice(start, min(start + _BLOCK, where.stop)) for start in range(where.start, where.stop, _BLOCK))
        return iter((where,))

    def _sum(self, where: Where) -> np.ndarray:
        parts: list[np.ndarray] = [part[where] for part in self._parts]
        if len(parts) == 1:
            return parts[0]
        total = np.empty(parts[0].shape, accumulator(parts[0].dtype)) if self._whole else sums.like(parts[0])
        sum_into(total, parts)
        return total
