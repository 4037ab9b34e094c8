"""Values as entries of messages, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from akv.compression import Coded
from akv.errors import BackendUnavailable, InvalidArgument, ProtocolError
from akv.init import Table, from_dict
from akv.values.buffers import empty
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse

from .wire import Buffer, Entry, Kind, Payload, array_bytes, dtype_from_numpy, dtype_to_numpy, new_entry

__all__ = ["COPIED_NBYTES", "array_from", "bare", "initial_from", "pack", "staging", "value_from"]


def bare(key: Key, version: int = 0) -> Entry:
    """An entry that only names a key."""
    return Entry(key, 0, 0, (), 0, 0, 0, 0, version)


COPIED_NBYTES = 4096
"""Up to this a copy costs less than a view of the array that may travel."""
_DENSE = int(Kind.DENSE)


def pack(key: Key | None, value: Value | Coded | Table, version: int = 0) -> tuple[Entry, Payload]:
    """A value as an entry and its bytes: a copy if it is small, else views of its memory, where that is contiguous."""
    dtype = dtype_from_numpy(value.dtype)
    if type(value) is np.ndarray and value.nbytes <= COPIED_NBYTES:
        return new_entry((key, _DENSE, dtype, value.shape, 0, value.nbytes, 0, 0, version)), value.tobytes()
    if isinstance(value, Coded):
        packed = value.packed
        return Entry(key, Kind.CODED, dtype, value.shape, 0, packed.size, version=version), array_bytes(packed)
    if isinstance(value, Table):
        text = json.dumps(value.initialiser.to_dict(), separators=(",", ":")).encode()
        return Entry(key, Kind.INITIALISER, dtype, value.shape, 0, len(text), version=version), text
    if isinstance(value, RowSparse):
        indices = np.ascontiguousarray(value.indices, np.int64)
        values = np.ascontiguousarray(value.values)
        payload = (array_bytes(indices), array_bytes(values))
        nbytes = indices.nbytes + values.nbytes
        return Entry(key, Kind.ROWS, dtype, value.shape, len(indices), nbytes, version=version), payload
    # Not ascontiguousarray alone: that would make an array of shape (1,) of one of shape ().
    array = value if value.flags.c_contiguous else np.ascontiguousarray(value)
    return Entry(key, Kind.DENSE, dtype, value.shape, 0, array.nbytes, version=version), array_bytes(array)


def staging(nbytes: int) -> Buffer:
    """Fresh memory for a payload, aligned so that an array of any dtype can be made of it.

    Raises:
        BackendUnavailable: there is not that much.
    """
    try:
        return array_bytes(empty((nbytes,), np.dtype(np.uint8)))
    except MemoryError as error:
        raise BackendUnavailable(f"there is no memory for a tensor of {nbytes} bytes") from error


def initial_from(entry: Entry, data: Payload) -> Value | Table:
    """What an entry of Init brings: a value as of `value_from`, or the description of a table.

    Raises:
        InvalidArgument: it describes none. And what `value_from` raises.
    """
    if entry.kind != Kind.INITIALISER or not isinstance(data, (bytes, bytearray, memoryview)):
        return value_from(entry, data)
    try:
        description: Any = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the description of an initialiser is no JSON: {error}") from None
    return Table(entry.shape, dtype_to_numpy(entry.dtype), from_dict(description))


def array_from(entry: Entry, data: Payload) -> np.ndarray:
    """The array that a dense entry brings. Raises as `value_from`."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ProtocolError(f"an entry for key {entry.key!r} brings no bytes")
    return np.ndarray(entry.shape, dtype_to_numpy(entry.dtype), data)


def value_from(entry: Entry, data: Payload) -> Value:
    """The value that an entry brings; it uses the memory of `data`.

    Raises:
        DTypeMismatch: this side has no such dtype. ProtocolError: the entry brings none. RowOutOfRange.
    """
    if entry.kind == _DENSE:
        return array_from(entry, data)
    if entry.kind == Kind.ROWS and isinstance(data, (bytes, bytearray, memoryview)):
        cut = entry.rows * 8
        view = memoryview(data)
        indices = np.frombuffer(view[:cut], np.int64)
        shape = (entry.rows, *entry.shape[1:])
        return RowSparse(indices, np.ndarray(shape, dtype_to_numpy(entry.dtype), view[cut:]), entry.shape)
    raise ProtocolError(f"an entry of kind {entry.kind} for key {entry.key!r} brings no value")
