"""Sums of several arrays: the reduction over devices and workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from akv.optim import loops
from akv.optim.blocks import BLOCK, FLOATS, flat
from akv.optim.compiled import compiled
from akv.optim.scratch import Array, quietly, take
from akv.values.dtypes import accumulator

__all__ = ["sum_into"]

# By the number of arrays that one pass takes.
_SET = {3: loops.set_3, 4: loops.set_4}
_ADD = {1: loops.add_1, 2: loops.add_2, 3: loops.add_3, 4: loops.add_4}

# Elements from which a compiled loop is worth its preparations; under that, and for two arrays, numpy is as fast.
_WORTHWHILE = 1 << 13


def sum_into(out: Array, values: Sequence[Array]) -> None:
    """Write ((values[0] + values[1]) + values[2]) + ... into `out`.

    out: any shape and strides, a numeric dtype; it may be values[0] itself, but share no memory with the others.
    values: at least one array, all of out's shape; read only, and not kept. Float16 and bfloat16 are added up in
    float32 and rounded once, at the end; integers wrap around, as numpy's do; the order is always the one given, so
    the result is the same bit by bit however `out` is cut into slices, with numba or without, and on every run.

    Several threads may sum disjoint slices at the same time.
    """
    onto = values[0] is out
    if onto and len(values) == 1:
        return
    quietly(_sum_block if out.size <= BLOCK else _sum_blocks, out, values[1:] if onto else values, onto)


def _sum_blocks(out: Array, values: Sequence[Array], onto: bool) -> None:
    target, sources = flat(out), [flat(value) for value in values]
    in_place = out.flags.c_contiguous
    for start in range(0, out.size, BLOCK):
        part = slice(start, start + BLOCK)
        total = target[part]  # of a strided array a copy
        _sum_block(total, [source[part] for source in sources], onto)
        if not in_place:
            target[part] = total


def _sum_block(out: Array, values: Sequence[Array], onto: bool) -> None:
    """Add `values` up, onto what is in `out` or in its place."""
    work = accumulator(out.dtype)
    if not onto and len(values) == 1:
        np.copyto(out, values[0], casting="same_kind")
    elif work != out.dtype:
        total = take(1, work, out.size)[0].reshape(out.shape)
        _add_up(total, [out, *values] if onto else values, onto=False)
        np.copyto(out, total, casting="same_kind")
    else:
        _add_up(out, values, onto)


def _add_up(total: Array, values: Sequence[Array], onto: bool) -> None:
    if total.size >= _WORTHWHILE and len(values) + onto > 2 and _suit_loops(total, values):
        _add_up_compiled(total.reshape(-1), [value.reshape(-1) for value in values], onto)
        return
    if not onto:
        # Without dtype= numpy would add two float16 arrays in float16 and widen the result.
        np.add(values[0], values[1], out=total, dtype=total.dtype, casting="same_kind")
        values = values[2:]
    for value in values:
        np.add(total, value, out=total, dtype=total.dtype, casting="same_kind")


def _suit_loops(total: Array, values: Sequence[Array]) -> bool:
    """Whether there are compiled loops for these arrays."""
    dtype = total.dtype
    return (
        dtype in FLOATS
        and total.flags.c_contiguous
        and all(value.dtype == dtype and value.flags.c_contiguous for value in values)
        and compiled(loops.add_1, dtype) is not None
    )


def _add_up_compiled(total: Array, values: Sequence[Array], onto: bool) -> None:
    done = 0
    while done < len(values):
        some = values[done : done + 4]
        loop = compiled((_ADD if onto or done else _SET)[len(some)], total.dtype)
        cast(Any, loop)(total, *some)
        done += len(some)
