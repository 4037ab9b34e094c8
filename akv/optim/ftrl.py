"""FTRL-proximal, for sparse linear models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from akv.optim import loops
from akv.optim.base import Optimizer
from akv.optim.blocks import Formula
from akv.optim.gradients import clipped, rescaled
from akv.optim.parameters import NOT_NEGATIVE, POSITIVE, number
from akv.optim.registry import register
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.values.keys import Key

__all__ = ["Ftrl"]


def ftrl(
    weight: Array,
    grad: Array,
    state: tuple[Array, ...],
    scratch: tuple[Array, ...],
    rate: float,
    lamda1: float,
    beta: float,
    rescale: float,
    bound: float,
    wd: float,
) -> None:
    """z += g - (sqrt(n + g**2) - sqrt(n)) * weight / rate; n += g**2; weight from z and n alone."""
    if rate == 0.0:  # a frozen key: the formula would divide by it
        return
    (z, n), square, root = state, scratch[1], scratch[2]
    g = rescaled(grad, scratch[0], rescale, bound)
    np.add(z, g, out=z)
    np.multiply(g, g, out=square)
    np.sqrt(n, out=root)
    np.add(n, square, out=n)
    np.sqrt(n, out=square)
    np.subtract(square, root, out=root)
    np.multiply(root, weight, out=root)
    np.multiply(root, 1.0 / rate, out=root)
    np.subtract(z, root, out=z)
    np.add(square, beta, out=square)
    np.multiply(square, 1.0 / rate, out=square)
    np.add(square, wd, out=square)
    # clip(z) - z is 0 where |z| <= lamda1, and sign(z) * lamda1 - z elsewhere.
    np.subtract(clipped(z, lamda1, root), z, out=root)
    np.divide(root, square, out=weight)


_FTRL = Formula(ftrl, loops.ftrl, scratch=3)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Ftrl(Optimizer):
    """FTRL-proximal (McMahan et al., Ad Click Prediction, KDD 2013, algorithm 1).

        g = clip(rescale_grad * grad, clip_gradient)
        z += g - (sqrt(n + g**2) - sqrt(n)) * weight / lr
        n += g**2
        weight = (sign(z) * lamda1 - z) / ((beta + sqrt(n)) / lr + wd)    where |z| > lamda1, else 0

    A rate of 0 leaves weight and state as they are. A row-sparse gradient touches only its own rows.
    MXNet 1.9: src/operator/optimizer_op-inl.h, ftrl_update.
    """

    name: ClassVar[str] = "ftrl"
    default_rate: ClassVar[float] = 0.1

    lamda1: float = number(0.01, NOT_NEGATIVE)
    beta: float = number(1.0, POSITIVE)
    lazy_update: bool = field(default=True, init=False)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("z", "n")

    @property
    def formula(self) -> Formula:
        return _FTRL

    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        rate, wd = self.rate(key, count, settings), self.decay(key, settings)
        return rate, self.lamda1, self.beta, self.rescale_grad, self.bound, wd
