"""Storages that get the arithmetic wrong: sums, rows, dtypes, optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from broken import Altered, Sound, caught_by

from akv.backend.storage import Transaction
from akv.optim.updaters import ASSIGN
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse, merge


@caught_by("test_a_key_that_repeats_in_a_push_is_summed", "test_it_is_called_once_per_key")
class PushesEachDeviceByItself(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        first, *rest = [super(PushesEachDeviceByItself, self).begin_write(key, [value], donate) for value in values]

        def commit() -> int:
            version: int = first.commit()
            for each in rest:
                version = each.run()
            return version

        return Altered(first, commit)


@caught_by("test_a_key_that_repeats_is_summed_before_an_assign", "test_values_of_several_devices_are_summed")
class SumsTwice(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        return super().begin_write(key, [*values, *values[1:]], donate)


@caught_by("test_small_floats_are_summed_in_float32")
class SumsInTheDtypeItself(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        if len(values) > 1 and all(isinstance(value, np.ndarray) for value in values):
            total = values[0]
            for value in values[1:]:
                total = total + value  # type: ignore[operator]
            return super().begin_write(key, [total], donate)
        return super().begin_write(key, values, donate)


@caught_by("test_push")
class CastsWhatIsPushed(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        dtype = self._catalog.find("push", key).dtype
        cast = [value if isinstance(value, RowSparse) else value.astype(dtype) for value in values]
        return super().begin_write(key, cast, donate)


@caught_by("test_bad_row_calls", "test_row_sparse_pull_writes_to_no_out")
class RowsWrapAround(Sound):
    def begin_rows(self, key: Key, requests: Sequence[tuple[Any, RowSparse | None]]) -> Transaction:
        rows = (*self._catalog.find("row_sparse_pull", key).shape, 1)[0]
        return super().begin_rows(key, [(np.asarray(ids, object) % rows, out) for ids, out in requests])


@caught_by("test_rows_do_what_the_table_would_do", "test_rows_of_several_devices_are_summed")
class RowsLeaveTheOthers(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        cell = self._catalog.find("push", key)
        if self._updater is ASSIGN and all(isinstance(value, RowSparse) for value in values):
            table, rows = cell.array.copy(), merge(values)  # type: ignore[arg-type]
            table[rows.indices] = rows.values
            return super().begin_write(key, [table], donate)
        return super().begin_write(key, values, donate)


@caught_by("test_a_pull_reads_what_is_stored")
class ReadsACopyOfItsOwn(Sound):
    def begin_read(self, key: Key, outs: Sequence[Value] | None) -> Transaction:
        cell = self._catalog.find("pull", key)
        caches: dict[Any, np.ndarray] = self.__dict__.setdefault("caches", {})
        cached = caches.setdefault((key, cell.version, id(cell)), cell.array.copy())
        cell.array[...] = cached
        return super().begin_read(key, outs)


@caught_by("test_another_is_a_conflict")
class TakesAnyOptimizer(Sound):
    def set_optimizer(self, optimizer: Any) -> None:
        if getattr(self._updater, "optimizer", None) != optimizer:
            self.set_updater(ASSIGN)
        super().set_optimizer(optimizer)


@caught_by("test_the_same_again_changes_nothing")
class ForgetsTheMomentum(Sound):
    def set_optimizer(self, optimizer: Any) -> None:
        super().set_optimizer(optimizer)
        for cell in self._catalog.entries.values():
            cell.forget()
