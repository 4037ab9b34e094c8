"""How a formula runs over arrays: in blocks that stay in cache, in float32 or float64, without garbage.

A formula is `formula(weight, grad, state, scratch, *scalars)`. It changes `weight` and the arrays of `state` in
place, never writes to `grad`, and may use the arrays of `scratch`, whose contents are unknown. All arrays it sees are
flat and have one size and one dtype, float32 or float64. Formulas use ufuncs with `out=` alone, so they suit any
array type that answers numpy's ufuncs, as CuPy's does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from akv.errors import InvalidArgument, ShapeMismatch
from akv.optim.compiled import compiled
from akv.optim.scratch import Array, quietly, take
from akv.values.dtypes import DType, accumulator

__all__ = ["BLOCK", "FLOATS", "Array", "Formula", "Kernel", "flat", "kernel"]

Kernel = Callable[[Array, Array, tuple[Array, ...]], None]

# Elements that a formula sees at a time. Measured for float32 and 64 MiB on a Zen 4 core, relative to 256 Ki: SGD with
# momentum 1.13 with blocks of 64 Ki and 1.5 with 16 Ki, 2.3 uncut; Adam 1.09, 1.35 and 4.
BLOCK = 1 << 18

# What formulas calculate in.
FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})

# Compiled loops check no bounds, so this is done before.
_SIZES = "a weight of {} elements cannot be updated with a gradient or state of {}"
_STRIDED = "a weight and its state must be C-contiguous to be updated in place, not of strides {} and shape {}"


@dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """The arithmetic of one optimizer, the same as a loop for numba, and how many scratch arrays it needs."""

    apply: Callable[..., None]
    loop: Callable[..., None] | None = None
    scratch: int = 0


@cache
def fastest(formula: Formula, dtype: DType) -> Formula:
    """The formula with its compiled loop in the place of its ufuncs, where there is numba."""
    loop = compiled(formula.loop, dtype) if formula.loop else None
    if loop is None:
        return formula

    def apply(weight: Array, grad: Array, state: Sequence[Array], scratch: object, *scalars: object) -> None:
        loop(weight, grad, *state, *scalars)

    return replace(formula, apply=apply, scratch=0)


def flat(array: Array) -> Any:
    """The elements of `array` in C order, sliceable: a view, or of a strided array `.flat`, whose slices are copies."""
    if not array.flags.c_contiguous:
        return array.flat
    return array.reshape(-1)


def kernel(formula: Formula, scalars: tuple[object, ...], master: bool, writes: bool = True) -> Kernel:
    """A formula with its scalars as a function on whole arrays or slices of any size.

    master: the state of a float16 or bfloat16 weight begins with its float32 copy. writes: the formula changes the
    weight.
    """
    return partial(quietly, _apply, formula, scalars, master, writes)


def _apply(
    formula: Formula,
    scalars: tuple[object, ...],
    master: bool,
    writes: bool,
    weight: Array,
    grad: Array,
    state: Sequence[Array],
) -> None:
    size, dtype = weight.size, weight.dtype
    if grad.size != size:
        raise ShapeMismatch(_SIZES.format(size, grad.size))
    weight, *parts = [
        # Most are so; a call for each would take 0.1 us.
        array if array.ndim == 1 and array.size == size and array.flags.c_contiguous else _flat_in_place(array, size)
        for array in (weight, *state)
    ]
    if size > BLOCK:
        _apply_blocks(formula, scalars, master, writes, weight, flat(grad), parts)
        return
    if grad.ndim != 1 or not grad.flags.c_contiguous:
        grad = grad.ravel()  # a copy if it is strided
    if dtype == grad.dtype and dtype in FLOATS:
        fast = fastest(formula, dtype)
        fast.apply(weight, grad, parts, take(fast.scratch, dtype, size) if fast.scratch else (), *scalars)
    else:
        _apply_wider(formula, scalars, master, writes, weight, grad, parts)


def _flat_in_place(array: Array, size: int) -> Array:
    if array.size != size:
        raise ShapeMismatch(_SIZES.format(size, array.size))
    if not array.flags.c_contiguous:
        raise InvalidArgument(_STRIDED.format(array.strides, array.shape))
    return array.reshape(-1)


def _apply_blocks(
    formula: Formula,
    scalars: tuple[object, ...],
    master: bool,
    writes: bool,
    weight: Array,
    grad: Any,
    state: list[Array],
) -> None:
    for start in range(0, weight.size, BLOCK):
        part = slice(start, start + BLOCK)
        _apply(formula, scalars, master, writes, weight[part], grad[part], [array[part] for array in state])


def _apply_wider(
    formula: Formula,
    scalars: tuple[object, ...],
    master: bool,
    writes: bool,
    weight: Array,
    grad: Array,
    state: Sequence[Array],
) -> None:
    work = accumulator(weight.dtype)
    formula = fastest(formula, work)
    wide, grad_copy, *scratch = take(formula.scratch + 2, work, weight.size)
    np.copyto(grad_copy, grad, casting="same_kind")
    if work == weight.dtype:
        wide = weight
    elif master:
        wide, *state = state
    else:
        np.copyto(wide, weight)
    formula.apply(wide, grad_copy, state, scratch, *scalars)
    if writes and wide is not weight:
        np.copyto(weight, wide, casting="same_kind")
