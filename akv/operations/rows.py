"""row_sparse_pull: which rows of which key go where."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence, Sized
from typing import Any

from akv.backend.storage import RowStorage, Storage, Transaction
from akv.errors import InvalidArgument, KeyNotFound, NotAnArray
from akv.operations.base import Operation
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv.values.selection import Selection

__all__ = ["PullRows"]


class PullRows(Operation):
    """Read rows.

    Attributes:
        most: the bytes that they may come to; a server's own bound.
    """

    verb = "row_sparse_pull"
    writes = False
    most = sys.maxsize

    def __init__(self, key: object, out: object, priority: int, row_ids: object) -> None:
        selection = Selection.of(key)
        if row_ids is None:
            raise InvalidArgument("row_sparse_pull needs row_ids: the ids of the rows to read")
        if out is None and selection.repeats:
            raise InvalidArgument(
                f"row_sparse_pull without out: a key stands twice in the list: {selection.keys!r:.200}"
            )
        self.out = out
        self.requests = _row_requests(selection, out, row_ids)
        super().__init__(selection, priority, 0)

    def size(self, storage: Storage) -> int:
        if self.nbytes == 0:
            self.nbytes = self._reckon(storage)
        return self.nbytes

    def _reckon(self, storage: Storage) -> int:
        pairs = zip(self.keys, self.requests, strict=True)
        return sum([_nbytes(storage, key, wanted) for key, wanted in pairs])

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        if not isinstance(storage, RowStorage):
            raise InvalidArgument("this store does not hold rows; ask is_capable('rows')")
        # Anew: since it was submitted the keys may have been made, or made anew.
        if self.most < sys.maxsize and (nbytes := self._reckon(storage)) > self.most:
            raise InvalidArgument(
                f"{self.verb}: the rows would be {nbytes} bytes, the most is {self.most}; ask for fewer at a time"
            )
        return [storage.begin_rows(key, wanted) for key, wanted in zip(self.keys, self.requests, strict=True)]

    def outcome(self, results: list[Any]) -> Any:
        if self.out is not None:
            return self.out
        return self.selection.spread([rows[0] if len(rows) == 1 else rows for rows in results])


def _nbytes(storage: Storage, key: Key, requests: Sequence[tuple[Any, RowSparse | None]]) -> int:
    """The bytes of the rows that are asked for; 0 where that is an error, which comes when it begins."""
    try:
        info = storage.info(key)
    except KeyNotFound:
        return 0
    return sum(_count(ids) for ids, _ in requests) * math.prod(info.shape[1:]) * info.dtype.itemsize


def _count(ids: Any) -> int:
    shape = getattr(ids, "shape", None)
    return math.prod(shape) if isinstance(shape, tuple) else len(ids) if isinstance(ids, Sized) else 1


def _row_requests(selection: Selection, out: object, row_ids: object) -> list[list[tuple[Any, RowSparse | None]]]:
    """Pair ids with outs for each key: one array of ids serves all outs of a key, a list of arrays one out each."""
    ids = selection.group("row_sparse_pull", row_ids, _id_arrays)
    if out is None:
        return [[(wanted, None) for wanted in group] for group in ids]
    outs = selection.group("row_sparse_pull", out, _row_targets)
    return [_pair(key, group, into) for key, group, into in zip(selection.keys, ids, outs, strict=True)]


def _pair(key: Key, ids: Sequence[Any], outs: Sequence[RowSparse]) -> list[tuple[Any, RowSparse | None]]:
    if len(ids) == 1:
        return [(ids[0], out) for out in outs]
    if len(ids) != len(outs):
        raise InvalidArgument(f"row_sparse_pull of key {key!r} got {len(ids)} arrays of row ids for {len(outs)} outs")
    return list(zip(ids, outs, strict=True))


def _id_arrays(verb: str, key: Key, ids: object) -> list[Any]:
    """A list of arrays is one array of ids per out; a list of numbers is one array."""
    if isinstance(ids, (list, tuple)) and ids and all(getattr(item, "ndim", 0) > 0 for item in ids):
        return list(ids)
    return [ids]


def _row_targets(verb: str, key: Key, out: object) -> list[RowSparse]:
    return [_row_target(verb, key, item) for item in (out if isinstance(out, (list, tuple)) else [out])]


def _row_target(verb: str, key: Key, out: object) -> RowSparse:
    if isinstance(out, RowSparse):
        return out
    raise NotAnArray(f"{verb} of key {key!r}: out is a RowSparse, not {type(out).__name__}")
