"""Element types by number. No text of a peer ever becomes a dtype.

numpy lacks bfloat16 and float8; ml_dtypes brings them (`akv-store[bf16]`). Their sizes are known here without it, so a
peer without ml_dtypes can still check, store and forward such tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

import numpy as np

from akv.errors import DTypeMismatch

__all__ = ["ITEMSIZE", "DType", "dtype_from_numpy", "dtype_to_numpy"]


class DType(IntEnum):
    """The number of an element type on the wire; elements are little-endian."""

    NONE = 0
    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    UINT8 = 6
    UINT16 = 7
    UINT32 = 8
    UINT64 = 9
    FLOAT16 = 10
    FLOAT32 = 11
    FLOAT64 = 12
    COMPLEX64 = 13
    COMPLEX128 = 14
    BFLOAT16 = 15
    FLOAT8_E4M3FN = 16
    FLOAT8_E5M2 = 17
    FLOAT8_E4M3FNUZ = 18
    FLOAT8_E5M2FNUZ = 19


ITEMSIZE: Final[dict[int, int]] = dict(
    zip(map(int, DType), (0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 8, 16, 2, 1, 1, 1, 1), strict=True)
)
"""Bytes of one element, by number."""


def _little(native: np.dtype[Any]) -> np.dtype[Any]:
    """The wire's dtype: where that is the machine's, the very object that arrays have, so that `is` finds it."""
    return native if sys.byteorder == "little" else native.newbyteorder("<")


class _ByNumber(dict[int, "np.dtype[Any]"]):
    def __missing__(self, code: int) -> np.dtype[Any]:
        _learn_extensions()
        if code in self:
            return self[code]
        if DType.BFLOAT16 <= code <= DType.FLOAT8_E5M2FNUZ:
            raise DTypeMismatch(f"dtype {DType(code).name.lower()} needs ml_dtypes: pip install ml_dtypes")
        raise DTypeMismatch(f"no dtype has the number {int(code)}")


class _Numbers(dict["np.dtype[Any]", int]):
    def __missing__(self, dtype: np.dtype[Any]) -> int:
        _learn_extensions()
        if dtype in self:
            return self[dtype]
        names = ", ".join(code.name.lower() for code in DType if code)
        raise DTypeMismatch(f"dtype {dtype!r} does not travel; little-endian {names} do")


_NUMPY: Final = _ByNumber(
    {
        int(code): _little(np.dtype(getattr(np, "bool_" if code is DType.BOOL else code.name.lower())))
        for code in DType
        if DType.NONE < code < DType.BFLOAT16
    }
)
_CODES: Final = _Numbers({dtype: code for code, dtype in _NUMPY.items()})


def _learn_extensions() -> None:
    try:
        import ml_dtypes
    except ImportError:
        return
    for code in DType:
        if code >= DType.BFLOAT16:
            dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, code.name.lower()))
            _NUMPY[code], _CODES[dtype] = dtype, int(code)


# Look-ups and no functions of their own: they are needed five times for each key of a call.
dtype_from_numpy: Final[Callable[[np.dtype[Any]], int]] = _CODES.__getitem__
"""The number of a numpy (or ml_dtypes) dtype. Raises DTypeMismatch for one that the wire does not carry."""

dtype_to_numpy: Final[Callable[[int], np.dtype[Any]]] = _NUMPY.__getitem__
"""The dtype of a number. Raises DTypeMismatch for an unknown number, and where ml_dtypes is needed and missing."""
