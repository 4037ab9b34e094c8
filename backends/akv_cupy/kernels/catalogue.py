"""Kernels that are known by what they do: sums, and rows of tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from akv.errors import DTypeMismatch, InvalidArgument
from akv.optim import loops as formulas
from akv.values.dtypes import DType
from akv_cupy.kernels import loops
from akv_cupy.kernels.description import THREADS, Kernel
from akv_cupy.kernels.making import kernel

__all__ = ["MOST_SUMMED", "gather", "scatter", "sum_segments", "sums", "threads_for"]

#: So many arrays are summed in one launch.
MOST_SUMMED = 8

_SUMS: dict[int, Callable[..., None]] = {
    1: loops.set_1,
    2: loops.set_2,
    3: formulas.set_3,
    4: formulas.set_4,
    5: loops.set_5,
    6: loops.set_6,
    7: loops.set_7,
    8: loops.set_8,
}


def sums(count: int, dtype: DType, out: DType | None = None) -> Kernel:
    """out = a + b + c + ..., of 1 to MOST_SUMMED arrays of one dtype, in the order given: (out, a, b, ...).

    `out` may be one of the arrays. Float16 and bfloat16 are summed in float32, and rounded once at the end unless
    out=float32; integers wrap around. More arrays: sum the first eight into a float32 or equal `out`, then `out` and
    the next seven.

    Raises InvalidArgument for another count, DTypeMismatch for bool, complex and float8.
    """
    if count not in _SUMS:
        raise InvalidArgument(f"1 to {MOST_SUMMED} arrays are summed in a launch, not {count}")
    return kernel(_SUMS[count], dtype, out=np.dtype(dtype if out is None else out))


def gather(dtype: DType, width: int) -> Kernel:
    """(out, table, rows, width): out[r] = table[rows[r]]; size is the number of rows. No row is checked.

    dtype: any of 1, 2, 4 or 8 bytes, since nothing is calculated; complex128 is float64 of twice the width.
    """
    return kernel(loops.gather, _same_bytes(np.dtype(dtype)), threads=threads_for(width))


def scatter(dtype: DType, width: int, *, add: bool = False, values: DType | None = None) -> Kernel:
    """(out, values, rows, width): out[rows[r]] = values[r], or += values[r]; each row at most once, none is checked.

    add=True takes real dtypes, and values of another one; otherwise dtype is as for `gather`.
    """
    if not add:
        return kernel(loops.scatter, _same_bytes(np.dtype(dtype)), threads=threads_for(width))
    given = np.dtype(dtype if values is None else values)
    return kernel(loops.scatter_add, dtype, threads=threads_for(width), values=given)


def sum_segments(dtype: DType, width: int, out: DType | None = None) -> Kernel:
    """(out, values, order, starts, ends, width): duplicates summed, as `RowSparse.canonical` does.

    order: the places of the rows sorted by id, stable; starts, ends: where each id's places begin and end in it; size
    is the number of ids. Float16 and bfloat16 are summed in float32, and rounded once unless out=float32.
    """
    return kernel(loops.sum_segments, dtype, threads=threads_for(width), out=np.dtype(dtype if out is None else out))


def threads_for(width: int) -> int:
    """Per block, for rows of this width: a power of two, a warp at least."""
    return min(max(32, 1 << (width - 1).bit_length()), THREADS)


def _same_bytes(dtype: DType) -> DType:
    if dtype.itemsize not in (1, 2, 4, 8):
        raise DTypeMismatch(f"rows of {dtype} are not moved: view them as elements of 1, 2, 4 or 8 bytes")
    return np.dtype(f"u{dtype.itemsize}")
