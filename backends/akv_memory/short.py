"""The short way, for small arrays that are only copied, or go through an updater: one third of the time."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from akv.backend.screen import are_finite
from akv.compression import Scheme
from akv.optim.updaters import ASSIGN, Elementwise, Updater
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv.values.singles import Singles
from akv_memory.cell import Cell
from akv_memory.table import TableCell
from akv_memory.tables import TablesInMemory

__all__ = ["ShortWays"]

_form = operator.attrgetter("dtype", "shape", "loan")
_version = operator.attrgetter("version")


class ShortWays(TablesInMemory):
    """What MemoryStorage does without transactions, where that comes to the same."""

    _on_nonfinite: str

    def __init__(self) -> None:
        super().__init__()
        self._entries = self._catalog.entries

    def write_one(self, key: Key, values: Sequence[Value], donate: bool) -> int:
        cell = self._fitting(key, values)
        if self._looks and cell is not None and not are_finite((values[0],)):
            cell = None
        if cell is not None and self._only_updates:
            return self._update_one(key, cell, values, donate)
        if cell is None or donate or not self._only_copies:
            return super().write_one(key, values, donate)
        cell.array[...] = values[0]
        cell.version += 1
        return cell.version

    def _update_one(self, key: Key, cell: Cell | TableCell, values: Sequence[Value], donate: bool) -> int:
        updater = cast(Elementwise, self._updater)
        state = cell.state(updater)
        if state is None or cell.state_is_lent:  # the first push makes it, after checks that hold from then on
            return super().write_one(key, values, donate)
        kernel = updater.bind(key, cell.count + 1)
        try:
            kernel(cell.array, cast(np.ndarray, values[0]), state)
        finally:  # also after Ctrl-C, which comes when the value has changed, or some of it
            cell.count += 1
            cell.version += 1
        return cell.version

    def write(self, keys: Sequence[Key], groups: Sequence[Sequence[Value]], donate: bool) -> list[int]:
        cells = None if donate or not self._only_copies else self._all_fitting(keys, groups)
        if cells is None or (self._looks and not _all_finite(groups)):
            return super().write(keys, groups, donate)
        for cell, (value,) in zip(cells, groups, strict=True):
            cell.array[...] = value
            cell.version += 1
        return list(map(_version, cells))

    def read_one(self, key: Key, outs: Sequence[Value] | None) -> Any:
        if outs is None:
            return self._catalog.find("pull", key).array.copy()
        cell = self._fitting(key, outs)
        if cell is None:
            return super().read_one(key, outs)
        outs[0][...] = cell.array  # type: ignore[index]
        return None

    def read(self, keys: Sequence[Key], outs: Sequence[Sequence[Value]] | None) -> list[Any]:
        if outs is None:
            return [cell.array.copy() for cell in self._catalog.find_all("pull", keys)]
        cells = self._all_fitting(keys, outs)
        if cells is None:
            return super().read(keys, outs)
        for cell, (out,) in zip(cells, cast("Sequence[tuple[np.ndarray]]", outs), strict=True):
            out[...] = cell.array
        return []

    def _all_fitting(self, keys: Sequence[Key], groups: Sequence[Sequence[Value]]) -> list[Cell] | None:
        """The cells of keys with one array each, all as `_fitting` wants them; None: some are not."""
        block = groups.block if isinstance(groups, Singles) else None
        if block is None:
            found = list(map(self._fitting, keys, groups))
            return None if None in found else cast("list[Cell]", found)
        cells = list(map(self._entries.get, keys))
        if None in cells or list(map(_form, cells)).count((block.dtype, block.shape[1:], None)) < len(cells):
            return None
        return cast("list[Cell]", cells)

    def _fitting(self, key: Key, values: Sequence[Value]) -> Cell | TableCell | None:
        """The cell of a key with one array of the very shape and dtype; None also while a snapshot may be out on it."""
        cell, array = self._entries.get(key), values[0]
        if (
            cell is None
            or array.dtype is not cell.dtype
            or array.shape != cell.shape
            or len(values) > 1
            or cell.loan is not None
            or type(array) is RowSparse
        ):
            return None
        return cell

    def set_updater(self, updater: Updater) -> None:
        super().set_updater(updater)
        self._choose_way()

    def set_compression(self, scheme: Scheme, senders_pack: bool) -> None:
        super().set_compression(scheme, senders_pack)
        self._choose_way()

    def _choose_way(self) -> None:
        plain, assigns = self._on_nonfinite != "skip" and self.compressor is None, self._updater is ASSIGN
        self._looks, self._only_copies = self._on_nonfinite == "reject", plain and assigns
        self.keeps_donations = self._only_copies and not self._looks
        self._only_updates = plain and not assigns and isinstance(self._updater, Elementwise)


def _all_finite(groups: Sequence[Sequence[Value]]) -> bool:
    if isinstance(groups, Singles):
        return are_finite(groups.values if groups.block is None else [groups.block])
    return are_finite([values[0] for values in groups])
