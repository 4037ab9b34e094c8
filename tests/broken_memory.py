"""Storages that share memory by accident."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
from broken import Altered, Sound, caught_by

from akv.backend.storage import Transaction
from akv.optim.updaters import ASSIGN
from akv.values.forms import Value
from akv.values.keys import Key


@caught_by("test_a_pushed_array_is_copied", "test_one_array_for_several_keys")
class KeepsThePushedArray(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        inner = super().begin_write(key, values, donate)

        def commit() -> int:
            version: int = inner.commit()
            if self._updater is ASSIGN and len(values) == 1 and isinstance(values[0], np.ndarray):
                self._catalog.entries[key].array = values[0]
            return version

        return Altered(inner, commit)


@caught_by("test_an_initial_value_is_copied")
class KeepsTheInitialArray(Sound):
    def begin_init(self, key: Key, value: Value, owner: int) -> Transaction:
        inner = super().begin_init(key, value, owner)

        def commit() -> None:
            inner.commit()
            if isinstance(value, np.ndarray):
                self._catalog.entries[key].array = value

        return Altered(inner, commit)


@caught_by("test_a_pulled_array_is_the_callers_own", "test_a_pulled_array_does_not_change")
class HandsOutTheLiveArray(Sound):
    def begin_read(self, key: Key, outs: Sequence[Value] | None) -> Transaction:
        inner = super().begin_read(key, outs)
        return inner if outs is not None else Altered(inner, lambda: self._catalog.entries[key].array)


@caught_by("test_what_is_pushed_is_never_written_to")
class SumsIntoTheFirstArray(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        inner = super().begin_write(key, values, donate)

        def commit() -> int:
            version: int = inner.commit()
            if len(values) > 1 and isinstance(values[0], np.ndarray):
                writable = np.lib.stride_tricks.as_strided(values[0])
                writable.flags.writeable = True
                writable[...] = self._catalog.entries[key].array
            return version

        return Altered(inner, commit)


@caught_by("test_nothing_changes_it", "test_nobody_can_write_to_it")
class SnapshotAliases(Sound):
    def snapshot(self, key: Key) -> np.ndarray:
        view = self._catalog.find("snapshot", key).array.view()
        view.flags.writeable = False
        return view


@caught_by("test_its_memory_is_not_used_again_while_a_view_lives")
class SnapshotHangsOnItsArray(Sound):
    """A weak reference to the array itself: its views refer past it to the memory's owner."""

    def snapshot(self, key: Key) -> np.ndarray:
        cell = self._catalog.find("snapshot", key)
        view = cell.array.view()
        view.flags.writeable = False
        cell.loan = weakref.ref(view)  # type: ignore[assignment]
        return view
