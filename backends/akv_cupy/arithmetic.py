"""What a store calculates on its devices, as launches. All that is known of kernels is known here, and in `plain`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from akv.errors import DTypeMismatch
from akv.optim import loops
from akv.values.dtypes import NATIVE, DType, accumulator
from akv_cupy import kernels, plain
from akv_cupy.batch import SMALL, Small
from akv_cupy.device import Array
from akv_cupy.kernels import loops as more_loops

if TYPE_CHECKING:
    from akv_cupy.lane import Lane

__all__ = [
    "Kinds",
    "add_up",
    "can_add_up",
    "can_cast",
    "cast",
    "gather",
    "launch",
    "scatter",
    "total",
]

# A kernel for one tensor, and the same for many.
Kinds = tuple[kernels.Kernel, kernels.Kernel]

# By the number of arrays that are summed.
_SETS: Sequence[Any] = (
    None,
    more_loops.set_1,
    more_loops.set_2,
    loops.set_3,
    loops.set_4,
    more_loops.set_5,
    more_loops.set_6,
    more_loops.set_7,
    more_loops.set_8,
)


@cache
def has_sums(dtype: DType) -> bool:
    """Whether there are kernels that add up values of this dtype."""
    try:
        kernels.sums(1, dtype)
    except DTypeMismatch:
        return False
    return True


def can_add_up(dtype: DType) -> bool:
    """Whether values of this dtype are summed on the device; others, such as float8, on the host."""
    return has_sums(dtype) or dtype in NATIVE


def can_cast(source: DType, target: DType) -> bool:
    """Whether the device can make the one of the other."""
    if source in NATIVE and target in NATIVE:
        return True
    return has_sums(source) and has_sums(target) and accumulator(source) == accumulator(target)


def cast(lane: Lane, source: Array, target: Array) -> None:
    """target = source as its dtype; strided ones of equal dtypes, or of numpy's own."""
    if source.dtype == target.dtype:
        source, target = source.as_bits(), target.as_bits()
    lane.launch(target.device, _cast_kernel(source, target), target.size, target, source)


def _cast_kernel(source: Array, target: Array) -> Any:
    if {source.dtype, target.dtype} <= NATIVE or source.strides is not None or target.strides is not None:
        return plain.CAST
    if target.dtype == accumulator(source.dtype):
        return kernels.sums(1, source.dtype, target.dtype)
    return kernels.kernel(more_loops.set_1, target.dtype, a=source.dtype)


def add_up(lane: Lane, parts: Sequence[Array], target: Array) -> None:
    """target = ((parts[0] + parts[1]) + parts[2]) + ..., small floats in float32 and rounded once."""
    dtype = parts[0].dtype
    if not has_sums(dtype):
        lane.launch(target.device, plain.TOTAL, target.size, target, *parts)
        return
    some, rest = parts[: kernels.MOST_SUMMED], parts[kernels.MOST_SUMMED :]
    sum_ = lane.empty(target.device, target.shape, accumulator(dtype)) if rest else target
    launch(lane, _summing(len(some), dtype, sum_.dtype), (sum_, *some))
    while rest:
        some, rest = rest[: kernels.MOST_SUMMED - 1], rest[kernels.MOST_SUMMED - 1 :]
        out = sum_ if rest else target
        launch(lane, _summing(len(some) + 1, dtype, out.dtype, sum_.dtype), (out, sum_, *some))


@cache
def _summing(count: int, dtype: DType, out: DType, first: DType | None = None) -> Kinds:
    loop, first = _SETS[count], dtype if first is None else first
    return kernels.kernel(loop, dtype, out=out, a=first), kernels.many(loop, dtype, out=out, a=first)


def launch(lane: Lane, kinds: Kinds, arguments: tuple[Any, ...]) -> None:
    """Have a kernel go over arrays like the first argument, together with others if they are small."""
    (one, many), like = kinds, arguments[0]
    if like.size > SMALL:
        lane.launch(like.device, one, like.size, *arguments)
    elif like.size:
        lane.launch_small(like.device, Small(one, many, like.size, arguments))


def total(lane: Lane, parts: Sequence[Array]) -> Array:
    """The sum, only to be read: a single part itself, else fresh, in the dtype that sums are made in."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    fresh = lane.empty(first.device, first.shape, accumulator(first.dtype))
    add_up(lane, parts, fresh)
    return fresh


def gather(lane: Lane, table: Array, ids: Array) -> Array:
    """The rows with these ids (int64, in the table), fresh."""
    rows = lane.empty(table.device, (ids.size, *table.shape[1:]), table.dtype)
    into, source, width = _as_words(rows), _as_words(table), _width(rows, ids)
    lane.launch(table.device, kernels.gather(into.dtype, width), rows.size and ids.size, into, source, ids, width)
    return rows


def scatter(lane: Lane, rows: Array, ids: Array, table: Array) -> None:
    """Put rows where they belong; each id stands once."""
    into, source, width = _as_words(table), _as_words(rows), _width(rows, ids)
    lane.launch(table.device, kernels.scatter(into.dtype, width), rows.size and ids.size, into, source, ids, width)


def _as_words(array: Array) -> Array:
    """The bytes as unsigned integers: nothing is calculated with them."""
    return array.seen_as(np.dtype(f"u{min(array.dtype.itemsize, 8)}"))


def _width(rows: Array, ids: Array) -> int:
    """How many words a row has."""
    return max(1, _as_words(rows).size // max(1, ids.size))
