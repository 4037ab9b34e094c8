"""Pushes whose parts do not fit each other: the server is only asked what is stored, which says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from akv import operations as ops
from akv.errors import DTypeMismatch, ProtocolError
from akv.values.forms import Value, check_cast, check_shape
from akv.values.keys import Key
from akv.values.singles import Singles, dtypes_of, shapes_of

from . import wire as w

__all__ = ["mismatched", "refuse"]


def mismatched(op: ops.Push) -> list[Key]:
    """The keys up to the first whose values from several devices, or arrays for the result, cannot all fit."""
    if isinstance(op.groups, Singles) and _are_for(op.groups, op.outs if isinstance(op, ops.PushPull) else None):
        return []
    for index, (group, outs) in enumerate(zip(op.groups, _outs(op), strict=True)):
        if len(group) == 1 and not outs:
            continue
        first = group[0]
        alike = all(part.shape == first.shape and part.dtype == first.dtype for part in group[1:])
        if not (alike and all(out.shape == first.shape and _can_be_cast(first, out) for out in outs)):
            return list(op.keys[: index + 1])
    return []


def refuse(op: ops.Push, stored: Sequence[w.Entry]) -> None:
    """Say what is wrong.

    Raises:
        ShapeMismatch, DTypeMismatch: that is wrong. ProtocolError: the server describes something that fits it all.
    """
    for key, group, outs, entry in zip(op.keys, op.groups, _outs(op), stored, strict=False):
        dtype = w.dtype_to_numpy(entry.dtype)
        for part in group:
            check_shape(op.verb, key, part.shape, entry.shape)
            if part.dtype != dtype:
                raise DTypeMismatch(f"{op.verb} of key {key!r}: dtype {part.dtype} where the stored value has {dtype}")
        for out in outs:
            check_shape(op.verb, key, out.shape, entry.shape)
            check_cast(op.verb, key, dtype, out.dtype)
    raise ProtocolError(f"{op}: the server did not say what is stored")


def _are_for(values: Singles[Any], outs: Sequence[Sequence[Value]] | None) -> bool:
    """Whether the arrays for the results are like what is pushed; a quarter of the time of a look at each."""
    if outs is None:
        return True
    if not isinstance(outs, Singles):
        return False
    given, wanted = values.values, outs.values
    return shapes_of(given) == shapes_of(wanted) and dtypes_of(given) == dtypes_of(wanted)


def _can_be_cast(value: Value, out: Value) -> bool:
    return value.dtype.kind != "c" or out.dtype.kind == "c"


def _outs(op: ops.Push) -> Iterator[Sequence[Value]]:
    outs = op.outs if isinstance(op, ops.PushPull) else None
    return iter(outs if outs is not None else [()] * len(op.groups))
