"""Writing under gradient compression: values are restored from their packed form on their way into the sum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from akv.backend.compressed import Part, elements, restore
from akv.backend.screen import Screen
from akv.backend.storage import Where
from akv.optim.updaters import ASSIGN, Elementwise, FunctionUpdater
from akv.values.dtypes import accumulator
from akv.values.keys import Key
from akv_memory.cell import Cell
from akv_memory.special import FunctionWrite
from akv_memory.writes import Write, sums

__all__ = ["CompressedFunctionWrite", "CompressedWrite"]

# Elements per step, in whole granules. With 1 << 16 the calls of a step cost as much as its work when threads meet:
# 2bit into SGD with momentum, 64 MiB, takes 9.5 ms with 1 << 18, which is what both take alone.
_BLOCK = 1 << 18
# Elements that a thread restores straight to where they belong, without stopping for the interpreter: 64 MiB of 2bit
# take two threads 1.8 ms so, with slices of 1 << 18 elements 2.5, and with blocks of 1 << 16 7, which is more than one.
_STRAIGHT = 1 << 20


class CompressedWrite(Write):
    """The sum goes through an updater that works element by element, in place; all in one pass, cut at granules."""

    __slots__ = ("_before", "_kernel", "_size", "_state", "_to", "_uncut", "_unit", "_whole")

    def __init__(
        self, key: Key, cell: Cell, parts: Sequence[Part], updater: Elementwise, screen: Screen | None
    ) -> None:
        super().__init__(cell, parts, screen, self._apply)
        self._unit, self._size = parts[0].codec.granule, parts[0].size
        self._target = cell.target()
        self._to, self._before = self._target.reshape(-1), cell.array.reshape(-1)
        self._kernel = None if updater is ASSIGN else updater.bind(key, cell.count + 1)
        self._state = tuple(array.reshape(-1) for array in cell.state_for(updater))
        self._whole = self._uncut = not updater.sliceable
        if self._kernel is None and len(parts) == 1:
            self._uncut, self._unit = True, max(_STRAIGHT // self._unit, 1) * self._unit

    @property
    def length(self) -> int:
        return 1 if self._whole else max(1, -(-self._size // self._unit))

    def _look(self, where: Where) -> None:
        assert self._screen is not None
        start, stop = self._range(where)
        for part in self._parts:
            part.look(slice(start, stop), self._screen)

    def _apply(self, where: Where) -> None:
        start, stop = self._range(where)
        step = max(1, stop - start) if self._uncut else max(_BLOCK // self._unit, 1) * self._unit
        for low in range(start, stop, step):
            self._apply_block(slice(low, min(low + step, stop)))

    def _apply_block(self, block: slice) -> None:
        stored = self._to[block]
        if self._kernel is None:
            if stored.dtype == accumulator(stored.dtype):
                restore(self._parts, block, stored)
            else:
                stored[...] = restore(self._parts, block, sums.like(stored))
            return
        if self._to is not self._before:
            stored[...] = self._before[block]
        total = np.empty(stored.size, accumulator(stored.dtype)) if self._whole else sums.like(stored)
        self._kernel(stored, restore(self._parts, block, total), tuple(array[block] for array in self._state))

    def _range(self, where: Where) -> tuple[int, int]:
        return elements(where, self._unit, self._size)


class CompressedFunctionWrite(FunctionWrite):
    """A function that may raise: only then do residuals take effect when it has returned."""

    __slots__ = ("_packed",)

    def __init__(
        self, key: Key, cell: Cell, parts: Sequence[Part], updater: FunctionUpdater, screen: Screen | None
    ) -> None:
        super().__init__(key, cell, (), updater, screen)
        self._packed = parts

    def _look(self, where: Where) -> None:
        assert self._screen is not None
        for part in self._packed:
            part.look(slice(0, part.size), self._screen)

    def _call(self, where: Where) -> None:
        cell = self._cell
        total = np.empty(self._packed[0].size, accumulator(cell.dtype))
        restore(self._packed, slice(0, total.size), total, keep=False)
        self._parts = [total.reshape(cell.shape).astype(cell.dtype, copy=False)]
        super()._call(where)

    def commit(self) -> int:
        version = super().commit()
        for part in self._packed:
            part.keep_residual()
        return version
