"""The operations on a store as a whole, on what is known of a key, and the waits."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from akv.backend.storage import Storage, Transaction
from akv.errors import InvalidArgument
from akv.operations.base import Operation
from akv.operations.data import check_version
from akv.optim import Optimizer
from akv.optim.settings import as_multipliers
from akv.optim.updaters import Updater, as_updater
from akv.values.keys import Key, check_key
from akv.values.selection import NO_KEYS, Selection

__all__ = [
    "Barrier",
    "Delete",
    "Describe",
    "Flush",
    "ListKeys",
    "SetLearningRate",
    "SetMultipliers",
    "SetOptimizer",
    "SetUpdater",
    "Wait",
]


class Delete(Operation):
    verb = "delete"

    def __init__(self, key: object) -> None:
        super().__init__(Selection.of(key), 0, 0)

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        if len(self.keys) > 1:  # all or none
            for key in self.keys:
                storage.info(key)
        for key in self.keys:
            storage.delete(key)
        return ()


class Describe(Operation):
    verb = "info"
    writes = False

    def __init__(self, key: object) -> None:
        super().__init__(Selection.of(key), 0, 0)

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        self.infos = [storage.info(key) for key in self.keys]
        return ()

    def outcome(self, results: list[Any]) -> Any:
        return self.selection.spread(self.infos)


class Wait(Operation):
    """Wait until a key has reached a version; holds no turn, since that would keep out the push it waits for."""

    verb = "wait_version"
    writes = False

    def __init__(self, key: object, version: object) -> None:
        self._key = check_key(key)
        super().__init__(NO_KEYS, 0, 0)
        self.min_version = check_version(version, self.verb)

    @property
    def awaited(self) -> Sequence[Key]:
        return (self._key,)

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        # It had reached the version when this was woken; a delete may have come between.
        self.reached = max(storage.version(self._key), self.min_version)
        return ()

    def outcome(self, results: list[Any]) -> Any:
        return self.reached


class _Fence(Operation):
    """Waits for all that its handle submitted before, and holds back what it submits after."""

    fence = True

    def __init__(self) -> None:
        super().__init__(NO_KEYS, 0, 0)


class Compiling(_Fence):
    """May compile what pushes are going to need, for seconds; so it is for a thread, as large values are."""

    def size(self, storage: Storage) -> int:
        return 8 << 20


class Flush(_Fence):
    verb = "flush"
    bounded = False  # it is the way out of a full queue

    def __init__(self) -> None:
        super().__init__()
        self.priority = sys.maxsize  # there is nothing to do, so what other handles have queued need not come first


class Barrier(_Fence):
    verb = "barrier"

    def __init__(self, name: object) -> None:
        if not isinstance(name, str):
            raise InvalidArgument(f"the name of a barrier is a str, not {name!r}")
        self.name = name
        super().__init__()

    def __str__(self) -> str:
        return f"barrier {self.name!r}" if self.name else self.verb


class ListKeys(_Fence):
    verb = "keys"

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        self.found = storage.keys()
        return ()

    def outcome(self, results: list[Any]) -> Any:
        return self.found


class SetUpdater(_Fence):
    verb = "set_updater"

    def __init__(self, updater: object) -> None:
        self.updater: Updater = as_updater(updater)
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        storage.set_updater(self.updater)
        return ()


class SetOptimizer(Compiling):
    verb = "set_optimizer"

    def __init__(self, optimizer: object) -> None:
        self.optimizer: Optimizer = _optimizer(optimizer)
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        storage.set_optimizer(self.optimizer)
        return ()


class SetLearningRate(_Fence):
    verb = "set_learning_rate"

    def __init__(self, learning_rate: object) -> None:
        self.learning_rate = _rate(learning_rate)
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        storage.set_learning_rate(self.learning_rate)
        return ()


class SetMultipliers(_Fence):
    """Factors by key of the learning rate (`name` "lr_mult") or of the weight decay ("wd_mult")."""

    def __init__(self, name: str, factors: object) -> None:
        self.verb = f"set_{name}"  # type: ignore[misc]
        self.name = name
        self.factors = as_multipliers(self.verb, name, factors)
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        storage.set_multipliers(self.name, self.factors)
        return ()


def _optimizer(optimizer: object) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        return optimizer
    raise InvalidArgument(
        f"set_optimizer takes an optimizer such as akv.optim.SGD(learning_rate=0.1), not {optimizer!r:.80}"
    )


def _rate(learning_rate: object) -> float:
    if isinstance(learning_rate, (int, float, np.integer, np.floating)) and not isinstance(learning_rate, bool):
        try:
            rate = float(learning_rate)
        except OverflowError:
            rate = math.inf
        if math.isfinite(rate) and rate >= 0:
            return rate
    raise InvalidArgument(f"a learning rate is a finite number from 0 on, not {learning_rate!r}")
