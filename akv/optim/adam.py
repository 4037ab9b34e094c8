"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from akv.optim import loops
from akv.optim.base import Optimizer
from akv.optim.blocks import Formula
from akv.optim.gradients import decayed, rescaled
from akv.optim.parameters import FRACTION, POSITIVE, flag, number
from akv.optim.registry import register
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.values.keys import Key

__all__ = ["Adam", "AdamW", "average", "correction", "moments"]


def average(value: Array, mean: Array, spare: Array, beta: float, out: Array | None = None) -> Array:
    """beta * mean + (1 - beta) * value, in `mean`, or in `out`."""
    out = mean if out is None else out
    np.multiply(mean, beta, out=out)
    np.multiply(value, 1.0 - beta, out=spare)
    return np.add(out, spare, out=out)


def moments(
    g: Array,
    state: Sequence[Array],
    spare: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    out: Sequence[Array | None] = (None, None),
) -> Array:
    """New mean and variance, in `state`, or in `out`; mean / (sqrt(var) + epsilon), in `spare`."""
    mean = average(g, state[0], spare, beta1, out[0])
    np.multiply(g, g, out=spare)
    var = average(spare, state[1], spare, beta2, out[1])
    np.sqrt(var, out=spare)
    np.add(spare, epsilon, out=spare)
    return np.divide(mean, spare, out=spare)


def adam(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    rescale: float,
    bound: float,
    wd: float,
) -> None:
    """g = clip(rescale * grad + wd * weight); moments; weight -= rate * mean / (sqrt(var) + epsilon)."""
    g = decayed(weight, grad, scratch[0], scratch[1], rescale, bound, wd)
    step = moments(g, state, scratch[1], beta1, beta2, epsilon)
    np.multiply(step, rate, out=step)
    np.subtract(weight, step, out=weight)


def adamw(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    rescale: float,
    bound: float,
    wd: float,
) -> None:
    """g = clip(rescale * grad); moments; weight = (1 - wd) * weight - rate * mean / (sqrt(var) + epsilon)."""
    g = rescaled(grad, scratch[0], rescale, bound)
    step = moments(g, state, scratch[1], beta1, beta2, epsilon)
    np.multiply(step, rate, out=step)
    if wd:
        np.multiply(weight, 1.0 - wd, out=weight)
    np.subtract(weight, step, out=weight)


_ADAM = Formula(adam, loops.adam, scratch=2)
_ADAMW = Formula(adamw, loops.adamw, scratch=2)


def correction(count: int, beta1: float, beta2: float) -> float:
    """What undoes the zeros that the moments started from, after `count` updates: Adam, section 2, last paragraph."""
    return math.sqrt(1.0 - beta2**count) / (1.0 - beta1**count)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Adam(Optimizer):
    """Adam (arXiv:1412.6980), with the weight decay inside the gradient.

        g = clip(rescale_grad * grad + wd * weight, clip_gradient)
        mean = beta1 * mean + (1 - beta1) * g
        var = beta2 * var + (1 - beta2) * g**2
        weight -= lr * sqrt(1 - beta2**t) / (1 - beta1**t) * mean / (sqrt(var) + epsilon)

    t is the number of the key's update. lazy_update: a row-sparse gradient touches only its own rows, moments too.
    MXNet 1.9: src/operator/optimizer_op-inl.h, adam_update.
    """

    name: ClassVar[str] = "adam"
    default_rate: ClassVar[float] = 0.001

    beta1: float = number(0.9, FRACTION)
    beta2: float = number(0.999, FRACTION)
    epsilon: float = number(1e-8, POSITIVE)
    lazy_update: bool = flag(True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("mean", "var")

    @property
    def formula(self) -> Formula:
        return _ADAM

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        rate = self.rate(key, count, settings) * correction(count, self.beta1, self.beta2)
        return rate, self.beta1, self.beta2, self.epsilon, self.rescale_grad, self.bound, self.decay(key, settings)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (arXiv:1711.05101).

        g = clip(rescale_grad * grad, clip_gradient)
        mean, var as in Adam
        weight -= lr * (sqrt(1 - beta2**t) / (1 - beta1**t) * mean / (sqrt(var) + epsilon) + wd * weight)

    correct_bias=False leaves the factor with t out, as BERT's optimizer does. MXNet 1.9 has the operator only,
    src/operator/contrib/adamw-inl.h; here its eta is the rate and its lr the factor with t.
    """

    name: ClassVar[str] = "adamw"
    default_rate: ClassVar[float] = 0.001

    beta1: float = number(0.9, FRACTION)
    beta2: float = number(0.999, FRACTION)
    epsilon: float = number(1e-8, POSITIVE)
    correct_bias: bool = flag(True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("mean", "var")

    @property
    def formula(self) -> Formula:
        return _ADAMW

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        lr = self.rate(key, count, settings)
        rate = lr * correction(count, self.beta1, self.beta2) if self.correct_bias else lr
        wd = lr * self.decay(key, settings)
        return rate, self.beta1, self.beta2, self.epsilon, self.rescale_grad, self.bound, wd
