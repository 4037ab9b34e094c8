"""What can change while a store runs, and the multipliers by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from akv.errors import InvalidArgument
from akv.optim.parameters import NOT_NEGATIVE, as_number
from akv.values.keys import Key, check_key

__all__ = ["NO_MULTIPLIERS", "Multipliers", "Settings", "as_multipliers"]


class Multipliers(Mapping[Key, float]):
    """A factor by key, fixed and hashable, so that a description that holds one can be compared and hashed."""

    __slots__ = ("_factors",)

    def __init__(self, factors: Mapping[Key, float] | None = None) -> None:
        self._factors = dict(factors or {})

    def __getitem__(self, key: Key) -> float:
        return self._factors[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._factors)

    def __len__(self) -> int:
        return len(self._factors)

    def __hash__(self) -> int:
        return hash(frozenset(self._factors.items()))

    def __repr__(self) -> str:
        return repr(self._factors)


NO_MULTIPLIERS = Multipliers()


def as_multipliers(owner: str, name: str, value: object) -> Multipliers:
    """A mapping, or an iterable of (key, factor) pairs, as Multipliers. Raises InvalidArgument, KeyTypeError."""
    if isinstance(value, Multipliers):
        return value
    pairs = cast(Mapping[object, object], value).items() if isinstance(value, Mapping) else value
    if not isinstance(pairs, Iterable) or isinstance(pairs, str | bytes):
        raise InvalidArgument(f"{owner}: {name}={value!r:.80} is not a mapping from keys to numbers")
    factors: dict[Key, float] = {}
    for pair in cast(Iterable[object], pairs):
        key, factor = _pair(owner, name, pair)
        factors[key] = as_number(owner, f"{name}[{key!r}]", factor, NOT_NEGATIVE)
    return Multipliers(factors)


def _pair(owner: str, name: str, value: object) -> tuple[Key, object]:
    if not isinstance(value, tuple | list) or len(cast(Sequence[object], value)) != 2:
        raise InvalidArgument(f"{owner}: {name} holds {value!r:.80}, which is not a (key, number) pair")
    key, factor = cast(Sequence[object], value)
    return check_key(key), factor


class Settings:
    """What `set_learning_rate` and its kin change while a store runs; one object per store, shared by its threads.

    learning_rate: the rate that replaces the description's own, or None. Under a schedule it replaces the base rate.
    lr_mult, wd_mult: factors by key that replace the description's.
    """

    __slots__ = ("_learning_rate", "lr_mult", "wd_mult")

    def __init__(self) -> None:
        self._learning_rate: float | None = None
        self.lr_mult: dict[Key, float] = {}
        self.wd_mult: dict[Key, float] = {}

    @property
    def learning_rate(self) -> float | None:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | None) -> None:
        """Raises InvalidArgument unless it is None or a finite number that is not negative."""
        rate = None if value is None else as_number("set_learning_rate", "learning_rate", value, NOT_NEGATIVE)
        self._learning_rate = rate
