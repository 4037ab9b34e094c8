"""What a kernel is made of: a loop, dtypes, a form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from akv_cupy.kernels.description import THREADS, Param
from akv_cupy.kernels.elements import parameters_of
from akv_cupy.kernels.kinds import REAL, Annotation, c_type, spelled

__all__ = ["MANY", "NUMBERS", "ONE", "Recipe"]

ONE, NUMBERS, MANY = "", "numbers", "many"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a kernel is made of.

    Attributes:
        loop: the function in Python.
        work: the dtype that it calculates in.
        memory: (array, dtype) for each array of that kind whose elements are of another dtype.
        model: the dtype of an array that gets the weight rounded, where the loop's weight is a master copy; or None.
        form: ONE, NUMBERS or MANY.
        threads: per block.
    """

    loop: Callable[..., None]
    work: np.dtype[Any]
    memory: tuple[tuple[str, np.dtype[Any]], ...] = ()
    model: np.dtype[Any] | None = None
    form: str = ONE
    threads: int = THREADS

    @property
    def name(self) -> str:
        parts = [self.loop.__name__, self.work.name]
        parts += [f"{name}_{dtype.name}" for name, dtype in self.memory]
        parts += [f"model_{self.model.name}"] if self.model is not None else []
        return "_".join([*parts, self.form] if self.form else parts)

    @property
    def arguments(self) -> dict[str, Annotation]:
        """What the loop is called with; as in `Optimizer.bind`, the model comes first, its master with the state."""
        own = parameters_of(self.loop)
        if self.model is None:
            return own
        first, second, *others = own
        return {name: own.get(name, own[first]) for name in ("model", second, first, *others)}

    @property
    def params(self) -> tuple[Param, ...]:
        """Those of the form ONE."""
        return tuple(self._param(name, one) for name, one in self.arguments.items())

    @property
    def c_params(self) -> list[str]:
        """The same as C declares them."""
        return [self._declared(name, one) for name, one in self.arguments.items()]

    def _declared(self, name: str, one: Annotation) -> str:
        text = self.c(name)
        return f"{text}{name}" if one.array else f"{text} {name}"

    def c(self, name: str) -> str:
        """The C type of an argument."""
        one = self.arguments[name]
        text = c_type(self._dtype(name, one)) if one.kind == REAL else spelled(one.kind, self.work)
        if not one.array:
            return text
        return f"{text} *" if one.written else f"const {text} *"

    def _param(self, name: str, one: Annotation) -> Param:
        return Param(name, self._dtype(name, one), one.array, one.written)

    def _dtype(self, name: str, one: Annotation) -> np.dtype[Any]:
        if name == "model" and self.model is not None:
            return self.model
        return dict(self.memory).get(name, self.work) if one.kind == REAL else np.dtype(one.kind)
