"""Storages that count versions wrongly, or do half of what they were asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from broken import Altered, Done, Sound, caught_by

from akv.backend.storage import Transaction
from akv.optim.updaters import FunctionUpdater, Updater
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse, merge


@caught_by("test_each_push_makes_one_version", "test_a_store_is_a_dict")
class CountsEachDevice(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        inner = super().begin_write(key, values, donate)

        def commit() -> int:
            inner.commit()
            cell = self._catalog.entries[key]
            cell.version += len(values) - 1
            return cell.version

        return Altered(inner, commit)


@caught_by("test_versions_do_not_go_back_across_delete", "test_waiting_across_a_delete")
class VersionsGoBackAfterDelete(Sound):
    def delete(self, key: Key) -> None:
        self._catalog.find("delete", key)
        self._catalog.withdraw(key)


@caught_by("test_an_error_makes_no_version")
class CountsBeforeItChecks(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        cell = self._catalog.find("push", key)
        cell.version += 1
        inner = super().begin_write(key, values, donate)
        cell.version -= 1
        return inner


@caught_by("test_wait_version_that_comes", "test_pull_with_min_version", "test_several_watches")
class KnowsNoVersions(Sound):
    def version(self, key: Key) -> int:
        return min(1, super().version(key))


@caught_by("test_push", "test_an_unknown_key_in_the_list")
class AppliesHalfAList(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        inner = super().begin_write(key, values, donate)
        result = inner.run()
        return Altered(inner, lambda: result) if not inner.passes else Done(result)


@caught_by(
    "test_an_exception_changes_nothing_and_reaches_the_pusher",
    "test_the_value_is_as_before_until_the_function_returns",
)
class CallsTheUpdaterOnTheLiveArray(Sound):
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        inner = super().begin_write(key, values, donate)
        updater, cell = self._updater, self._catalog.entries[key]
        if not isinstance(updater, FunctionUpdater):
            return inner

        class InPlace(Done):
            def commit(self) -> int:
                updater.call(key, merge(values) if isinstance(values[0], RowSparse) else sum(values), cell.array)
                cell.version += 1
                return cell.version

        return InPlace(None)


@caught_by("test_an_exception_changes_nothing_and_reaches_the_pusher")
class SwallowsExceptions(Sound):
    def set_updater(self, updater: Updater) -> None:
        super().set_updater(Quiet(updater.function) if isinstance(updater, FunctionUpdater) else updater)


class Quiet(FunctionUpdater):
    """As MXNet has it."""

    def call(self, key: Key, pushed: Any, stored: np.ndarray) -> None:
        try:
            super().call(key, pushed, stored)
        except Exception as error:
            print(f"ignored: {error}")
