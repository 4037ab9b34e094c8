"""Storages that mistake tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from broken import Sound, caught_by

from akv.backend.catalog_storage import Join
from akv.backend.storage import Transaction
from akv.init import Table, zeros
from akv.optim.updaters import ADD, State
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse, row_ids
from akv_memory.table import TableCell


@caught_by("test_a_large_table_holds_what_was_pushed")
class HoldsWhatIsRead(Sound):
    def begin_rows(self, key: Key, requests: Sequence[tuple[Any, RowSparse | None]]) -> Transaction:
        cell = self._catalog.entries[key]
        if isinstance(cell, TableCell):
            for ids, _ in requests:
                cell.touch(row_ids(ids, cell.shape[0], "row_sparse_pull"), ADD)
        return super().begin_rows(key, requests)


@caught_by("test_init_of_what_exists")
class JoinsAnyTable(Sound):
    def begin_table(self, key: Key, table: Table, owner: int) -> Transaction:
        cell = self._catalog.entries.get(key)
        return super().begin_table(key, table, owner) if cell is None else Join(cell, owner)


@caught_by("test_delete_and_broadcast", "test_functions_see_all_of_a_small_table")
class BeginsWithZeros(Sound):
    def begin_table(self, key: Key, table: Table, owner: int) -> Transaction:
        return super().begin_table(key, zeros(table.shape, table.dtype), owner)


@caught_by("test_the_optimizers_states_alone")
class ForgetsTheStateOfRows(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        cell = self._catalog.entries.get(key)
        if isinstance(cell, TableCell):
            state: State = tuple(np.zeros_like(array) for array in cell.state(self._updater) or ())
            cell.keep_state(self._updater, state)
        return super().begin_write(key, values, donate)


@caught_by("test_assigned_rows_leave_zeros")
class KeepsWhatWasNotAssigned(Sound):
    def begin_rows(self, key: Key, requests: Sequence[tuple[Any, RowSparse | None]]) -> Transaction:
        cell = self._catalog.entries[key]
        if isinstance(cell, TableCell):
            cell.cleared = False
        return super().begin_rows(key, requests)


@caught_by("test_the_optimizers_states_alone")
class MixesUpSavedRows(Sound):
    def keep_restored(self, entry: Any, item: Any) -> None:
        if isinstance(entry, TableCell):
            item.ids[:] = item.ids[::-1].copy()
        super().keep_restored(entry, item)
