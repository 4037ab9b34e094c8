"""The arrays of one key, put together again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from akv.backend.saved import Record, Restored
from akv.errors import BadCheckpoint
from akv.values.rowsparse import Ids

__all__ = ["restored"]


def restored(record: Record, values: bool, arrays: Sequence[np.ndarray]) -> Restored:
    """A key from its arrays, in the order of `akv.checkpoint.manifest.tensors_of`; they are kept.

    Raises:
        BadCheckpoint: the row ids of a table are no such ids.
    """
    state = list(arrays)
    value = state.pop(0) if values else None
    if record.held is None:
        return Restored(record, value, tuple(state))
    ids = state.pop()
    _check(record, ids)
    return Restored(record, value, tuple(state), ids)


def _check(record: Record, ids: Ids) -> None:
    ranked = np.sort(ids)
    if ids.size and (ranked[0] < 0 or ranked[-1] >= record.shape[0]):
        raise BadCheckpoint(f"key {record.key!r:.80}: a row id lies outside the table of {record.shape[0]} rows")
    if (ranked[1:] == ranked[:-1]).any():
        raise BadCheckpoint(f"key {record.key!r:.80}: a row id stands twice")
