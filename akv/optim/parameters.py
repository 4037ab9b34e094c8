"""The parameters of a frozen description: what each may be, converted and checked once, when it is made.

A class lists its parameters as dataclass fields made by the functions below, or with a `parse` function of its own as
metadata, and calls `check_fields` from `__post_init__`. Values that come from a client pass through the same door as
those written in Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np

from akv.errors import InvalidArgument

# Values may come from a client, and be long.
_TYPE = "{owner}: {name}={value!r:.80} is not {wanted}"
_RANGE = "{owner}: {name}={value!r:.80} is outside {allowed}"


@dataclass(frozen=True, slots=True)
class Interval:
    """The allowed range of a number; an end belongs to it unless it is open."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        left = "(" if self.open_low or math.isinf(self.low) else "["
        right = ")" if self.open_high or math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


ANY = Interval()
POSITIVE = Interval(low=0, open_low=True)
NOT_NEGATIVE = Interval(low=0)
FRACTION = Interval(low=0, high=1, open_high=True)


def _plain(value: object) -> object:
    return cast(Any, value).item() if isinstance(value, np.generic) else value


def as_number(owner: str, name: str, value: object, allowed: Interval = ANY) -> float:
    """`value` as a finite Python float inside `allowed`. Raises InvalidArgument; a bool is no number."""
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(_TYPE.format(owner=owner, name=name, value=value, wanted="a number"))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number not in allowed:
        raise InvalidArgument(_RANGE.format(owner=owner, name=name, value=value, allowed=allowed))
    return number


def as_whole(owner: str, name: str, value: object, allowed: Interval = NOT_NEGATIVE) -> int:
    """`value` as a Python int inside `allowed`. Raises InvalidArgument; a bool is no number, 2.0 is no int."""
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(_TYPE.format(owner=owner, name=name, value=value, wanted="a whole number"))
    if value not in allowed:
        raise InvalidArgument(_RANGE.format(owner=owner, name=name, value=value, allowed=allowed))
    return value


def as_flag(owner: str, name: str, value: object) -> bool:
    """`value` as a Python bool. Raises InvalidArgument."""
    plain = _plain(value)
    if not isinstance(plain, bool):
        raise InvalidArgument(_TYPE.format(owner=owner, name=name, value=value, wanted="True or False"))
    return plain


def number(default: float, allowed: Interval = ANY) -> Any:
    """A dataclass field that holds a float inside `allowed`."""

    def parse(owner: str, name: str, value: object) -> float:
        return as_number(owner, name, value, allowed)

    return field(default=default, metadata={"parse": parse})


def optional_number(allowed: Interval) -> Any:
    """A dataclass field that holds None, its default, or a float inside `allowed`."""

    def parse(owner: str, name: str, value: object) -> float | None:
        return None if value is None else as_number(owner, name, value, allowed)

    return field(default=None, metadata={"parse": parse})


def flag(default: bool) -> Any:
    """A dataclass field that holds a bool."""
    return field(default=default, metadata={"parse": as_flag})


def check_fields(description: Any) -> None:
    """Convert and check every field of a frozen dataclass in place. Raises InvalidArgument naming the field."""
    owner = type(description).__name__
    for one in fields(description):
        if parse := one.metadata.get("parse"):
            object.__setattr__(description, one.name, parse(owner, one.name, getattr(description, one.name)))


def build(cls: Any, kind: str, numbers: Mapping[str, object]) -> Any:
    """`cls(**numbers)`, where names that it does not have are an InvalidArgument listing those it has."""
    known = list(names_of(cls))
    if strange := sorted(str(name) for name in numbers if name not in known):
        strange = [name[:80] for name in strange]
        raise InvalidArgument(f"{kind} {cls.name!r} has no parameter {', '.join(strange)}; it has {', '.join(known)}")
    try:
        return cls(**numbers)
    except TypeError as error:  # a required parameter is missing
        raise InvalidArgument(f"{kind} {cls.name!r}: {error}") from None


def names_of(description: Any) -> Iterator[str]:
    """The names of the parameters of a description, or of its class, in order."""
    return (one.name for one in fields(description) if one.init)
