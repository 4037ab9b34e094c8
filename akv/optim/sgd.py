"""Stochastic gradient descent, and the rule that MXNet's own tests use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from akv.optim import loops
from akv.optim.base import Optimizer
from akv.optim.blocks import Formula
from akv.optim.gradients import clipped
from akv.optim.parameters import FRACTION, flag, number
from akv.optim.registry import register
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.values.keys import Key

__all__ = ["MOMENTUM", "PLAIN", "SGD", "Test", "descent"]


def descend(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    bound: float,
    wd: float,
) -> None:
    """weight -= rate * grad (clipped to bound) + wd * weight."""
    step = scratch[0]
    np.multiply(grad, rate, out=step)
    step = clipped(step, bound, step)
    if wd:
        np.multiply(weight, 1.0 - wd, out=weight)
    np.subtract(weight, step, out=weight)


def descend_with_momentum(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    bound: float,
    wd: float,
    momentum: float,
) -> None:
    """m = momentum * m - rate * grad (clipped to bound) - wd * weight; weight += m."""
    (m,), step = state, scratch[0]
    np.multiply(m, momentum, out=m)
    np.multiply(grad, rate, out=step)
    np.subtract(m, clipped(step, bound, step), out=m)
    if wd:
        np.multiply(weight, wd, out=step)
        np.subtract(m, step, out=m)
    np.add(weight, m, out=weight)


def add(weight: Array, grad: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], rescale: float) -> None:
    """weight += rescale * grad; the state becomes a copy of the weight."""
    (copy,) = state
    np.multiply(grad, rescale, out=copy)
    np.add(weight, copy, out=weight)
    np.copyto(copy, weight)


def descent(optimizer: Optimizer, rate: float, wd: float) -> tuple[float, float, float]:
    """The scalars (rate, bound, wd) of the formulas above.

    The rate goes into the other factors, which saves a pass: lr * clip(g, c) is clip(lr * g, lr * c).
    """
    bound = math.inf if optimizer.clip_gradient is None else rate * optimizer.clip_gradient
    return rate * optimizer.rescale_grad, bound, rate * wd


PLAIN = Formula(descend, loops.descend, scratch=1)
MOMENTUM = Formula(descend_with_momentum, loops.descend_with_momentum, scratch=1)
_ADD = Formula(add, loops.add)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay.

        g = clip(rescale_grad * grad, clip_gradient) + wd * weight
        m = momentum * m - lr * g
        weight += m

    Without momentum there is no state. lazy_update: a row-sparse gradient touches only its own rows, momentum too.
    MXNet 1.9: src/operator/optimizer_op-inl.h, sgd_update and sgd_mom_update.
    """

    name: ClassVar[str] = "sgd"

    momentum: float = number(0.0, FRACTION)
    lazy_update: bool = flag(True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    @property
    def formula(self) -> Formula:
        return MOMENTUM if self.momentum else PLAIN

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        folded = descent(self, self.rate(key, count, settings), self.decay(key, settings))
        return (*folded, self.momentum) if self.momentum else folded


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Test(Optimizer):
    """weight += rescale_grad * grad, and nothing else; the state is a copy of the weight.

    MXNet's `mx.optimizer.Test`, with which its own key-value store tests are written.
    """

    __test__: ClassVar[bool] = False  # not a test case, whatever pytest thinks of the name
    name: ClassVar[str] = "test"

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("weight",)

    @property
    def formula(self) -> Formula:
        return _ADD

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        return (self.rescale_grad,)
