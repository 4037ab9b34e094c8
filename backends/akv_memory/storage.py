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
from akv.backend.screen import Screen
from akv.backend.storage import RowStorage, SnapshotStorage, Transaction
from akv.compression import Coded
from akv.optim.updaters import ASSIGN, Elementwise
from akv.values.buffers import can_be_kept
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv_memory.cell import Cell
from akv_memory.compressed import CompressedFunctionWrite, CompressedWrite
from akv_memory.inits import Create
from akv_memory.short import ShortWays
from akv_memory.special import FunctionWrite, RowWrite
from akv_memory.table import TableCell
from akv_memory.table_reads import TableRowRead
from akv_memory.writes import AssignWrite, Donation, UpdateWrite

__all__ = ["MemoryStorage"]


class MemoryStorage(ShortWays, RowStorage, SnapshotStorage):
    """One C-contiguous array per key, changed in place while no snapshot of it is out; and tables."""

    captures_last = True

    def __init__(self, on_nonfinite: str = "allow") -> None:
        self._on_nonfinite = on_nonfinite
        super().__init__()

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
