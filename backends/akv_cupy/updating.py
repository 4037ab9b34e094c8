"""What updaters and optimizers do to a value on its device, as launches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from akv.errors import DTypeMismatch, InvalidArgument
from akv.optim import Optimizer
from akv.optim.layerwise import Layerwise
from akv.optim.updaters import ADD, Elementwise, OptimizerUpdater
from akv.values.dtypes import DType, accumulator
from akv.values.keys import Key
from akv_cupy import kernels, plain
from akv_cupy.arithmetic import Kinds, can_add_up, cast, has_sums, launch
from akv_cupy.device import Array
from akv_cupy.kernels import loops as more_loops
from akv_cupy.lane import Lane

__all__ = ["can_update", "create_state", "update"]

_FLOAT64 = np.dtype(np.float64)


def can_update(updater: Elementwise, dtype: DType) -> bool:
    """Whether there is a kernel for what an updater does to values of this dtype."""
    if isinstance(updater, OptimizerUpdater):
        return _has_kernels(updater.optimizer, dtype)
    return updater is ADD and can_add_up(dtype)


def _has_kernels(optimizer: Optimizer, dtype: DType) -> bool:
    try:
        _kernel(optimizer, dtype, dtype)
        if isinstance(optimizer, Layerwise):
            _norms_kernel(optimizer, dtype, dtype)
    except (DTypeMismatch, InvalidArgument, kernels.NotTranslatable):
        return False
    return True


def update(
    lane: Lane, updater: Elementwise, key: Key, count: int, stored: Array, pushed: Array, state: Sequence[Array]
) -> None:
    """What the updater does at the count-th push, in place."""
    if isinstance(updater, OptimizerUpdater):
        optimizer = updater.optimizer
        numbers = _numbers(lane, updater, key, count, stored, pushed, state)
        kinds = _kernel(optimizer, stored.dtype, pushed.dtype)
        launch(lane, kinds, (stored, pushed, *state, *numbers))
    elif has_sums(stored.dtype):
        launch(lane, _adding(stored.dtype, pushed.dtype), (stored, stored, pushed))
    else:
        lane.launch(stored.device, plain.ADD, stored.size, stored, pushed)


def _numbers(
    lane: Lane, updater: OptimizerUpdater, key: Key, count: int, stored: Array, pushed: Array, state: Sequence[Array]
) -> tuple[float, ...]:
    """What the formula takes; where that depends on norms, waits for them."""
    optimizer, settings = updater.optimizer, updater.settings
    if not isinstance(optimizer, Layerwise):
        return optimizer.scalars(key, count, settings)
    # Each block of threads adds to two numbers of its own; they are added up here, always in the same order.
    squares = lane.empty(stored.device, (2 * kernels.SUM_BLOCKS,), _FLOAT64)
    lane.clear(squares)
    measured = (stored, pushed, *state)
    if _has_master(optimizer, stored.dtype):
        measured = (state[0], pushed, *state[1:])
    kernel = _norms_kernel(optimizer, stored.dtype, pushed.dtype)
    taken = _norms_state(optimizer, measured)
    numbers = optimizer.norms_scalars(key, count, settings)
    lane.launch(stored.device, kernel, stored.size, *taken, *numbers, squares)
    norms = lane.fetch(squares).reshape(-1, 2).sum(axis=0)
    return optimizer.scalars(key, count, settings, optimizer.ratio(key, settings, norms))


def _norms_state(optimizer: Layerwise, arrays: Sequence[Array]) -> Sequence[Array]:
    """The arrays that the norms are taken of."""
    return arrays[:2] if optimizer.norms_formula.loop is None else arrays


def _has_master(optimizer: Optimizer, dtype: DType) -> bool:
    return optimizer.multi_precision and accumulator(dtype) != dtype


@cache
def _adding(dtype: DType, pushed: DType) -> Kinds:
    return (
        kernels.kernel(more_loops.set_2, dtype, b=pushed),
        kernels.many(more_loops.set_2, dtype, b=pushed),
    )


@cache
def _kernel(optimizer: Optimizer, dtype: DType, grad: DType) -> Kinds:
    loop, master = kernels.loop_of(optimizer.formula), _has_master(optimizer, dtype)
    return kernels.kernel(loop, dtype, master=master, grad=grad), kernels.many(loop, dtype, master=master, grad=grad)


@cache
def _norms_kernel(optimizer: Layerwise, dtype: DType, grad: DType) -> kernels.Kernel:
    return kernels.kernel(
        kernels.loop_of(optimizer.norms_formula), dtype, master=_has_master(optimizer, dtype), grad=grad
    )


def create_state(lane: Lane, updater: Elementwise, stored: Array) -> tuple[Array, ...]:
    """The arrays that the updater keeps beside a value, as akv.optim makes them."""
    # Of no elements, it shows how many there are and of which dtypes.
    shown = updater.create_state(np.empty(0, stored.dtype))
    state = tuple([lane.empty(stored.device, stored.shape, array.dtype) for array in shown])
    master = isinstance(updater, OptimizerUpdater) and _has_master(updater.optimizer, stored.dtype)
    for place, array in enumerate(state):
        if place == 0 and master:
            cast(lane, stored, array)
        else:
            lane.clear(array)
    return state
