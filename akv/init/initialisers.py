"""What a table's rows are before anybody has pushed to them: frozen descriptions, a name with numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np

from akv.errors import DTypeMismatch, InvalidArgument
from akv.init.counters import starts, units
from akv.init.quantile import quantile
from akv.optim.parameters import NOT_NEGATIVE, Interval, as_whole, build, check_fields, names_of, number
from akv.values.arrays import Array
from akv.values.dtypes import DType, accumulator
from akv.values.rowsparse import Ids

__all__ = ["Initialiser", "Normal", "Uniform", "Zeros", "from_dict"]

# Elements made at a time: numbers and scratch memory stay in a core's cache. Of 64 columns each, 10,000 uniform rows
# take 3.4 ms and normal ones 11 with 2**15, uncut 3.2 and 15, with 2**12 5.3 and 20 (Zen 4, numpy 2.4).
_BLOCK = 1 << 15
_SEEDS = Interval(low=0, high=2**64 - 1)
# No quantile lies further out: units are multiples of 2**-53.
_FARTHEST = 8.2


def _seed() -> Any:
    def parse(owner: str, name: str, value: object) -> int:
        return as_whole(owner, name, value, _SEEDS)

    return field(default=0, metadata={"parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialiser(ABC):
    """A frozen description. Every element follows from it and its place alone: on any machine, in any order."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def fill(self, rows: Ids, out: Array) -> None:
        """Write the rows with these ids to `out`, ``(len(rows), columns)``: columns are counted in C order."""

    def check(self, dtype: DType) -> None:
        """Raises DTypeMismatch or InvalidArgument if there is no such table of this dtype."""

    def to_dict(self) -> dict[str, object]:
        """Name and numbers, ready for msgpack and JSON; `from_dict` reads it back."""
        return {"name": self.name, **{name: getattr(self, name) for name in names_of(self)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeros(Initialiser):
    """All zero."""

    name: ClassVar[str] = "zeros"

    def fill(self, rows: Ids, out: Array) -> None:
        out[...] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Random(Initialiser):
    """Numbers of akv.init.counters, calculated in float64 and rounded once to the table's dtype."""

    seed: int = _seed()

    @abstractmethod
    def spread(self, numbers: np.ndarray) -> np.ndarray:
        """What becomes of numbers that are uniform between 0 and 1; may change and return them."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """No element lies outside."""

    def fill(self, rows: Ids, out: Array) -> None:
        columns = out.shape[1]
        step = max(1, _BLOCK // max(1, columns))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            begun = starts(self.seed, rows[part])
            for first in range(0, columns, _BLOCK):
                width = min(_BLOCK, columns - first)
                out[part, first : first + width] = self.spread(units(begun, width, first))

    def check(self, dtype: DType) -> None:
        if accumulator(dtype).kind != "f":
            raise DTypeMismatch(f"a table of {dtype} cannot be {self!r}; choose a real floating dtype, or zeros")
        with np.errstate(all="ignore"):
            bounds = np.array(self.bounds).astype(dtype)
        if not np.isfinite(bounds.astype(np.float64)).all():
            raise InvalidArgument(f"{self!r} reaches from {self.bounds[0]:g} to {self.bounds[1]:g}, beyond {dtype}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform(_Random):
    """low + (high - low) * unit(seed, row, column): evenly spread over [low, high]."""

    name: ClassVar[str] = "uniform"

    low: float = number(-0.07)
    high: float = number(0.07)

    def __post_init__(self) -> None:
        # Not super(): a slotted dataclass is not the class that its methods were written in.
        check_fields(self)
        if not (self.low <= self.high and math.isfinite(self.high - self.low)):
            raise InvalidArgument(f"Uniform: low={self.low} and high={self.high} are no interval")

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def spread(self, numbers: np.ndarray) -> np.ndarray:
        numbers *= self.high - self.low
        numbers += self.low
        return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal(_Random):
    """mean + std * quantile(unit(seed, row, column)): a normal distribution, see akv.init.quantile."""

    name: ClassVar[str] = "normal"

    mean: float = number(0.0)
    std: float = number(0.01, NOT_NEGATIVE)

    @property
    def bounds(self) -> tuple[float, float]:
        return self.mean - _FARTHEST * self.std, self.mean + _FARTHEST * self.std

    def spread(self, numbers: np.ndarray) -> np.ndarray:
        drawn = quantile(numbers)
        drawn *= self.std
        drawn += self.mean
        return drawn


_CLASSES: dict[str, type[Initialiser]] = {one.name: one for one in (Zeros, Uniform, Normal)}


def from_dict(description: Mapping[str, object]) -> Initialiser:
    """The initialiser that `Initialiser.to_dict` described.

    Raises InvalidArgument unless `description` is a mapping with a known "name" and numbers that fit it. Safe with
    what a client sent: nothing is executed but the checks of one of three classes.
    """
    if not isinstance(cast(Any, description), Mapping):
        raise InvalidArgument(f"an initialiser is described by a mapping of name and numbers, not {description!r:.80}")
    numbers = dict(description)
    name = numbers.pop("name", None)
    if not isinstance(name, str) or name not in _CLASSES:
        raise InvalidArgument(f"no initialiser is called {name!r:.80}; there are {', '.join(sorted(_CLASSES))}")
    initialiser: Initialiser = build(_CLASSES[name], "initialiser", numbers)
    return initialiser
