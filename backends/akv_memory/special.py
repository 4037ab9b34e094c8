"""Writes that see the whole value: a function of the user's, and pushes of single rows."""

from __future__ import annotations

from collections.abc import Sequence

from akv.backend.pushed import for_function, update_rows
from akv.backend.screen import Screen
from akv.backend.storage import Where
from akv.optim.updaters import ASSIGN, Elementwise, FunctionUpdater
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv.values.rowsum import RowSum
from akv_memory.cell import Cell
from akv_memory.writes import Write

__all__ = ["FunctionWrite", "RowWrite"]


class FunctionWrite(Write):
    """A function changes a copy of the value, which is swapped in when it returns."""

    __slots__ = ("_key", "_updater")

    def __init__(
        self, key: Key, cell: Cell, parts: Sequence[Value], updater: FunctionUpdater, screen: Screen | None
    ) -> None:
        super().__init__(cell, parts, screen, self._call)
        self.tentative = len(self.passes)
        self._key, self._updater = key, updater

    def _call(self, where: Where) -> None:
        shadow = self._cell.array.copy()
        self._updater.call(self._key, for_function(self._parts), shadow)
        self._target = shadow


class RowWrite(Write):
    """Only some rows were pushed. An assign clears the others, as if the rows had come in a dense array of zeros."""

    __slots__ = ("_key", "_updater")

    def __init__(
        self, key: Key, cell: Cell, parts: Sequence[RowSparse], updater: Elementwise, screen: Screen | None
    ) -> None:
        super().__init__(cell, parts, screen, self._apply)
        self._key, self._updater = key, updater

    def _apply(self, where: Where) -> None:
        rows = RowSum(self._parts)
        self._target = target = self._cell.target()
        if self._updater is ASSIGN:
            target[...] = 0
            target[rows.indices] = rows.values(0, len(rows.indices))
            return
        if target is not self._cell.array:
            target[...] = self._cell.array
        kernel = self._updater.bind(self._key, self._cell.count + 1)
        update_rows(kernel, target, self._cell.state_for(self._updater), rows, whole=not self._updater.sliceable)
