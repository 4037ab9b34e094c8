"""The layout of a safetensors file, from what is in it: names, the header, where each array lies.

Not by the safetensors library: it wants all arrays in memory at once, as raw pointers, and syncs nothing (0.8.0). Its
rules are kept: 8 bytes with the header's length, the header as JSON padded to 8 bytes, the arrays without holes, those
with the largest elements first, at most 100 MB of header (safetensors/src/tensor.rs).
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from akv.errors import InvalidArgument
from akv.values.dtypes import NATIVE, DType, extended_dtype
from akv.values.keys import Key

__all__ = ["CODES", "ROW_IDS", "Layout", "Part", "Tensor", "dtype_named", "lay_out", "name_of", "place", "ranked"]

# What safetensors calls the dtypes that it has.
CODES = {
    "bool": "BOOL",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "bfloat16": "BF16",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    **{f"{sign}int{bits}": f"{sign.upper() or 'I'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_NAMED = {dtype.name: np.dtype(dtype.name) for dtype in NATIVE}
_MOST_HEADER = 100_000_000
_ESCAPE = "akv:json:"


# A key, and which of its arrays: 0 is the value, 1 the first of the optimizer's.
Part = tuple[Key, int]
# The row ids of a table; they lie in a file of their own, as its key says.
ROW_IDS = -1


@dataclass(frozen=True, slots=True)
class Tensor:
    """One array in a file: `nbytes` from `start`, counted from the beginning of the file."""

    part: Part
    dtype: DType
    shape: tuple[int, ...]
    start: int = 0

    @property
    def name(self) -> str:
        """The name of a key's value is the key; those of the optimizer's arrays go on with a slash and a number.

        So different parts have different names in their file: the last slash of a state's name is never the key's.
        """
        key, number = self.part
        return f"{_text(key)}/{number - 1}" if number > 0 else _text(key)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole file: what it begins with, then the tensors, in the order in which they lie there."""

    head: bytes
    tensors: Sequence[Tensor]
    nbytes: int


def lay_out(tensors: Iterable[Tensor]) -> Layout:
    """Where the tensors go; equal tensors in equal order give equal bytes.

    Raises:
        InvalidArgument: they are too many for one file.
    """
    if sys.byteorder != "little":
        raise InvalidArgument("checkpoints are little-endian, and this machine is not")
    ordered = ranked(tensors)
    head = _head(ordered)
    if len(head) - 8 > _MOST_HEADER:
        raise InvalidArgument(
            f"{len(ordered)} keys make a safetensors header of {len(head) - 8} bytes, the most is {_MOST_HEADER}; "
            "keep fewer keys in one store"
        )
    placed, nbytes = place(ordered, len(head))
    return Layout(head, placed, nbytes)


def ranked(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The order in which they lie in a file."""
    # Multiples of the element's size, all of them, so that every array is aligned when the file is mapped.
    return sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)


def place(tensors: Iterable[Tensor], start: int) -> tuple[list[Tensor], int]:
    """The tensors one after the other from `start` on, and where the last of them ends."""
    placed = []
    for tensor in tensors:
        placed.append(Tensor(tensor.part, tensor.dtype, tensor.shape, start))
        start += tensor.nbytes
    return placed, start


def _head(tensors: Sequence[Tensor]) -> bytes:
    views = {tensor.name: name_of(tensor.dtype) for tensor in tensors if name_of(tensor.dtype) not in CODES}
    kinds = {type(tensor.part[0]).__name__ for tensor in tensors}
    metadata = {"akv": "see akv-manifest.json", "keys": "".join(kinds), "views": json.dumps(views)}
    header: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for tensor in tensors:
        end = start + tensor.nbytes
        header[tensor.name] = {**_as_stored(tensor), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _as_stored(tensor: Tensor) -> dict[str, Any]:
    """Under which dtype and shape the bytes are filed.

    safetensors has no complex128: it becomes pairs of float64. The float8 kinds that it does not have become bytes.
    """
    if tensor.dtype == np.complex128:
        return {"dtype": "F64", "shape": [*tensor.shape, 2]}
    return {"dtype": CODES.get(name_of(tensor.dtype), "U8"), "shape": tensor.shape}


@functools.cache
def name_of(dtype: DType) -> str:
    """The dtype's name: numpy puts it together anew each time, which takes 3 us."""
    return dtype.name


def dtype_named(name: str) -> DType:
    """The dtype of a manifest's name. Raises DTypeMismatch: there is none, or it needs ml_dtypes."""
    return _NAMED[name] if name in _NAMED else extended_dtype(name, "checkpoint")


def _text(key: Key) -> str:
    """The key itself, but for the one name that the format keeps to itself and for text that is no Unicode."""
    name = str(key)
    plain = name != "__metadata__" and not name.startswith(_ESCAPE) and _is_unicode(name)
    return name if plain else _ESCAPE + json.dumps(name)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
