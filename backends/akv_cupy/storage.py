"""Values in the memory of GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

from akv.backend.catalog_storage import Join
from akv.backend.checkpoints import CatalogCheckpoints
from akv.backend.compressed import Compressor, Part
from akv.backend.saved import Record
from akv.backend.screen import Screen
from akv.backend.storage import Info, RowStorage, SnapshotStorage, Transaction
from akv.compression import Coded
from akv.optim.updaters import ASSIGN, Elementwise, Updater
from akv.values.device import OnDevice
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv_cupy import arithmetic
from akv_cupy.cell import Cell, frozen
from akv_cupy.compressed import PackedWrite, PackingWrite, Residuals, can_code
from akv_cupy.detour import CompressedWrite, FunctionWrite, HostWrite
from akv_cupy.inits import Create
from akv_cupy.inputs import fetch
from akv_cupy.reads import FreshRead, ReadInto, RowRead
from akv_cupy.rig import Rig
from akv_cupy.updating import can_update
from akv_cupy.writes import AssignWrite, RowWrite, UpdateWrite

__all__ = ["DeviceStorage"]


class DeviceStorage(CatalogCheckpoints[Cell], RowStorage, SnapshotStorage):
    """One C-contiguous array per key, on the device that had the least in it when the key was initialised.

    Args:
        on_nonfinite: what becomes of a push with NaN or infinities: "allow", "reject" or "skip".
    """

    captures_last = True

    def __init__(self, rig: Rig, on_nonfinite: str = "allow") -> None:
        self.rig = rig
        self._on_nonfinite = on_nonfinite
        self._residuals = Residuals()
        super().__init__()

    # -- writing ----------------------------------------------------------------------------------------------

    def begin_init(self, key: Key, value: Value, owner: int) -> Transaction:
        cell = self._catalog.claim(key, value, owner)
        return Create(self.rig, self._catalog, key, value, owner) if cell is None else Join(cell, owner)

    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        cell = self._catalog.find("push", key)
        for value in values:
            cell.check("push", key, value)
        screen = self._screen(key)
        if self.compressor is not None:
            return self._begin_packing(key, cell, values, self.compressor, screen)
        updater = self._updater
        if not isinstance(updater, Elementwise):
            return FunctionWrite(self.rig, key, cell, values, updater, screen)
        updater.check(key, cell.dtype)
        if len(values) == 1 and updater is ASSIGN and not isinstance(values[0], RowSparse):
            return AssignWrite(self.rig, key, cell, values, donate, screen)  # of whatever dtype
        if not arithmetic.can_add_up(cell.dtype):
            return HostWrite(self.rig, key, cell, values, updater, screen)
        return self._begin_on_device(key, cell, values, updater, screen)

    def _begin_on_device(
        self, key: Key, cell: Cell, values: Sequence[Value], updater: Elementwise, screen: Screen | None
    ) -> Transaction:
        rows = [value for value in values if isinstance(value, RowSparse)]
        if updater is not ASSIGN and not can_update(updater, cell.dtype):
            return HostWrite(self.rig, key, cell, values, updater, screen)
        if len(rows) == len(values) and updater.by_rows:
            return RowWrite(self.rig, key, cell, rows, updater, screen)
        if updater is ASSIGN:
            return AssignWrite(self.rig, key, cell, values, False, screen)
        return UpdateWrite(self.rig, key, cell, values, updater, screen)

    def begin_coded(self, key: Key, values: Sequence[Coded]) -> Transaction:
        cell = self._catalog.find("push", key)
        for value in values:
            cell.check("push", key, value)
        parts, screen, updater = self.agreed.accept(key, values), self._screen(key), self._updater
        if self._codes(updater, cell):
            updater.check(key, cell.dtype)
            return PackedWrite(self.rig, key, cell, values, updater, screen)
        return self._begin_compressed(key, cell, parts, screen)

    def _begin_packing(
        self, key: Key, cell: Cell, values: Sequence[Value], compressor: Compressor, screen: Screen | None
    ) -> Transaction:
        updater = self._updater
        if not self._codes(updater, cell):
            return self._begin_compressed(key, cell, compressor.pack(key, self._on_host(values)), screen)
        compressor.check(key, values, compressor.scheme)
        updater.check(key, cell.dtype)
        codec = compressor.scheme.push
        return PackingWrite(self.rig, key, cell, values, codec, self._residuals, updater, screen)

    def _codes(self, updater: Updater, cell: Cell) -> TypeGuard[Elementwise]:
        """Whether all of a compressed push can be done on the device."""
        if not isinstance(updater, Elementwise) or not can_code(self.agreed.scheme.push, cell.dtype):
            return False
        return updater is ASSIGN or can_update(updater, cell.dtype)

    def _begin_compressed(self, key: Key, cell: Cell, parts: Sequence[Part], screen: Screen | None) -> Transaction:
        if isinstance(self._updater, Elementwise):
            self._updater.check(key, cell.dtype)
        return CompressedWrite(self.rig, key, cell, parts, self._updater, screen)

    def _on_host(self, values: Sequence[Value]) -> list[Value]:
        if not any(isinstance(value, OnDevice) for value in values):
            return list(values)
        with self.rig.lane() as lane:
            return [fetch(lane, value) for value in values]

    def _screen(self, key: Key) -> Screen | None:
        return None if self._on_nonfinite == "allow" else Screen(key, self._on_nonfinite == "skip")

    # -- reading ----------------------------------------------------------------------------------------------

    def begin_read(self, key: Key, outs: Sequence[Value] | None) -> Transaction:
        cell = self._catalog.find("pull", key)
        return FreshRead(self.rig, cell) if outs is None else ReadInto(self.rig, "pull", key, cell, outs)

    def begin_rows(self, key: Key, requests: Sequence[tuple[Any, RowSparse | None]]) -> Transaction:
        return RowRead(self.rig, key, self._catalog.find("row_sparse_pull", key), requests)

    def snapshot(self, key: Key) -> np.ndarray:
        return frozen(self._catalog.find("snapshot", key).fetch())

    def info(self, key: Key) -> Info:
        return self._catalog.info(key, self._catalog.find("info", key).home.name)

    def delete(self, key: Key) -> None:
        super().delete(key)
        self._residuals.drop(key)

    # -- checkpoints ------------------------------------------------------------------------------------------

    def fetcher(self, entry: Cell) -> Callable[[], np.ndarray]:
        array = entry.fetch()
        return lambda: array

    def new_entry(self, record: Record, array: np.ndarray) -> Cell:
        return Cell(self.rig, self.rig.put(self.rig.home(), array), record.version)

    def replace(self, entry: Cell, array: np.ndarray, version: int) -> None:
        entry.array = self.rig.put(entry.home, array)
        entry.version = version

    def close(self) -> None:
        self._catalog.entries.clear()
        self.rig.close()
