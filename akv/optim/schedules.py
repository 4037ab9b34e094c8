"""Learning-rate schedules: frozen descriptions with the names and parameters of MXNet 1.9's lr_scheduler.

A schedule is a pure function of the number of updates and of a base rate, so every server computes the same rate,
and a restart needs no more than the count. MXNet counts the updates of the most updated key; akv those of the key
that is updated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, cast

from akv.errors import InvalidArgument
from akv.optim.parameters import (
    NOT_NEGATIVE,
    POSITIVE,
    Interval,
    as_whole,
    build,
    check_fields,
    names_of,
    number,
)

__all__ = ["CosineScheduler", "FactorScheduler", "LRScheduler", "MultiFactorScheduler", "PolyScheduler"]

_AT_LEAST_ONE = Interval(low=1)
_SHRINKS = Interval(low=0, high=1, open_low=True)


def _positive_whole(owner: str, name: str, value: object) -> int:
    return as_whole(owner, name, value, _AT_LEAST_ONE)


def _warmup_mode(owner: str, name: str, value: object) -> str:
    if value not in ("linear", "constant"):
        raise InvalidArgument(f"{owner}: {name}={value!r:.80} is neither 'linear' nor 'constant'")
    return str(value)


def _steps(owner: str, name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise InvalidArgument(f"{owner}: {name}={value!r:.80} is not a list of update counts")
    steps = tuple(_positive_whole(owner, name, step) for step in cast(Sequence[object], value))
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise InvalidArgument(f"{owner}: {name}={value!r:.80} does not increase")
    return steps


def _plain(value: object) -> object:
    return list(cast(tuple[object, ...], value)) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class LRScheduler(ABC):
    """The part all schedules share: a base rate, and a warm-up that ends there.

    base_lr: the rate before any decay; an optimizer's own learning_rate, when given, takes its place.
    warmup_steps, warmup_begin_lr, warmup_mode: during the first warmup_steps updates the rate rises from
    warmup_begin_lr to the base rate ("linear"), or stays at warmup_begin_lr ("constant").

    Raises InvalidArgument for values outside their range.
    """

    name: ClassVar[str]

    base_lr: float = number(0.01, NOT_NEGATIVE)
    warmup_steps: int = field(default=0, metadata={"parse": as_whole})
    warmup_begin_lr: float = number(0.0, NOT_NEGATIVE)
    warmup_mode: str = field(default="linear", metadata={"parse": _warmup_mode})

    def __post_init__(self) -> None:
        check_fields(self)
        if self.warmup_begin_lr > self.base_lr:
            raise InvalidArgument(
                f"{type(self).__name__}: warmup_begin_lr={self.warmup_begin_lr} exceeds base_lr={self.base_lr}"
            )

    def rate(self, update: int, base: float | None = None) -> float:
        """The learning rate of update number `update` (the first is 1), from `base` in place of base_lr."""
        base = self.base_lr if base is None else base
        if update >= self.warmup_steps:
            return self._decayed(update, base)
        if self.warmup_mode == "constant":
            return self.warmup_begin_lr
        return self.warmup_begin_lr + (base - self.warmup_begin_lr) * update / self.warmup_steps

    @abstractmethod
    def _decayed(self, update: int, base: float) -> float:
        """The rate after the warm-up."""

    def to_dict(self) -> dict[str, object]:
        """Name and numbers, ready for msgpack; `schedule_from` reads it back."""
        return {"name": self.name} | {name: _plain(getattr(self, name)) for name in names_of(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorScheduler(LRScheduler):
    """The rate is multiplied by `factor` after every `step` updates, down to `stop_factor_lr`."""

    name: ClassVar[str] = "factor"

    step: int = field(metadata={"parse": _positive_whole})
    factor: float = number(1.0, _SHRINKS)
    stop_factor_lr: float = number(1e-8, NOT_NEGATIVE)

    def _decayed(self, update: int, base: float) -> float:
        cuts = (update - 1) // self.step
        return max(base * self.factor**cuts, self.stop_factor_lr) if cuts > 0 else base


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiFactorScheduler(LRScheduler):
    """The rate is multiplied by `factor` after each of the update counts in `step`, which increase."""

    name: ClassVar[str] = "multifactor"

    step: Sequence[int] = field(metadata={"parse": _steps})
    factor: float = number(1.0, _SHRINKS)

    def _decayed(self, update: int, base: float) -> float:
        return base * self.factor ** sum(update > step for step in self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finite(LRScheduler):
    """A decay from the base rate to final_lr between the warm-up and update max_update."""

    max_update: int = field(metadata={"parse": _positive_whole})
    final_lr: float = number(0.0, NOT_NEGATIVE)

    def __post_init__(self) -> None:
        LRScheduler.__post_init__(self)
        if self.max_update <= self.warmup_steps:
            raise InvalidArgument(
                f"{type(self).__name__}: max_update={self.max_update} must exceed warmup_steps={self.warmup_steps}"
            )

    def _decayed(self, update: int, base: float) -> float:
        done = min(1.0, (update - self.warmup_steps) / (self.max_update - self.warmup_steps))
        return self.final_lr + (base - self.final_lr) * self._share(done)

    @abstractmethod
    def _share(self, done: float) -> float:
        """What is left of the way to final_lr, 1 to 0, when the part `done` of the updates is behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolyScheduler(_Finite):
    """final_lr + (base - final_lr) * (1 - done) ** pwr, where done goes from 0 to 1 after the warm-up."""

    name: ClassVar[str] = "poly"

    pwr: float = number(2.0, POSITIVE)

    def _share(self, done: float) -> float:
        return float((1.0 - done) ** self.pwr)


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineScheduler(_Finite):
    """final_lr + (base - final_lr) * (1 + cos(pi * done)) / 2 (SGDR, arXiv:1608.03983, equation 5)."""

    name: ClassVar[str] = "cosine"

    def _share(self, done: float) -> float:
        return (1.0 + math.cos(math.pi * done)) / 2.0


_BY_NAME: dict[str, Any] = {
    cls.name: cls for cls in (FactorScheduler, MultiFactorScheduler, PolyScheduler, CosineScheduler)
}


def as_schedule(owner: str, name: str, value: object) -> LRScheduler | None:
    """A schedule, its `to_dict`, or None. Raises InvalidArgument."""
    if value is None or isinstance(value, LRScheduler):
        return value
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{owner}: {name}={value!r:.80} is no learning-rate schedule")
    numbers: dict[str, object] = dict(cast(Mapping[str, object], value))
    kind = numbers.pop("name", None)
    if not isinstance(kind, str) or kind not in _BY_NAME:
        raise InvalidArgument(f"{owner}: {name} has no schedule {kind!r:.80}; known are {', '.join(_BY_NAME)}")
    schedule: LRScheduler = build(_BY_NAME[kind], "schedule", numbers)
    return schedule
