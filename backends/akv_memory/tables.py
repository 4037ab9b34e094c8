"""The verbs of a storage on the keys that are tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from akv.backend.catalog_storage import Join
from akv.backend.checkpoints import CatalogCheckpoints
from akv.backend.saved import Capture, Held, Record, Restored
from akv.backend.screen import Screen
from akv.backend.storage import Info, TableStorage, Transaction
from akv.compression import Scheme
from akv.errors import InvalidArgument
from akv.init import Table
from akv.optim.updaters import OptimizerUpdater, Updater
from akv.values.forms import Value
from akv.values.keys import Key
from akv_memory.cell import Cell
from akv_memory.inits import CreateTable
from akv_memory.table import TableCell
from akv_memory.table_reads import TableRead, TableReadInto
from akv_memory.table_writes import begin_table_write

__all__ = ["TablesInMemory"]


class TablesInMemory(CatalogCheckpoints[Cell | TableCell], TableStorage):
    """What MemoryStorage does with a TableCell."""

    def begin_table(self, key: Key, table: Table, owner: int) -> Transaction:
        cell = self._catalog.claim(key, table, owner)
        if cell is not None:
            return Join(cell, owner)
        return CreateTable(self._catalog, TableCell(key, table, self._catalog.first_version(key)), owner)

    def check_plain(self, key: Key, values: Sequence[Value], agreed: Scheme | None) -> None:
        super().check_plain(key, values, agreed)
        cell = self._catalog.entries.get(key)
        if isinstance(cell, TableCell):
            self._write_table(cell, values, None)  # what was only begun leaves nothing behind

    def _write_table(self, cell: TableCell, values: Sequence[Value], screen: Screen | None) -> Transaction:
        if self.compressor is not None:
            raise InvalidArgument(
                f"push of key {cell.key!r}: gradient compression takes arrays, and this is a table of rows; "
                "keep it in a store without compression"
            )
        return begin_table_write(cell, values, self._updater, screen)

    def _read_table(self, key: Key, cell: TableCell, outs: Sequence[Value] | None) -> Transaction:
        cell.check_whole("pull")
        return TableRead(cell) if outs is None else TableReadInto("pull", key, cell, outs)

    def info(self, key: Key) -> Info:
        info = super().info(key)
        cell = self._catalog.entries[key]
        return replace(info, nbytes=cell.held) if isinstance(cell, TableCell) else info

    # -- checkpoints ------------------------------------------------------------------------------------------

    def _capture(self, key: Key, entry: Cell | TableCell, updater: Updater) -> Capture:
        return _captured(key, entry, updater) if isinstance(entry, TableCell) else super()._capture(key, entry, updater)

    def keep_restored(self, entry: Cell | TableCell, item: Restored) -> None:
        if isinstance(entry, TableCell):
            self._restore_table_state(entry, item)
        else:
            super().keep_restored(entry, item)

    def _table_of(self, record: Record) -> TableCell | None:
        """A cell for a table that was saved, if it was one."""
        if record.held is None:
            return None
        table = Table(record.shape, record.dtype, record.held.initialiser)
        return TableCell(record.key, table, record.version)

    def _restore_value(self, item: Restored, entry: Cell | TableCell | None, value: np.ndarray) -> Cell | TableCell:
        entry = super()._restore_value(item, entry, value)
        if isinstance(entry, TableCell):
            assert item.record.held is not None
            assert item.ids is not None
            entry.description = Table(entry.shape, entry.dtype, item.record.held.initialiser)
            entry.hold(item.ids, value, item.record.held.cleared)
        return entry

    def _restore_table_state(self, cell: TableCell, item: Restored) -> None:
        """Rows that were not saved get the state of a row that was not pushed to."""
        assert isinstance(self._updater, OptimizerUpdater)
        assert item.ids is not None
        places, state = cell.touch(item.ids, self._updater)
        for array, saved in zip(state, item.state, strict=True):
            array[places] = saved


def _captured(key: Key, cell: TableCell, updater: Updater) -> Capture:
    count = cell.index.count
    loan = cell.lend()
    optimizes = isinstance(updater, OptimizerUpdater)
    arrays = cell.state(updater) if optimizes else None
    state = None if arrays is None else tuple(array[:count] for array in arrays)
    record = Record(
        key,
        cell.shape,
        cell.dtype,
        cell.version,
        cell.count if optimizes else 0,
        None if state is None else tuple(array.dtype for array in state),
        Held(cell.description.initialiser, count, cell.cleared),
    )
    fetch = partial(_lent, cell.values[:count], loan)
    return Capture(record, fetch, state or (), loan, cell.index.ids)


def _lent(array: np.ndarray, loan: object) -> np.ndarray:
    return array
