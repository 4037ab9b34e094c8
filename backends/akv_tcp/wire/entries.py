"""Entries: what a message says of one key. An entry is itself the positional list that goes over the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import partial
from itertools import repeat
from math import prod
from typing import Any, Final, NamedTuple

from .dtypes import ITEMSIZE, DType
from .limits import MAX_DIMS, MAX_KEY, MAX_TEXT

__all__ = ["Entry", "Kind", "bare_entries", "check_entry", "new_entry", "rows_nbytes"]

_WIDTH: Final = 9


class Kind(IntEnum):
    """What bytes an entry brings along."""

    NONE = 0
    """None; dtype and shape, if given, only describe."""
    DENSE = 1
    """The elements in C order."""
    ROWS = 2
    """`rows` int64 indices, then as many rows of the table whose shape is given."""
    CODED = 3
    """The output of the compression that the job agreed on; dtype and shape are those of the decoded tensor."""
    INITIALISER = 4
    """A JSON object that describes what the rows of a table of this dtype and shape begin with."""


class Entry(NamedTuple):
    """One key of a message. A named tuple, because a batch holds thousands and msgpack packs it as it stands.

    `key`: str, int64, or None where an answer follows the order of its request. `kind`: a `Kind`. `dtype`: a `DType`.
    `shape`: of the tensor, or of the whole table for ROWS. `rows`: for ROWS, how many. `nbytes`: bytes that come along.
    `number`: the push's number within (session, key, part), 0 for none. `part`: the shard's part of the key.
    `version`: asked for (at least), or answered; 0 for none.
    """

    key: str | int | None
    kind: int = 0
    dtype: int = 0
    shape: tuple[int, ...] = ()
    rows: int = 0
    nbytes: int = 0
    number: int = 0
    part: int = 0
    version: int = 0


new_entry: Final[Callable[[Iterable[Any]], Entry]] = partial(tuple.__new__, Entry)
"""An entry of its nine values: a third of the time of a call of the class, and half of that of `Entry._make`."""

_SAYS_NOTHING: Final = tuple(map(repeat, Entry(None)[1:-1]))


def bare_entries(keys: Iterable[str | int], versions: Iterable[int]) -> tuple[Entry, ...]:
    """Entries that say nothing but a key and a version, as many as the shorter has."""
    return tuple(map(new_entry, zip(keys, *_SAYS_NOTHING, versions, strict=False)))


def rows_nbytes(dtype: int, shape: tuple[int, ...], rows: int) -> int:
    """Bytes of `rows` indices and rows of a table of this shape."""
    return rows * (8 + ITEMSIZE[dtype] * prod(shape[1:]))


def check_entry(raw: Any) -> Entry:
    """The entry in `raw`, a tuple of nine. Raises ValueError saying what is wrong with it."""
    if type(raw) not in _RAW_TYPES or len(raw) != _WIDTH:
        raise ValueError(f"an entry is no list of {_WIDTH}")
    key, kind, dtype, shape, rows, nbytes, number, part, version = raw
    # Strict types: 64.0 == 64 and True == 1, but neither can count bytes.
    if not (type(rows) is type(nbytes) is type(number) is type(part) is type(version) is int):
        raise ValueError("rows, nbytes, number, part and version of an entry must be integers")
    # One test for ten bounds: a negative or a longer integer leaves something above bit 63.
    if (rows | nbytes | number | part | version) >> 64:
        raise ValueError("rows, nbytes, number, part and version of an entry must lie in 0..2**64-1")
    if type(kind) not in _KIND_TYPES or type(dtype) not in _DTYPE_TYPES or dtype not in ITEMSIZE:
        raise ValueError("an entry has a dtype that this side does not know, or a kind that is no integer")
    # A character has at most four bytes, so most keys need no encoding to be measured; answers leave them out.
    if key is not None and (type(key) is not str or len(key) > MAX_KEY // 4):
        _check_key(key)
    size = _span(shape, ITEMSIZE[dtype])
    due = size if kind == _DENSE else _due(kind, dtype, shape, rows, nbytes)
    if nbytes != due or (kind == _DENSE and (rows or not dtype)):
        raise ValueError(f"an entry of dtype {dtype}, shape {shape} and {rows} rows brings {nbytes} bytes; {due} due")
    return new_entry(raw)


def _check_key(key: object) -> None:
    if isinstance(key, str):
        if len(key.encode()) > MAX_KEY:
            raise ValueError(f"a key has more than {MAX_KEY} bytes")
    elif isinstance(key, int) and type(key) is not bool:
        if not -(2**63) <= key < 2**63:
            raise ValueError(f"the key {key} has more than 64 bits")
    else:
        raise ValueError(f"a key is a {type(key).__name__}, neither text nor a 64-bit integer")


def _span(shape: Any, itemsize: int) -> int:
    """Bytes of a dense tensor, in Python integers: numpy's product of (2**32, 2**32) is 0."""
    if type(shape) not in _SHAPE_TYPES or len(shape) > MAX_DIMS:
        raise ValueError(f"a shape is no list of at most {MAX_DIMS}")
    size = itemsize
    for dim in shape:
        if type(dim) is not int or dim < 0:
            raise ValueError("a dimension is no integer from 0 on")
        size *= dim or 1
    # Without the zeros, as numpy does it: it cannot make an array of shape (0, 2**62) of float32 either.
    if size >= 2**63:
        raise ValueError("a shape spans 2**63 bytes or more")
    return 0 if 0 in shape else size


def _due(kind: int, dtype: int, shape: tuple[int, ...], rows: int, nbytes: int) -> int:
    """Bytes that an entry must bring, if it is not dense."""
    if kind == Kind.ROWS and shape and dtype and rows <= shape[0]:
        return rows_nbytes(dtype, shape, rows)
    if kind == Kind.CODED and dtype and not rows:
        return nbytes
    if kind == Kind.INITIALISER and dtype and shape and not rows:
        return min(nbytes, MAX_TEXT)
    if kind == Kind.NONE and not rows:
        return 0
    raise ValueError(f"an entry of kind {int(kind)}, dtype {int(dtype)}, shape {shape} and {rows} rows makes no sense")


_DENSE: Final = int(Kind.DENSE)
_RAW_TYPES: Final = (tuple, Entry)
_SHAPE_TYPES: Final = (tuple,)
_KIND_TYPES: Final = (int, Kind)
_DTYPE_TYPES: Final = (int, DType)
