"""Checks of header fields. Each takes a value of any type and returns it as the message has it, or raises ValueError.

The same check runs where a message is sent and where it arrives. No text of an error shows a peer's value unless that
is a number: the repr of a list nested 1,000 deep would raise RecursionError.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from math import isfinite
from operator import call
from typing import Final, TypeAlias, cast

from .limits import MAX_HEADER

__all__ = [
    "Check",
    "blob",
    "choice",
    "either",
    "flag",
    "listed",
    "numbers",
    "optional",
    "real",
    "record",
    "run_check",
    "seconds",
    "several",
    "text",
    "whole",
]

Check: TypeAlias = Callable[[object], object]


run_check: Final = cast("Callable[[Check, object], object]", call)
"""run_check(check, value): `operator.call`, whose own type says too little for `map`."""


def whole(low: int, high: int) -> Check:
    """An integer in low..high."""

    def check(value: object) -> int:
        if not isinstance(value, int) or type(value) is bool or not low <= value <= high:
            raise ValueError(f"a field must be an integer in {low}..{high}")
        return value

    return check


def choice(members: type[IntEnum]) -> Check:
    """The number of a member."""

    def check(value: object) -> IntEnum:
        if not isinstance(value, int) or type(value) is bool:
            raise ValueError(f"a field must be the number of a {members.__name__}")
        return members(value)

    return check


def text(limit: int) -> Check:
    """Text of at most `limit` bytes as UTF-8."""

    def check(value: object) -> str:
        if not isinstance(value, str) or len(value.encode()) > limit:
            raise ValueError(f"a field must be text of at most {limit} bytes")
        return value

    return check


def blob(low: int, high: int) -> Check:
    """Between low and high bytes."""

    def check(value: object) -> bytes:
        if not isinstance(value, bytes) or not low <= len(value) <= high:
            raise ValueError(f"a field must be {low} to {high} bytes")
        return value

    return check


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("a field must be true or false")
    return value


def real(value: object) -> float:
    """A finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise ValueError("a field must be a finite number")
    return float(value)


def seconds(value: object) -> float:
    """A finite span of time, not negative."""
    span = real(value)
    if span < 0:
        raise ValueError(f"a field must be a span of time; it is {span} s")
    return span


def optional(check: Check) -> Check:
    """Nothing, or what `check` accepts."""
    return lambda value: None if value is None else check(value)


def either(words: Check, others: Check) -> Check:
    """Text that `words` accepts, or what `others` accepts."""
    return lambda value: words(value) if isinstance(value, str) else others(value)


def several(check: Check, low: int, high: int) -> Check:
    """A list of low to high values that `check` accepts."""
    return lambda value: tuple(map(check, listed(value, low, high)))


def record(make: Callable[..., object], *checks: Check) -> Check:
    """A list of exactly these values, from which `make` makes one."""
    width = len(checks)
    return lambda value: make(*map(run_check, checks, listed(value, width, width)))


def numbers(name: Check) -> Check:
    """Pairs of a name and a finite number, true, false or nothing; no name twice."""
    pairs = several(record(lambda *pair: pair, name, optional(_scalar)), 0, 1024)

    def check(value: object) -> object:
        found = cast("tuple[tuple[str, object], ...]", pairs(value))
        if len(dict(found)) != len(found):
            raise ValueError("a name occurs twice among the numbers")
        return found

    return check


def listed(value: object, low: int = 0, high: int = MAX_HEADER) -> tuple[object, ...]:
    """A list of low to high values of any type."""
    if isinstance(value, tuple):
        values = cast("tuple[object, ...]", value)
        if low <= len(values) <= high:
            return values
    raise ValueError(f"a field must be a list of {low} to {high} values")


def _scalar(value: object) -> object:
    if isinstance(value, bool):
        return value
    return _INT64(value) if isinstance(value, int) else real(value)


_INT64: Final = whole(-(2**63), 2**63 - 1)
