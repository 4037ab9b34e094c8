"""Optimizers whose step depends on norms of the whole tensor, and how a tensor in parts is updated by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from akv.optim.base import Optimizer
from akv.optim.blocks import Formula, Kernel, kernel
from akv.optim.scratch import Array
from akv.optim.settings import Settings
from akv.values.keys import Key

__all__ = ["Layerwise", "Measure"]

Measure = Callable[[Array, Array, tuple[Array, ...]], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layerwise(Optimizer):
    """An optimizer whose learning rate is scaled by norms of the whole tensor.

    A tensor in one piece: `bind(key, count, settings)`; its kernel measures the arrays it is given, which must be the
    whole tensor. A tensor in parts, on several servers: measure each part with `bind_norms`, add the results up, then
    update each part with `bind(key, count, settings, norms=total)`.
    """

    elementwise: ClassVar[bool] = False

    @property
    @abstractmethod
    def norms_formula(self) -> Formula:
        """Adds the squares of two norms onto its last scalar, a float64 array; changes nothing else."""

    @abstractmethod
    def norms_scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        """The numbers that the norms formula takes before its last."""

    @abstractmethod
    def ratio(self, key: Key, settings: Settings, norms: Array) -> float:
        """The factor on the learning rate that follows from the squares of the norms of the whole tensor."""

    @abstractmethod
    def scalars(self, key: Key, count: int, settings: Settings, ratio: float = 1.0) -> tuple[float, ...]:
        """As `Optimizer.scalars`, with the learning rate times `ratio`."""

    def bind_norms(self, key: Key, count: int, settings: Settings) -> Measure:
        """A function of (weight, grad, state), as they are before the update, that only reads them.

        It returns the squares of two norms: float64, shape (2,), owned by the caller. Those of a tensor's parts may be
        added up in any order; they are rounded differently than those of the whole.
        """
        numbers = self.norms_scalars(key, count, settings)

        def measure(weight: Array, grad: Array, state: tuple[Array, ...]) -> Array:
            squares = np.zeros(2)
            kernel(self.norms_formula, (*numbers, squares), self.multi_precision, writes=False)(weight, grad, state)
            return squares

        return measure

    def bind(self, key: Key, count: int, settings: Settings, *, norms: Array | None = None) -> Kernel:
        """As `Optimizer.bind`.

        norms: the sum over all parts of what `bind_norms` gave for this update; None: the kernel is given the whole
        tensor at once.
        """
        if norms is not None:
            scalars = self.scalars(key, count, settings, self.ratio(key, settings, norms))
            return kernel(self.formula, scalars, self.multi_precision)
        measure = self.bind_norms(key, count, settings)

        def whole(weight: Array, grad: Array, state: tuple[Array, ...]) -> None:
            self.bind(key, count, settings, norms=measure(weight, grad, state))(weight, grad, state)

        return whole
