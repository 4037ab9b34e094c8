"""The forms of values that all verbs share: one for a key, or a list of them, one per device."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from akv.errors import DTypeMismatch, InvalidArgument, ShapeMismatch
from akv.values.arrays import as_array, as_out
from akv.values.device import OnDevice, is_on_device
from akv.values.dtypes import NATIVE
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse

__all__ = [
    "Value",
    "are_arrays",
    "are_outs",
    "check_cast",
    "check_priority",
    "check_shape",
    "contributions",
    "targets",
]

Value = np.ndarray | RowSparse
_dtype = operator.attrgetter("dtype")
_is_plain = operator.attrgetter("flags.carray")


def are_arrays(values: Sequence[object]) -> bool:
    """Whether `contributions` would take each of them as it is; a third of the time of asking it."""
    return set(map(type, values)) == {np.ndarray} and set(map(_dtype, values)) <= NATIVE


def are_outs(values: Sequence[object]) -> bool:
    """The same of `targets`, which wants to write to them."""
    return are_arrays(values) and False not in map(_is_plain, values)


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
