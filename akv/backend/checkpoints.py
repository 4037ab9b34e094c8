"""Checkpoints of storages that keep a catalog: what they give out, and how they take it in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from akv.backend.catalog_storage import CatalogStorage, Updated
from akv.backend.saved import Capture, CheckpointStorage, Record, Restored, SavedUpdater
from akv.backend.storage import TableStorage, Transaction
from akv.errors import InvalidArgument, UpdaterConflict
from akv.optim.contrast import contrast
from akv.optim.updaters import ADD, ASSIGN, FunctionUpdater, OptimizerUpdater, Updater
from akv.values.keys import Key

__all__ = ["CatalogCheckpoints"]

U_ = TypeVar("U_", bound=Updated)


class CatalogCheckpoints(CatalogStorage[U_], CheckpointStorage):
    """See CheckpointStorage; a subclass says how one value is given out and taken in."""

    @abstractmethod
    def fetcher(self, entry: U_) -> Callable[[], np.ndarray]:
        """What gives out the value that the entry has now."""

    @abstractmethod
    def new_entry(self, record: Record, array: np.ndarray) -> U_:
        """An entry for a new key; `replace` follows, with the same array."""

    @abstractmethod
    def replace(self, entry: U_, array: np.ndarray, version: int) -> None:
        """Make `array` the entry's value."""

    def keep_restored(self, entry: U_, item: Restored) -> None:
        """Take in what the optimizer had kept."""
        entry.keep_state(self._updater, item.state)

    def capture(self, keys: Sequence[Key]) -> tuple[SavedUpdater, list[Capture]]:
        updater = self._updater
        entries = [(key, self._catalog.entries.get(key)) for key in keys]
        return _saved(updater), [self._capture(key, entry, updater) for key, entry in entries if entry is not None]

    def _capture(self, key: Key, entry: U_, updater: Updater) -> Capture:
        if not isinstance(updater, OptimizerUpdater):
            return Capture(Record(key, entry.shape, entry.dtype, entry.version), self.fetcher(entry))
        state, loan = entry.lend_state(updater)
        dtypes = None if state is None else tuple(array.dtype for array in state)
        record = Record(key, entry.shape, entry.dtype, entry.version, entry.count, dtypes)
        return Capture(record, self.fetcher(entry), state or (), loan)

    def check_restore(self, verb: str, updater: SavedUpdater, records: Sequence[Record], values: bool) -> None:
        for record in records:
            entry = self._catalog.entries.get(record.key)
            if record.held is not None and not isinstance(self, TableStorage):
                raise InvalidArgument(
                    f"{verb}: key {record.key!r} is a table, which this store does not hold; ask is_capable('tables')"
                )
            if entry is not None:
                entry.check(verb, record.key, record)
                if (saved := _kind(record.held)) != (stored := _kind(entry.table)):
                    raise InvalidArgument(f"{verb}: key {record.key!r} is {saved} in the checkpoint, and {stored} here")
            elif values:
                self._catalog.check_kind(verb, record.key)
            else:
                self._catalog.find(verb, record.key)
        current, wanted = self._updater, updater.optimizer
        if wanted is not None and current is not ASSIGN and _optimizer(current) != wanted:
            if isinstance(current, OptimizerUpdater):
                theirs, ours = contrast(wanted, current.optimizer)
            else:
                theirs, ours = type(wanted).__name__, repr(_saved(current).name)
            raise UpdaterConflict(
                f"{verb}: the checkpoint is of a store with {theirs}, and this store has {ours}; "
                "set_updater('assign') first, to take its optimizer"
            )

    def begin_restore(
        self, verb: str, updater: SavedUpdater, items: Sequence[Restored], values: bool
    ) -> Sequence[Transaction]:
        self.check_restore(verb, updater, [item.record for item in items], values)
        self._take_over(updater)
        return [_Restore(self, item, updater) for item in items]

    def _take_over(self, saved: SavedUpdater) -> None:
        if saved.optimizer is not None:
            self.set_optimizer(saved.optimizer)
            assert isinstance(self._updater, OptimizerUpdater)
            settings = self._updater.settings
            settings.learning_rate = saved.learning_rate
            settings.lr_mult, settings.wd_mult = dict(saved.lr_mult), dict(saved.wd_mult)
        elif saved.name == ADD.name and self._updater is ASSIGN:
            self.set_updater(ADD)

    def restore(self, item: Restored, updater: SavedUpdater) -> int:
        """Take one key in; its new version."""
        record = item.record
        entry = self._catalog.entries.get(record.key)
        if item.value is not None:
            entry = self._restore_value(item, entry, item.value)
        assert entry is not None  # whoever restores has the key's turn, and has checked
        entry.forget()
        # Meanwhile another handle may have set another updater, which this state is not for.
        if record.state is not None and _optimizer(self._updater) == updater.optimizer is not None:
            entry.count = record.count
            self.keep_restored(entry, item)
        return entry.version

    def _restore_value(self, item: Restored, entry: U_ | None, value: np.ndarray) -> U_:
        record = item.record
        if entry is not None:
            self.replace(entry, value, max(record.version, entry.version + 1))
            return entry
        entry = self.new_entry(record, value)
        self._catalog.add(record.key, entry)
        try:
            self.replace(entry, value, max(record.version, self._catalog.first_version(record.key)))
        except BaseException:
            self._catalog.withdraw(record.key)
            raise
        return entry


class _Restore(Transaction):
    """All is read already: only the commit is left."""

    __slots__ = ("_item", "_storage", "_updater")

    def __init__(self, storage: CatalogCheckpoints[U_], item: Restored, updater: SavedUpdater) -> None:
        super().__init__(0)
        self._storage, self._item, self._updater = storage, item, updater

    def commit(self) -> int:
        return self._storage.restore(self._item, self._updater)


def _kind(table: object) -> str:
    return "an array" if table is None else "a table"


def _saved(updater: Updater) -> SavedUpdater:
    if isinstance(updater, FunctionUpdater):
        return SavedUpdater("function")
    if not isinstance(updater, OptimizerUpdater):
        return SavedUpdater(updater.name)
    live = updater.settings
    return SavedUpdater(updater.name, updater.optimizer, live.learning_rate, dict(live.lr_mult), dict(live.wd_mult))


def _optimizer(updater: Updater) -> object:
    return updater.optimizer if isinstance(updater, OptimizerUpdater) else None
