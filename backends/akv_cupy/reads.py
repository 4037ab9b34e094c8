"""Reading: copies of a value, or of some of its rows, in host memory or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from akv.backend.reads import cast, deliver_rows
from akv.errors import ShapeMismatch
from akv.values.buffers import empty
from akv.values.device import OnDevice
from akv.values.forms import Value, check_cast, check_shape
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse, row_ids
from akv_cupy import arithmetic
from akv_cupy.cell import Cell
from akv_cupy.device import Array
from akv_cupy.guests import deliver
from akv_cupy.inputs import borrow
from akv_cupy.lane import Lane
from akv_cupy.rig import Rig
from akv_cupy.transaction import DeviceTransaction
from akv_cupy.trip import as_bytes

__all__ = ["FreshRead", "ReadInto", "RowRead"]


class FreshRead(DeviceTransaction):
    """A fresh array in host memory, the caller's own."""

    __slots__ = ("_cell", "_fresh")

    def __init__(self, rig: Rig, cell: Cell) -> None:
        super().__init__(rig, cell.nbytes)
        self._cell = cell

    def apply(self, lane: Lane) -> None:
        self._fresh = _download(lane, _now(lane, self._cell))

    def commit(self) -> np.ndarray:
        return self._fresh


class ReadInto(DeviceTransaction):
    """Copies into arrays of the caller's, each cast to its dtype."""

    __slots__ = ("_cell", "_outs", "_tables")

    def __init__(self, rig: Rig, verb: str, key: Key, cell: Cell, outs: Sequence[Value]) -> None:
        for out in outs:
            check_shape(verb, key, out.shape, cell.shape)
            check_cast(verb, key, cell.dtype, out.dtype)
        super().__init__(rig, cell.nbytes)
        self._cell, self._outs = cell, outs
        self._tables: np.ndarray | None = None

    def apply(self, lane: Lane) -> None:
        array = _now(lane, self._cell)
        hosts = []
        for out in self._outs:
            if isinstance(out, OnDevice):
                _deliver(lane, array, out)
            elif isinstance(out, RowSparse):
                if self._tables is None:
                    self._tables = _download(lane, array)
            else:
                hosts.append(out)
        if hosts:
            _download_into(lane, array, hosts)

    def commit(self) -> None:
        for out in self._outs:
            if isinstance(out, RowSparse):
                rows = RowSparse.from_dense(self._tables)
                out.replace(rows.indices, rows.values)


class RowRead(DeviceTransaction):
    """Copies of some rows, for each request: into its RowSparse, or a fresh one."""

    __slots__ = ("_cell", "_found", "_requests")

    def __init__(self, rig: Rig, key: Key, cell: Cell, requests: Sequence[tuple[Any, RowSparse | None]]) -> None:
        if not cell.shape:
            raise ShapeMismatch(f"row_sparse_pull of key {key!r}: a value of shape () has no rows")
        for _, out in requests:
            if out is not None:
                check_shape("row_sparse_pull", key, out.shape, cell.shape)
                check_cast("row_sparse_pull", key, cell.dtype, out.dtype)
        rows = cell.shape[0]
        self._requests = [(row_ids(ids, rows, "row_sparse_pull", key), out) for ids, out in requests]
        super().__init__(rig, cell.nbytes // max(1, rows) * sum(len(ids) for ids, _ in self._requests))
        self._cell = cell

    def apply(self, lane: Lane) -> None:
        self._found = [self._gather(lane, ids) for ids, _ in self._requests]

    def _gather(self, lane: Lane, ids: np.ndarray) -> np.ndarray:
        array = _now(lane, self._cell)
        return _download(lane, arithmetic.gather(lane, array, borrow(lane, ids, array.device)))

    def commit(self) -> list[RowSparse]:
        pairs = zip(self._requests, self._found, strict=True)
        return [deliver_rows(ids, out, values, self._cell.shape) for (ids, out), values in pairs]


def _now(lane: Lane, cell: Cell) -> Array:
    """The value, as a write of the same operation has just left it, if there is one."""
    return lane.next.get(cell, cell.array)


def _download(lane: Lane, array: Array) -> np.ndarray:
    """A fresh host array, which is filled by the time the lane is finished."""
    host = empty(array.shape, array.dtype)
    _download_into(lane, array, [host])
    return host


def _download_into(lane: Lane, array: Array, outs: Sequence[np.ndarray]) -> None:
    if all(out.flags.c_contiguous for out in outs):
        flats = [out.reshape(-1) for out in outs]
        lane.download(array, lambda start, part: _spread(array, flats, start, part))
        return
    host = lane.fetch(array)
    for out in outs:
        cast(out, host)


def _spread(array: Array, outs: Sequence[np.ndarray], start: int, part: np.ndarray) -> None:
    first, values = start // array.dtype.itemsize, part.view(array.dtype)
    for out in outs:
        if out.dtype == array.dtype:
            as_bytes(out)[start : start + len(part)] = part
        else:
            cast(out[first : first + len(values)], values)


def _deliver(lane: Lane, array: Array, out: OnDevice) -> None:
    if array.dtype == out.dtype or arithmetic.can_cast(array.dtype, out.dtype):
        deliver(lane, array, out)
        return
    host = np.empty(array.shape, out.dtype)
    cast(host, lane.fetch(array))
    deliver(lane, borrow(lane, host, array.device), out)
