"""LAMB: Adam's step, as long as a fixed part of the weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from akv.optim import loops
from akv.optim.adam import correction, moments
from akv.optim.blocks import Formula
from akv.optim.gradients import rescaled
from akv.optim.layerwise import Layerwise
from akv.optim.parameters import FRACTION, POSITIVE, flag, number, optional_number
from akv.optim.registry import register
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.values.keys import Key

__all__ = ["LAMB"]


def lamb(
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
    correct: float,
) -> None:
    """step = correct * mean / (sqrt(var) + epsilon) + wd * weight; weight -= rate * step."""
    step = _step(weight, grad, state, state, scratch, beta1, beta2, epsilon, rescale, bound, wd, correct)
    np.multiply(step, rate, out=step)
    np.subtract(weight, step, out=weight)


def lamb_norms(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    beta1: float,
    beta2: float,
    epsilon: float,
    rescale: float,
    bound: float,
    wd: float,
    correct: float,
    squares: Array,
) -> None:
    """squares += [weight . weight, step . step], for the step that `lamb` is going to take."""
    step = _step(weight, grad, state, scratch[2:], scratch, beta1, beta2, epsilon, rescale, bound, wd, correct)
    squares[0] += np.vdot(weight, weight)
    squares[1] += np.vdot(step, step)


def _step(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    new_state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    beta1: float,
    beta2: float,
    epsilon: float,
    rescale: float,
    bound: float,
    wd: float,
    correct: float,
) -> Array:
    g = rescaled(grad, scratch[0], rescale, bound)
    step = moments(g, state, scratch[1], beta1, beta2, epsilon, new_state)
    np.multiply(step, correct, out=step)
    if wd:
        np.multiply(weight, wd, out=scratch[0])
        np.add(step, scratch[0], out=step)
    return step


_LAMB = Formula(lamb, loops.lamb, scratch=2)
_NORMS = Formula(lamb_norms, loops.lamb_norms, scratch=4)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class LAMB(Layerwise):
    """LAMB (arXiv:1904.00962, algorithm 2).

        g = clip(rescale_grad * grad, clip_gradient)
        mean, var as in Adam
        step = mean / (1 - beta1**t) / (sqrt(var / (1 - beta2**t)) + epsilon) + wd * weight
        weight -= lr * norm(weight) / norm(step) * step        (lr * step where a norm is 0)

    lower_bound, upper_bound: limits of norm(weight) in the ratio. bias_correction=False leaves the factors with t out.
    MXNet 1.9: src/operator/optimizer_op-inl.h, lamb_update_phase1 and lamb_update_phase2.
    """

    name: ClassVar[str] = "lamb"
    default_rate: ClassVar[float] = 0.001

    beta1: float = number(0.9, FRACTION)
    beta2: float = number(0.999, FRACTION)
    epsilon: float = number(1e-6, POSITIVE)
    lower_bound: float | None = optional_number(POSITIVE)
    upper_bound: float | None = optional_number(POSITIVE)
    bias_correction: bool = flag(True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("mean", "var")

    @property
    def formula(self) -> Formula:
        return _LAMB

    @property
    def norms_formula(self) -> Formula:
        return _NORMS

    def norms_scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        wd, correct, epsilon = self.decay(key, settings), 1.0, self.epsilon
        if self.bias_correction:
            # m / c1 / (sqrt(v / c2) + e) is sqrt(c2) / c1 * m / (sqrt(v) + e * sqrt(c2)), which saves two passes.
            correct = correction(count, self.beta1, self.beta2)
            epsilon *= math.sqrt(1.0 - self.beta2**count)
        return self.beta1, self.beta2, epsilon, self.rescale_grad, self.bound, wd, correct

    def scalars(self, key: Key, count: int, settings: Settings, ratio: float = 1.0) -> tuple[float, ...]:
        return self.rate(key, count, settings) * ratio, *self.norms_scalars(key, count, settings)

    def ratio(self, key: Key, settings: Settings, norms: Array) -> float:
        weight, step = math.sqrt(norms[0]), math.sqrt(norms[1])
        weight = max(weight, self.lower_bound or weight)
        weight = min(weight, self.upper_bound or weight)
        return weight / step if weight and step else 1.0
