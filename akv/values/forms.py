"""The argument forms that all verbs share: one key or a list of keys, one value or a list of them, one per device."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from akv.errors import DTypeMismatch, InvalidArgument, ShapeMismatch
from akv.values.arrays import as_array, as_out
from akv.values.device import OnDevice, is_on_device
from akv.values.dtypes import NATIVE
from akv.values.keys import Key, check_keys
from akv.values.rowsparse import RowSparse

__all__ = ["NO_KEYS", "Selection", "Value", "check_cast", "check_priority", "check_shape", "contributions", "targets"]

Value = np.ndarray | RowSparse
_dtype = operator.attrgetter("dtype")
T = TypeVar("T")


class Selection:
    """The keys of one call, each once, and how to give results back in the form of the call."""

    __slots__ = ("_places", "keys", "many")

    def __init__(self, key: object) -> None:
        self.keys: list[Key]
        self.keys, self.many = check_keys(key)
        self._places: list[int] | None = None
        if self.many and len(set(self.keys)) < len(self.keys):
            self._deduplicate()

    @classmethod
    def of(cls, key: object) -> Selection:
        """The selection of a call; that of a single key is kept for the next call (0.3 us less)."""
        if type(key) is not str and type(key) is not int:
            return cls(key)
        found = _single.get(key)
        if found is None:
            if len(_single) >= _MOST_SINGLE:
                _single.clear()
            found = _single[key] = cls(key)
        return found

    def _deduplicate(self) -> None:
        first = {key: place for place, key in enumerate(dict.fromkeys(self.keys))}
        self._places = [first[key] for key in self.keys]
        self.keys = list(first)

    def group(self, verb: str, argument: object, convert: Callable[[str, Key, object], list[T]]) -> list[list[T]]:
        """Convert what the call gives for each key; a key that stands in the call twice gets both lists, joined.

        Raises:
            InvalidArgument: a list of keys came without a list of the same length.
        """
        if not self.many:
            return [convert(verb, self.keys[0], argument)]
        items = self.per_key(verb, argument)
        if self._places is None:
            if convert is contributions and _are_plain(items):
                return [[item] for item in cast("Sequence[T]", items)]
            return [convert(verb, key, item) for key, item in zip(self.keys, items, strict=True)]
        groups: list[list[T]] = [[] for _ in self.keys]
        for place, item in zip(self._places, items, strict=True):
            groups[place].extend(convert(verb, self.keys[place], item))
        return groups

    def per_key(self, verb: str, argument: object) -> Sequence[object]:
        """Check that `argument` is a list with one item per key of the call."""
        expected = len(self.keys if self._places is None else self._places)
        if not isinstance(argument, (list, tuple)):
            raise InvalidArgument(
                f"{verb} of {expected} keys needs a list of {expected}, not a {type(argument).__name__}"
            )
        if len(argument) != expected:
            raise InvalidArgument(f"{verb} of {expected} keys got a list of {len(argument)}")
        return argument

    def spread(self, results: Sequence[T]) -> T | list[T]:
        """Give one result per key back in the form of the call: alone for one key, else a list in the call's order."""
        if not self.many:
            return results[0]
        return list(results) if self._places is None else [results[place] for place in self._places]

    @property
    def repeats(self) -> bool:
        return self._places is not None


# For operations on a store as a whole.
NO_KEYS = Selection(())

# A selection is never changed, so all calls may share it. Bounded for programs that make up new keys all the time.
_single: dict[Key, Selection] = {}
_MOST_SINGLE = 10_000


def _are_plain(values: Sequence[object]) -> bool:
    """Whether `contributions` would take each of them as it is; a third of the time of asking it."""
    return set(map(type, values)) == {np.ndarray} and set(map(_dtype, values)) <= NATIVE


def contributions(verb: str, key: Key, value: object) -> list[Value]:
    """The values that one key gets: one, or a list with one per device, which the store will sum.

    Raises:
        NotAnArray, DTypeMismatch: a value is nothing that a store can hold.
        InvalidArgument: the list is empty.
    """
    if type(value) is np.ndarray and value.dtype in NATIVE:
        return [value]
    if not isinstance(value, (list, tuple)):
        return [_value(verb, key, value)]
    if not value:
        raise InvalidArgument(f"{verb} of key {key!r} got an empty list of values")
    return [_value(verb, key, item) for item in value]


def targets(verb: str, key: Key, out: object) -> list[Value]:
    """The arrays (or RowSparse) that one key's value is written to: one, or a list with one per device."""
    if type(out) is np.ndarray:
        return [as_out(out, verb, key)]
    if not isinstance(out, (list, tuple)):
        return [_target(verb, key, out)]
    if not out:
        raise InvalidArgument(f"{verb} of key {key!r} got an empty list for out")
    return [_target(verb, key, item) for item in out]


def check_priority(priority: object) -> int:
    """Return `priority` as an int; higher goes first.

    Raises:
        InvalidArgument: it is no integer.
    """
    if type(priority) is int:
        return priority
    try:
        return operator.index(priority)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidArgument(f"priority is an integer, not {priority!r}") from None


def check_shape(verb: str, key: Key, given: tuple[int, ...], stored: tuple[int, ...]) -> None:
    """Raise ShapeMismatch unless the shapes are equal; an equal size is not enough."""
    if given != stored:
        raise ShapeMismatch(f"{verb} of key {key!r}: shape {given} where the stored value has {stored}")


def check_cast(verb: str, key: Key, stored: np.dtype[Any], wanted: np.dtype[Any]) -> None:
    """Raise DTypeMismatch where a cast would lose the imaginary part."""
    if stored.kind == "c" and wanted.kind != "c":
        raise DTypeMismatch(f"{verb} of key {key!r}: {stored} values do not fit an out of dtype {wanted}")


def _value(verb: str, key: Key, value: object) -> Value:
    if type(value) is RowSparse:
        value.check(verb, key)  # its arrays are the caller's, who may have written to them since it was made
        return value
    if type(value) is not np.ndarray and is_on_device(value):
        # Only backends that take them get to see one: akv.engine refuses it for all others.
        return cast(Value, OnDevice(value, verb, key))
    return as_array(value, verb, key)


def _target(verb: str, key: Key, out: object) -> Value:
    if type(out) is not np.ndarray and is_on_device(out):
        return cast(Value, OnDevice(out, verb, key, written=True))
    return out if type(out) is RowSparse else as_out(out, verb, key)
