"""What has arrived, in the hands of the caller."""

from __future__ import annotations

from typing import overload

import numpy as np

from akv.backend.reads import cast
from akv.errors import ProtocolError
from akv.values.forms import Value
from akv.values.rowsparse import RowSparse

from . import wire as w

__all__ = ["deliver", "fits", "owned", "read_only"]


def fits(out: np.ndarray, entry: w.Entry) -> bool:
    """Whether the bytes of the entry may be received straight into `out`, which is writable still."""
    same = out.shape == entry.shape and out.dtype == w.dtype_to_numpy(entry.dtype)
    return same and bool(out.flags.carray)


@overload
def owned(value: np.ndarray) -> np.ndarray: ...
@overload
def owned(value: Value) -> Value: ...
def owned(value: Value) -> Value:
    """The value in memory that the caller may write to; small ones arrive in read-only memory."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        return value.copy()
    return value


def read_only(value: Value) -> np.ndarray:
    """The value as a snapshot: numpy makes no array writable again whose memory belongs to a read-only view."""
    if not isinstance(value, np.ndarray):
        raise ProtocolError("snapshot: the server answered with rows where an array was due")
    if not value.nbytes:
        value.flags.writeable = False
        return value
    memory = w.array_bytes(value).toreadonly()
    return np.frombuffer(memory, np.uint8).view(value.dtype).reshape(value.shape)


def deliver(out: Value, value: Value) -> None:
    """Copy into `out`, cast to its dtype."""
    if type(out) is np.ndarray and type(value) is np.ndarray:
        cast(out, value)
    elif isinstance(value, RowSparse):
        raise ProtocolError("pull: the server answered with rows where an array was due")
    elif isinstance(out, RowSparse):
        rows = RowSparse.from_dense(value)
        out.replace(rows.indices, rows.values)
    else:
        cast(out, value)
