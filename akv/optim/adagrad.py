"""AdaGrad and AdaDelta: steps scaled by the gradients an element has seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from akv.optim import loops
from akv.optim.adam import average
from akv.optim.base import Optimizer
from akv.optim.blocks import Formula
from akv.optim.gradients import rescaled
from akv.optim.parameters import FRACTION, POSITIVE, number
from akv.optim.registry import register
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.values.keys import Key

__all__ = ["AdaDelta", "AdaGrad"]


def adagrad(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    epsilon: float,
    rescale: float,
    bound: float,
    wd: float,
) -> None:
    """g = clip(rescale * grad); history += g**2; weight -= rate * g / sqrt(history + epsilon) + wd * weight."""
    (history,), step = state, scratch[1]
    g = rescaled(grad, scratch[0], rescale, bound)
    np.multiply(g, g, out=step)
    np.add(history, step, out=history)
    np.add(history, epsilon, out=step)
    np.sqrt(step, out=step)
    np.divide(g, step, out=step)
    np.multiply(step, rate, out=step)
    if wd:
        np.multiply(weight, 1.0 - wd, out=weight)
    np.subtract(weight, step, out=weight)


def adadelta(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    rho: float,
    epsilon: float,
    rescale: float,
    bound: float,
    wd: float,
) -> None:
    """Averages of g**2 and delta**2; delta = sqrt((deltas + epsilon) / (grads + epsilon)) * g; weight -= ..."""
    (grads, deltas), delta, spare = state, scratch[1], scratch[2]
    g = rescaled(grad, scratch[0], rescale, bound)
    np.multiply(g, g, out=delta)
    average(delta, grads, spare, rho)
    np.add(deltas, epsilon, out=delta)
    np.add(grads, epsilon, out=spare)
    np.divide(delta, spare, out=delta)
    np.sqrt(delta, out=delta)
    np.multiply(delta, g, out=delta)
    np.multiply(delta, delta, out=spare)
    average(spare, deltas, spare, rho)
    np.multiply(delta, rate, out=delta)
    if wd:
        np.multiply(weight, 1.0 - wd, out=weight)
    np.subtract(weight, delta, out=weight)


_ADAGRAD = Formula(adagrad, loops.adagrad, scratch=2)
_ADADELTA = Formula(adadelta, loops.adadelta, scratch=3)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan, Singer, JMLR 12, 2011), with decoupled weight decay.

        g = clip(rescale_grad * grad, clip_gradient)
        history += g**2
        weight -= lr * (g / sqrt(history + eps) + wd * weight)

    A row-sparse gradient touches only its own rows. MXNet 1.9: python/mxnet/optimizer/optimizer.py, AdaGrad (which
    refuses weight decay with row-sparse gradients).
    """

    name: ClassVar[str] = "adagrad"

    eps: float = number(1e-7, POSITIVE)
    lazy_update: bool = field(default=True, init=False)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("history",)

    @property
    def formula(self) -> Formula:
        return _ADAGRAD

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        lr = self.rate(key, count, settings)
        return lr, self.eps, self.rescale_grad, self.bound, lr * self.decay(key, settings)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaDelta(Optimizer):
    """AdaDelta (arXiv:1212.5701), with decoupled weight decay.

        g = clip(rescale_grad * grad, clip_gradient)
        grads = rho * grads + (1 - rho) * g**2
        delta = sqrt(deltas + epsilon) / sqrt(grads + epsilon) * g
        deltas = rho * deltas + (1 - rho) * delta**2
        weight -= lr * (delta + wd * weight)

    MXNet 1.9: python/mxnet/optimizer/optimizer.py, AdaDelta, which knows no learning rate; the default of 1 is its
    formula, and lets schedules and multipliers work.
    """

    name: ClassVar[str] = "adadelta"
    default_rate: ClassVar[float] = 1.0

    rho: float = number(0.9, FRACTION)
    epsilon: float = number(1e-5, POSITIVE)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("grads", "deltas")

    @property
    def formula(self) -> Formula:
        return _ADADELTA

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        lr = self.rate(key, count, settings)
        return lr, self.rho, self.epsilon, self.rescale_grad, self.bound, lr * self.decay(key, settings)
