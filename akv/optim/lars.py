"""LARS: SGD with a rate of its own for each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from akv.optim.blocks import Formula
from akv.optim.layerwise import Layerwise
from akv.optim.parameters import FRACTION, NOT_NEGATIVE, POSITIVE, flag, number
from akv.optim.registry import register
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.optim.sgd import MOMENTUM, PLAIN, descent
from akv.values.keys import Key

__all__ = ["LARS"]


def lars_norms(
    weight: Array, grad: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], rescale: float, squares: Array
) -> None:
    """squares += [weight . weight, rescale * grad . rescale * grad]."""
    squares[0] += np.vdot(weight, weight)
    squares[1] += float(np.vdot(grad, grad)) * rescale * rescale


_NORMS = Formula(lars_norms)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class LARS(Layerwise):
    """LARS (arXiv:1708.03888): SGD whose rate for a tensor is, unless a norm is 0,

        lr * eta * norm(weight) / (norm(rescale_grad * grad) + wd * norm(weight) + eps)

    Keys that end in "gamma", "beta" or "bias" keep the rate lr. momentum_correction: while a schedule changes the
    rate, momentum is scaled by the new rate over the old (arXiv:1706.02677, remark 2). The norm is of the gradient
    before clipping. MXNet 1.9: python/mxnet/optimizer/optimizer.py, LARS, without its lazy updates.
    """

    name: ClassVar[str] = "lars"

    momentum: float = number(0.0, FRACTION)
    eta: float = number(0.001, POSITIVE)
    eps: float = number(0.0, NOT_NEGATIVE)
    momentum_correction: bool = flag(True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    @property
    def formula(self) -> Formula:
        return MOMENTUM if self.momentum else PLAIN

    @property
    def norms_formula(self) -> Formula:
        return _NORMS

    def norms_scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        return (self.rescale_grad,)

    def scalars(self, key: Key, count: int, settings: Settings, ratio: float = 1.0) -> tuple[float, ...]:
        folded = descent(self, self.rate(key, count, settings) * ratio, self.decay(key, settings))
        return (*folded, self._momentum(key, count, settings)) if self.momentum else folded

    def _momentum(self, key: Key, count: int, settings: Settings) -> float:
        last = self.rate(key, count - 1, settings) if self.momentum_correction and count > 1 else 0.0
        return self.momentum * self.rate(key, count, settings) / last if last else self.momentum

    def ratio(self, key: Key, settings: Settings, norms: Array) -> float:
        weight, grad = math.sqrt(norms[0]), math.sqrt(norms[1])
        if str(key).endswith(("gamma", "beta", "bias")) or not (weight and grad):
            return 1.0
        return self.eta * weight / (grad + self.decay(key, settings) * weight + self.eps)
