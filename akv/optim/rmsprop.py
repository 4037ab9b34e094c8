"""RMSProp, plain and centered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from akv.optim import loops
from akv.optim.adam import average
from akv.optim.base import Optimizer
from akv.optim.blocks import Formula
from akv.optim.gradients import clipped, decayed
from akv.optim.parameters import FRACTION, POSITIVE, flag, number, optional_number
from akv.optim.registry import register
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.values.keys import Key

__all__ = ["RMSProp"]


def rmsprop(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    gamma1: float,
    epsilon: float,
    rescale: float,
    bound: float,
    wd: float,
    limit: float,
) -> None:
    """g = clip(rescale * grad + wd * weight); n averages g**2; weight -= rate * g / sqrt(n + epsilon)."""
    (n,), step, spare = state, scratch[1], scratch[2]
    g = decayed(weight, grad, scratch[0], spare, rescale, bound, wd)
    np.multiply(g, g, out=step)
    average(step, n, spare, gamma1)
    np.add(n, epsilon, out=step)
    np.sqrt(step, out=step)
    np.divide(g, step, out=step)
    np.multiply(step, rate, out=step)
    np.subtract(weight, step, out=weight)
    clipped(weight, limit, weight)


def rmsprop_centered(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    gamma1: float,
    epsilon: float,
    rescale: float,
    bound: float,
    wd: float,
    limit: float,
    gamma2: float,
) -> None:
    """The same with the variance of g for its mean square, and a momentum delta."""
    (n, mean, delta), step, spare = state, scratch[1], scratch[2]
    g = decayed(weight, grad, scratch[0], spare, rescale, bound, wd)
    np.multiply(g, g, out=step)
    average(step, n, spare, gamma1)
    average(g, mean, spare, gamma1)
    np.multiply(mean, mean, out=step)
    np.subtract(n, step, out=step)
    # Rounding makes the variance of a constant gradient negative, where MXNet takes a square root and gets NaN.
    np.maximum(step, 0.0, out=step)
    np.add(step, epsilon, out=step)
    np.sqrt(step, out=step)
    np.divide(g, step, out=step)
    np.multiply(step, rate, out=step)
    np.multiply(delta, gamma2, out=delta)
    np.subtract(delta, step, out=delta)
    np.add(weight, delta, out=weight)
    clipped(weight, limit, weight)


_PLAIN = Formula(rmsprop, loops.rmsprop, scratch=3)
_CENTERED = Formula(rmsprop_centered, loops.rmsprop_centered, scratch=3)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton, Coursera lecture 6, 2012), or centered (Graves, arXiv:1308.0850, 38-45).

        g = clip(rescale_grad * grad + wd * weight, clip_gradient)
        n = gamma1 * n + (1 - gamma1) * g**2
        weight -= lr * g / sqrt(n + epsilon)                                       plain
        mean = gamma1 * mean + (1 - gamma1) * g                                    centered
        delta = gamma2 * delta - lr * g / sqrt(n - mean**2 + epsilon)
        weight += delta

    clip_weights: weights are clipped to [-clip_weights, clip_weights] afterwards.
    MXNet 1.9: src/operator/optimizer_op-inl.h, rmsprop_update and rmspropalex_update.
    """

    name: ClassVar[str] = "rmsprop"
    default_rate: ClassVar[float] = 0.001

    gamma1: float = number(0.9, FRACTION)
    gamma2: float = number(0.9, FRACTION)
    epsilon: float = number(1e-8, POSITIVE)
    centered: bool = flag(False)
    clip_weights: float | None = optional_number(POSITIVE)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("n", "mean", "delta") if self.centered else ("n",)

    @property
    def formula(self) -> Formula:
        return _CENTERED if self.centered else _PLAIN

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        rate, limit = self.rate(key, count, settings), self.clip_weights or math.inf
        shared = (rate, self.gamma1, self.epsilon, self.rescale_grad, self.bound, self.decay(key, settings), limit)
        return (*shared, self.gamma2) if self.centered else shared
