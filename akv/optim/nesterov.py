"""Nesterov's accelerated gradient, for gradients and for what workers changed in many local steps (DiLoCo)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from akv.optim import loops
from akv.optim.base import Optimizer
from akv.optim.blocks import Formula
from akv.optim.gradients import clipped
from akv.optim.parameters import FRACTION, number
from akv.optim.registry import register
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.optim.sgd import PLAIN, descent
from akv.values.keys import Key

__all__ = ["NAG", "DiLoCo"]


def look_ahead(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    bound: float,
    wd: float,
    momentum: float,
) -> None:
    """step = rate * grad (clipped to bound) + wd * weight; m = momentum * m - step; weight += momentum * m - step."""
    (m,), step, spare = state, scratch[0], scratch[1]
    np.multiply(grad, rate, out=step)
    clipped(step, bound, step)
    if wd:
        np.multiply(weight, wd, out=spare)
        np.add(step, spare, out=step)
    np.multiply(m, momentum, out=m)
    np.subtract(m, step, out=m)
    np.subtract(weight, step, out=weight)
    np.multiply(m, momentum, out=step)
    np.add(weight, step, out=weight)


_LOOK_AHEAD = Formula(look_ahead, loops.look_ahead, scratch=2)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class NAG(Optimizer):
    """Nesterov's accelerated gradient.

        g = clip(rescale_grad * grad, clip_gradient) + wd * weight
        m = momentum * m - lr * g
        weight += momentum * m - lr * g

    Without momentum it is SGD. MXNet 1.9: src/operator/optimizer_op-inl.h, nag_mom_update.
    """

    name: ClassVar[str] = "nag"

    momentum: float = number(0.0, FRACTION)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    @property
    def formula(self) -> Formula:
        return _LOOK_AHEAD if self.momentum else PLAIN

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        folded = descent(self, self.rate(key, count, settings), self.decay(key, settings))
        return (*folded, self.momentum) if self.momentum else folded


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class DiLoCo(NAG):
    """The outer step of DiLoCo (arXiv:2311.08105): NAG on how far workers moved in their local steps.

    A worker pulls the weight, trains H steps with an optimizer of its own, and pushes the *outer gradient*: the weight
    it pulled minus the weight it arrived at. The sum of a round is averaged with rescale_grad = 1 / workers. Defaults
    are the paper's: rate 0.7, momentum 0.9.
    """

    name: ClassVar[str] = "diloco"
    default_rate: ClassVar[float] = 0.7

    momentum: float = number(0.9, FRACTION)
