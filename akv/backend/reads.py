"""Reading: a copy of a value, or of some of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from akv.backend.storage import Transaction, Where
from akv.errors import ShapeMismatch
from akv.values.buffers import empty
from akv.values.forms import Value, check_cast, check_shape
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse, row_ids

__all__ = ["FreshRead", "ReadInto", "Readable", "RowRead", "deliver_rows", "read_rows"]


class Readable(Protocol):
    """A stored value."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int

    @property
    def array(self) -> np.ndarray:
        """The value as it is now, C-contiguous, not to be written to."""
        ...


class FreshRead(Transaction):
    """A fresh array, the caller's own."""

    __slots__ = ("_cell", "_fresh", "_into")

    def __init__(self, cell: Readable) -> None:
        super().__init__(cell.nbytes, (self._copy,), tentative=1)
        self._cell = cell
        self._fresh: np.ndarray | None = None

    @property
    def length(self) -> int:
        self._fresh = empty(self._cell.shape, self._cell.dtype)
        self._into = self._fresh.reshape(-1)
        return len(self._into)

    def _copy(self, where: Where) -> None:
        if self._fresh is None:
            self._fresh = self._cell.array.copy()
        else:
            self._into[where] = self._cell.array.reshape(-1)[where]

    def commit(self) -> np.ndarray | None:
        return self._fresh


class ReadInto(Transaction):
    """Copies into arrays of the caller's, each cast to its dtype."""

    __slots__ = ("_cell", "_flat", "_outs", "_tables")

    def __init__(self, verb: str, key: Key, cell: Readable, outs: Sequence[Value]) -> None:
        for out in outs:
            if out.shape != cell.shape:
                check_shape(verb, key, out.shape, cell.shape)
            if out.dtype is not cell.dtype:
                check_cast(verb, key, cell.dtype, out.dtype)
        super().__init__(cell.nbytes * len(outs), (self._copy,))
        self._cell = cell
        self._outs = [out for out in outs if not isinstance(out, RowSparse)]
        self._tables = [out for out in outs if isinstance(out, RowSparse)]
        self._flat = False

    @property
    def length(self) -> int:
        if self._outs and all(out.flags.c_contiguous for out in self._outs):
            self._flat = True
            self._outs = [out.reshape(-1) for out in self._outs]
        return len(self._outs[0]) if self._outs else 1

    def _copy(self, where: Where) -> None:
        # The array is looked up now: a write under the same turn may have replaced it since the check.
        stored = self._cell.array.reshape(-1) if self._flat else self._cell.array
        for out in self._outs:
            if out.dtype is stored.dtype:
                out[where] = stored[where]
            else:
                cast(out[where], stored[where])

    def commit(self) -> None:
        for table in self._tables:
            rows = RowSparse.from_dense(self._cell.array)
            table.replace(rows.indices, rows.values)


class RowRead(Transaction):
    """Copies of some rows, for each request: into its RowSparse, or a fresh one."""

    __slots__ = ("_cell", "_found", "_requests")

    def __init__(self, cell: Readable, requests: Sequence[tuple[np.ndarray, RowSparse | None]]) -> None:
        row_nbytes = cell.nbytes // max(1, cell.shape[0])
        super().__init__(sum(len(ids) for ids, _ in requests) * row_nbytes, (self._gather,), tentative=1)
        self._cell, self._requests = cell, requests

    def _gather(self, where: Where) -> None:
        stored = self._cell.array
        self._found = [np.take(stored, ids, axis=0) for ids, _ in self._requests]

    def commit(self) -> list[RowSparse]:
        pairs = zip(self._requests, self._found, strict=True)
        return [deliver_rows(ids, out, values, self._cell.shape) for (ids, out), values in pairs]


def deliver_rows(ids: np.ndarray, out: RowSparse | None, values: np.ndarray, shape: tuple[int, ...]) -> RowSparse:
    """What a row_sparse_pull gives for one request: `out`, or a fresh RowSparse; both keep the arrays."""
    if out is None:
        return RowSparse(ids, values, shape)
    out.replace(ids, values)
    return out


def read_rows(
    key: Key, cell: Readable, requests: Sequence[tuple[Any, RowSparse | None]], make: type[RowRead] = RowRead
) -> RowRead:
    """Check the requests of a row_sparse_pull; see akv.backend.storage.RowStorage.begin_rows."""
    if not cell.shape:
        raise ShapeMismatch(f"row_sparse_pull of key {key!r}: a value of shape () has no rows")
    for _, out in requests:
        if out is not None:
            check_shape("row_sparse_pull", key, out.shape, cell.shape)
            check_cast("row_sparse_pull", key, cell.dtype, out.dtype)
    rows = cell.shape[0]
    return make(cell, [(row_ids(ids, rows, "row_sparse_pull", key), out) for ids, out in requests])


def cast(out: np.ndarray, values: np.ndarray) -> None:
    """Write `values` into `out` as its dtype; what does not fit wraps, or is cut off, as numpy's casts do."""
    if out.dtype == values.dtype:
        out[...] = values  # a third of the time of np.copyto
        return
    with np.errstate(all="ignore"):  # which takes a microsecond
        np.copyto(out, values, casting="unsafe")
