"""Values as numpy arrays in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from akv.backend.catalog_storage import Join
from akv.backend.compressed import Part
from akv.backend.pushed import dense
from akv.backend.reads import FreshRead, ReadInto, RowRead, read_rows
from akv.backend.saved import Record
from akv.backend.screen import Screen, are_finite
from akv.backend.storage import RowStorage, SnapshotStorage, Transaction
from akv.compression import Coded, Scheme
from akv.optim.updaters import ASSIGN, Elementwise, Updater
from akv.values.buffers import can_be_kept
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv_memory.cell import Cell
from akv_memory.compressed import CompressedFunctionWrite, CompressedWrite
from akv_memory.inits import Create
from akv_memory.special import FunctionWrite, RowWrite
from akv_memory.table import TableCell
from akv_memory.table_reads import TableRowRead
from akv_memory.tables import TablesInMemory
from akv_memory.writes import AssignWrite, Donation, UpdateWrite

__all__ = ["MemoryStorage"]


class MemoryStorage(TablesInMemory, RowStorage, SnapshotStorage):
    """One C-contiguous array per key, changed in place while no snapshot of it is out; and tables."""

    captures_last = True

    def __init__(self, on_nonfinite: str = "allow") -> None:
        self._on_nonfinite = on_nonfinite
        super().__init__()
        self._entries = self._catalog.entries

    # -- transactions -----------------------------------------------------------------------------------------

    def begin_init(self, key: Key, value: Value, owner: int) -> Transaction:
        cell = self._catalog.claim(key, value, owner)
        return Create(self._catalog, key, value, owner) if cell is None else Join(cell, owner)

    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        cell = self._catalog.find("push", key)
        for value in values:
            cell.check("push", key, value)
        screen = self._screen(key)
        if isinstance(cell, TableCell):
            return self._write_table(cell, values, screen)
        if self.compressor is not None:
            return self._begin_compressed(key, cell, self.compressor.pack(key, values), screen)
        rows = [value for value in values if isinstance(value, RowSparse)]
        if not rows:
            return self._begin_dense(key, cell, cast("Sequence[np.ndarray]", values), donate, screen)
        if len(rows) == len(values) and self._updater.by_rows:
            return self._begin_rows_write(key, cell, rows, screen)
        return self._begin_dense(key, cell, dense(values), False, screen)

    def _begin_dense(
        self, key: Key, cell: Cell, arrays: Sequence[np.ndarray], donate: bool, screen: Screen | None
    ) -> Transaction:
        updater = self._updater
        if updater is ASSIGN:
            if donate and len(arrays) == 1 and can_be_kept(arrays[0]):
                return Donation(cell, arrays[0], screen)
            return AssignWrite(cell, arrays, screen)
        if isinstance(updater, Elementwise):
            updater.check(key, cell.dtype)
            return UpdateWrite(key, cell, arrays, updater, screen)
        return FunctionWrite(key, cell, arrays, updater, screen)

    def _begin_rows_write(self, key: Key, cell: Cell, rows: Sequence[RowSparse], screen: Screen | None) -> Transaction:
        updater = self._updater
        if isinstance(updater, Elementwise):
            updater.check(key, cell.dtype)
            return RowWrite(key, cell, rows, updater, screen)
        return FunctionWrite(key, cell, rows, updater, screen)

    def begin_coded(self, key: Key, values: Sequence[Coded]) -> Transaction:
        cell = self._catalog.find("push", key)
        for value in values:
            cell.check("push", key, value)
        if isinstance(cell, TableCell):
            return self._write_table(cell, (), None)
        return self._begin_compressed(key, cell, self.agreed.accept(key, values), self._screen(key))

    def _begin_compressed(self, key: Key, cell: Cell, parts: Sequence[Part], screen: Screen | None) -> Transaction:
        updater = self._updater
        if isinstance(updater, Elementwise):
            updater.check(key, cell.dtype)
            return CompressedWrite(key, cell, parts, updater, screen)
        return CompressedFunctionWrite(key, cell, parts, updater, screen)

    def _screen(self, key: Key) -> Screen | None:
        return None if self._on_nonfinite == "allow" else Screen(key, self._on_nonfinite == "skip")

    def begin_read(self, key: Key, outs: Sequence[Value] | None) -> Transaction:
        cell = self._catalog.find("pull", key)
        if isinstance(cell, TableCell):
            return self._read_table(key, cell, outs)
        return FreshRead(cell) if outs is None else ReadInto("pull", key, cell, outs)

    def begin_rows(self, key: Key, requests: Sequence[tuple[Any, RowSparse | None]]) -> Transaction:
        cell = self._catalog.find("row_sparse_pull", key)
        return read_rows(key, cell, requests, TableRowRead if isinstance(cell, TableCell) else RowRead)

    def snapshot(self, key: Key) -> np.ndarray:
        return self._catalog.find("snapshot", key).snapshot()

    # -- checkpoints ------------------------------------------------------------------------------------------

    def fetcher(self, entry: Cell | TableCell) -> Callable[[], np.ndarray]:
        array = entry.snapshot()
        return lambda: array

    def new_entry(self, record: Record, array: np.ndarray) -> Cell | TableCell:
        table = self._table_of(record)
        return Cell(record.shape, record.dtype, record.version, array) if table is None else table

    def replace(self, entry: Cell | TableCell, array: np.ndarray, version: int) -> None:
        if isinstance(entry, Cell):
            entry.replace(array)
        entry.version = version

    # -- the short way, for small arrays that are only copied, or go through an updater: one third of the time --

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
        updater.bind(key, cell.count + 1)(cell.array, cast(np.ndarray, values[0]), state)
        cell.count += 1
        cell.version += 1
        return cell.version

    def write(self, keys: Sequence[Key], groups: Sequence[Sequence[Value]], donate: bool) -> list[int]:
        cells = list(map(self._fitting, keys, groups))
        if donate or not self._only_copies or not all(cells):
            return super().write(keys, groups, donate)
        if self._looks and not are_finite([values[0] for values in groups]):
            return super().write(keys, groups, donate)
        versions = []
        for cell, values in zip(cells, groups, strict=False):
            cell.array[...] = values[0]  # type: ignore[union-attr]
            cell.version += 1  # type: ignore[union-attr]
            versions.append(cell.version)  # type: ignore[union-attr]
        return versions

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
            return [cell.array.copy() for cell in [self._catalog.find("pull", key) for key in keys]]
        cells = list(map(self._fitting, keys, outs))
        if not all(cells):
            return super().read(keys, outs)
        for cell, group in zip(cells, outs, strict=False):
            group[0][...] = cell.array  # type: ignore[index, union-attr]
        return []

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
