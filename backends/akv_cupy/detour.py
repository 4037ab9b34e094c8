"""Writes whose arithmetic is done on the host: functions of the user's, codecs, dtypes and optimizers without kernels.

The value is copied there, and the outcome back into fresh memory, so that no error leaves half of it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from akv.backend.compressed import Part, restore
from akv.backend.pushed import dense, for_function, total, update_rows
from akv.backend.screen import Screen
from akv.optim import sum_into
from akv.optim.updaters import ASSIGN, Elementwise, FunctionUpdater, State
from akv.values.dtypes import accumulator
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv.values.rowsum import RowSum
from akv_cupy.cell import Cell
from akv_cupy.device import Array
from akv_cupy.inputs import bring, fetch
from akv_cupy.lane import Lane
from akv_cupy.rig import Rig
from akv_cupy.writes import Write

__all__ = ["CompressedWrite", "FunctionWrite", "HostWrite"]


class _Detour(Write):
    # In the second step: a function of the user's is not called for one key before those before it are done.
    __slots__ = ("_state",)

    _state: tuple[Elementwise, State] | None

    def __init__(self, rig: Rig, key: Key, cell: Cell, parts: Sequence[Value], screen: Screen | None) -> None:
        super().__init__(rig, key, cell, parts, screen)
        self.tentative = 2

    def change(self, lane: Lane) -> None:
        self._state = None
        value = self.calculate(lane, lane.fetch(self._cell.array), [fetch(lane, part) for part in self._parts])
        self._target = bring(lane, value, self._cell.home)

    @abstractmethod
    def calculate(self, lane: Lane, stored: np.ndarray, parts: Sequence[Value]) -> np.ndarray:
        """The new value; `stored` is a copy that may be changed."""

    def commit(self) -> int:
        if self._state is not None and not self._dropped:
            self._cell.keep_state(*self._state)
        return super().commit()

    def _update(self, lane: Lane, updater: Elementwise, stored: np.ndarray, parts: Sequence[Value]) -> None:
        cell = self._cell
        arrays = cast("Sequence[Array]", cell.state(updater) or ())
        state = tuple([lane.fetch(array) for array in arrays]) or updater.create_state(stored)
        kernel = updater.bind(self._key, cell.count + 1)
        if updater.by_rows and all(isinstance(part, RowSparse) for part in parts):
            rows = RowSum(cast("Sequence[RowSparse]", parts))
            update_rows(kernel, stored, state, rows, whole=not updater.sliceable)
        else:
            kernel(stored, total(dense(parts)), state)
        home = [bring(lane, array, cell.home) for array in state]
        self._state = updater, cast(State, tuple(home))


class HostWrite(_Detour):
    """An updater that works element by element."""

    __slots__ = ("_updater",)

    def __init__(
        self, rig: Rig, key: Key, cell: Cell, parts: Sequence[Value], updater: Elementwise, screen: Screen | None
    ) -> None:
        super().__init__(rig, key, cell, parts, screen)
        self._updater = updater

    def calculate(self, lane: Lane, stored: np.ndarray, parts: Sequence[Value]) -> np.ndarray:
        if self._updater is ASSIGN:
            sum_into(stored, dense(parts))
        else:
            self._update(lane, self._updater, stored, parts)
        return stored


class FunctionWrite(_Detour):
    """A function of the user's, which gets host arrays."""

    __slots__ = ("_function",)

    def __init__(
        self, rig: Rig, key: Key, cell: Cell, parts: Sequence[Value], function: FunctionUpdater, screen: Screen | None
    ) -> None:
        super().__init__(rig, key, cell, parts, screen)
        self._function = function

    def calculate(self, lane: Lane, stored: np.ndarray, parts: Sequence[Value]) -> np.ndarray:
        self._function.call(self._key, for_function(parts), stored)
        return stored


class CompressedWrite(_Detour):
    """Packed values, restored on the host; the residuals change with the commit."""

    __slots__ = ("_packed", "_updater")

    def __init__(
        self,
        rig: Rig,
        key: Key,
        cell: Cell,
        packed: Sequence[Part],
        updater: Elementwise | FunctionUpdater,
        screen: Screen | None,
    ) -> None:
        super().__init__(rig, key, cell, (), screen)
        self._packed, self._updater = packed, updater

    def prepare(self, lane: Lane) -> None:
        if self._screen is not None:
            for part in self._packed:
                part.look(slice(0, part.size), self._screen)
        super().prepare(lane)

    def calculate(self, lane: Lane, stored: np.ndarray, parts: Sequence[Value]) -> np.ndarray:
        sum_: np.ndarray[Any, Any] = np.empty(stored.size, accumulator(stored.dtype))
        pushed = restore(self._packed, slice(0, sum_.size), sum_, keep=False).reshape(stored.shape)
        if self._updater is ASSIGN:
            return pushed.astype(stored.dtype, copy=False)
        if isinstance(self._updater, FunctionUpdater):
            self._updater.call(self._key, for_function([pushed.astype(stored.dtype, copy=False)]), stored)
        else:
            self._update(lane, self._updater, stored, [pushed])
        return stored

    def commit(self) -> int:
        version = super().commit()
        if not self._dropped:
            for part in self._packed:
                part.keep_residual()
        return version
