"""What a store does with the sum of what was pushed: assign it, add it, hand it to a function, or to an optimizer."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from akv.errors import InvalidArgument
from akv.optim.base import Optimizer
from akv.optim.blocks import Kernel
from akv.optim.scratch import quietly
from akv.optim.settings import Settings
from akv.values.keys import Key

__all__ = [
    "ADD",
    "ASSIGN",
    "Elementwise",
    "FunctionUpdater",
    "OptimizerUpdater",
    "Updater",
    "as_updater",
    "inside_updater",
]

State = tuple[np.ndarray, ...]


class Elementwise(ABC):
    """An updater that works on a value in place, and as a rule on any slice of it by itself."""

    name: ClassVar[str]

    @property
    def sliceable(self) -> bool:
        """Whether slices may be updated by themselves; optimizers that need the norm of the whole say no."""
        return True

    @property
    def by_rows(self) -> bool:
        """Whether it takes a RowSparse as it is: rows that were not pushed need no update."""
        return True

    def check(self, key: Key, dtype: np.dtype[Any]) -> None:
        """Raise DTypeMismatch if values of this dtype cannot be updated."""

    def create_state(self, weight: np.ndarray) -> State:
        """The arrays, of the weight's shape, that are kept beside it from its first push on."""
        return ()

    @abstractmethod
    def bind(self, key: Key, count: int) -> Kernel:
        """The kernel(stored, pushed, state) for the count-th push (from 1) of this key."""


class Assign(Elementwise):
    """The newest push wins."""

    name = "assign"

    def bind(self, key: Key, count: int) -> Kernel:
        return _assign


class Add(Elementwise):
    """What is pushed is added to what is stored."""

    name = "add"

    def bind(self, key: Key, count: int) -> Kernel:
        return _add


class OptimizerUpdater(Elementwise):
    """What is pushed is a gradient; what is stored are weights, and the optimizer's state lives beside them."""

    name = "optimizer"

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.settings = Settings()

    @property
    def by_rows(self) -> bool:
        return self.optimizer.lazy_update

    @property
    def sliceable(self) -> bool:
        return self.optimizer.elementwise

    def check(self, key: Key, dtype: np.dtype[Any]) -> None:
        self.optimizer.check(key, dtype)

    def create_state(self, weight: np.ndarray) -> State:
        return self.optimizer.create_state(weight)

    def bind(self, key: Key, count: int) -> Kernel:
        return self.optimizer.bind(key, count, self.settings)


class FunctionUpdater:
    """A function fn(key, pushed, stored) that changes `stored` in place, as in MXNet."""

    by_rows = True

    def __init__(self, function: Callable[[Key, Any, np.ndarray], object]) -> None:
        self.function = function

    def call(self, key: Key, pushed: Any, stored: np.ndarray) -> None:
        """Let the function change `stored`; while it runs, `inside_updater` is true for its thread."""
        _inside.depth += 1
        try:
            self.function(key, pushed, stored)
        except Exception as error:
            error.add_note(f"akv: raised by the updater for key {key!r}; the stored value is as it was")
            raise
        finally:
            _inside.depth -= 1


Updater = Elementwise | FunctionUpdater
"""How a pushed value changes the stored one."""


class _Inside(threading.local):
    depth = 0


_inside = _Inside()


def inside_updater() -> bool:
    """Whether this thread runs an updater: waiting for the store there would wait for itself."""
    return _inside.depth > 0


ASSIGN, ADD = Assign(), Add()
_BY_NAME = {updater.name: updater for updater in (ASSIGN, ADD)}


def as_updater(updater: object) -> Updater:
    """Return the updater that set_updater was given by name or as a function.

    Raises:
        InvalidArgument: it is neither.
    """
    if isinstance(updater, str) and updater in _BY_NAME:
        return _BY_NAME[updater]
    if callable(updater):
        return FunctionUpdater(updater)
    raise InvalidArgument(
        f"an updater is a function fn(key, pushed, stored) or one of {sorted(_BY_NAME)}, not {updater!r}"
    )


def _assign(stored: np.ndarray, pushed: np.ndarray, state: State) -> None:
    np.copyto(stored, pushed)


def _add(stored: np.ndarray, pushed: np.ndarray, state: State) -> None:
    quietly(_add_wider if pushed.dtype != stored.dtype else _add_in_place, stored, pushed)


def _add_in_place(stored: np.ndarray, pushed: np.ndarray) -> None:
    np.add(stored, pushed, out=stored)


def _add_wider(stored: np.ndarray, pushed: np.ndarray) -> None:
    # A sum of small floats comes in float32, and is rounded once.
    stored[...] = stored.astype(pushed.dtype) + pushed
