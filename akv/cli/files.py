"""One array in a file, for `akv get` and `akv put`: .npy, or .safetensors, which keeps bfloat16 and float8 as well."""

from __future__ import annotations

import json
import math
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from akv.checkpoint.disk import bytes_of
from akv.checkpoint.layout import CODES, Tensor, dtype_named, lay_out
from akv.errors import InvalidArgument
from akv.values.dtypes import NATIVE, DType
from akv.values.keys import Key

__all__ = ["read_array", "write_array"]

_SAFE = ".safetensors"
_MOST_HEADER = 100_000_000  # which the format sets
_DTYPES = {code: name for name, code in CODES.items()}


def write_array(path: Path, key: Key, value: np.ndarray) -> None:
    """Write the file; in a .safetensors the array has the key's name.

    Raises:
        InvalidArgument: the name is that of another format, or a .npy cannot keep the dtype. OSError.
    """
    if path.suffix not in ("", ".npy", _SAFE):
        raise InvalidArgument(f"{path}: values are written as .npy or {_SAFE}; end the name so")
    if path.suffix == _SAFE:
        head = lay_out([Tensor((key, 0), value.dtype, value.shape)]).head
        with path.open("wb") as file:
            file.write(head)
            file.write(bytes_of(np.ascontiguousarray(value)))
        return
    if value.dtype not in NATIVE:
        raise InvalidArgument(f"a .npy file cannot keep {value.dtype}; end its name in {_SAFE}, as in -o FILE{_SAFE}")
    with path.open("wb") as file:  # by its name, numpy would add .npy
        np.save(file, value, allow_pickle=False)


def read_array(path: Path, key: Key) -> np.ndarray:
    """The array of a .npy file; of a .safetensors the one with the key's name, or the only one.

    Raises:
        InvalidArgument: it is no such file, or has several arrays and none of that name. OSError.
    """
    kind = _SAFE if path.suffix == _SAFE else ".npy"
    try:
        with path.open("rb") as file:
            # Not np.load: it takes other kinds of files, too, and its errors recommend pickle.
            return _read_safe(file, key) if kind == _SAFE else np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidArgument(f"{path} cannot be read as a {kind} file: {error}") from None


def _read_safe(file: BinaryIO, key: Key) -> np.ndarray:
    length = int.from_bytes(file.read(8), "little")
    header: Any = json.loads(file.read(min(length, _MOST_HEADER)))
    if not isinstance(header, dict):
        raise ValueError("it does not begin with a header")
    views = json.loads(header.pop("__metadata__", {}).get("views", "{}"))
    name = _chosen(list(header), Tensor((key, 0), np.dtype(np.uint8), ()).name)
    shape, (start, end) = tuple(header[name]["shape"]), header[name]["data_offsets"]
    dtype, begin = _dtype(header[name]["dtype"]), 8 + length
    if math.prod(shape) * dtype.itemsize != end - start or not 0 <= start <= end <= file.seek(0, SEEK_END) - begin:
        raise ValueError(f"{name!r:.80}, {dtype} {shape!r:.80}, does not lie in its bytes {start} to {end}")
    file.seek(begin + start)
    array = np.frombuffer(bytearray(file.read(end - start)), dtype).reshape(shape)
    return _viewed(array, views.get(name))


def _chosen(names: list[str], wanted: str) -> str:
    if wanted in names:
        return wanted
    if len(names) == 1:
        return names[0]
    raise ValueError(f"it has {len(names)} arrays, and none is called {wanted!r}: {', '.join(names):.200}")


def _dtype(code: str) -> DType:
    if code not in _DTYPES:
        raise ValueError(f"its dtype {code!r:.40} is none that a store can hold")
    return dtype_named(_DTYPES[code])


def _viewed(array: np.ndarray, name: str | None) -> np.ndarray:
    """The array as what it was before it was filed under a dtype that safetensors has."""
    if name is None:
        return array
    dtype = dtype_named(name)
    return array.view(dtype)[..., 0] if dtype == np.complex128 else array.view(dtype)
