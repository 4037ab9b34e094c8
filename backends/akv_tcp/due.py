"""What is due in answer to a request: for each entry its key, and the caller's arrays that it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from akv import operations as ops
from akv.errors import ProtocolError
from akv.operations import Operation
from akv.values.forms import Value, check_cast, check_shape
from akv.values.keys import Key
from akv.values.singles import Singles

from . import wire as w
from .delivery import deliver, fits, owned
from .lists import values_from

__all__ = ["Due"]

_Wanted: TypeAlias = tuple[Key, Sequence[Value]]


class Due:
    """What the answer to one request has to be like, and where its values go.

    Raises:
        AkvError: the answer does not fit. None of the caller's arrays was written to.
    """

    __slots__ = ("_landed", "_wanted")

    def __init__(self, step: Operation, entries: Sequence[w.Entry]) -> None:
        self._landed: set[int] = set()  # which entries are in their place already
        self._wanted = wanted = _wanted_by(step)
        if wanted is not None and len(entries) != len(wanted):
            due = f"{len(entries)} entries where {len(wanted)} were due"
            raise ProtocolError(f"{step.verb}: the server answered with {due}")
        for (key, outs), entry in zip(wanted or (), entries, strict=False):
            for out in outs:
                if out.shape != entry.shape:
                    check_shape(step.verb, key, out.shape, entry.shape)
                if out.dtype is not (dtype := w.dtype_to_numpy(entry.dtype)):
                    check_cast(step.verb, key, dtype, out.dtype)

    def own(self, entry: w.Entry, index: int) -> np.ndarray | None:
        """The caller's array, if the value may be received straight into it."""
        targets = self._wanted[index][1] if self._wanted else ()
        if targets and isinstance(out := targets[0], np.ndarray) and fits(out, entry):
            self._landed.add(index)
            return out
        return None

    def values(self, entries: Sequence[w.Entry], data: Sequence[w.Payload]) -> list[Any]:
        """The values for the caller, in memory of their own; None where they went to the caller's arrays."""
        assert self._wanted is not None
        found = values_from(entries, data)
        values: list[Any] = list(found.values if isinstance(found, Singles) else found)
        for index, (_, targets) in enumerate(self._wanted):
            if not targets:
                values[index] = owned(values[index])
                continue
            for out in targets[1:] if index in self._landed else targets:
                deliver(out, values[index])
            values[index] = None
        return values


def _wanted_by(step: Operation) -> list[_Wanted] | None:
    """None: as many entries as there are."""
    match step:
        case ops.Pull() if step.outs is not None:
            return list(zip(step.keys, step.outs, strict=True))
        case ops.PushPull():
            return _wanted_by(step.read)
        case ops.PullRows():
            pairs = zip(step.keys, step.requests, strict=True)
            return [(key, () if out is None else (out,)) for key, group in pairs for _, out in group]
        case ops.Pull() | ops.Push() | ops.Snapshot() | ops.Describe():
            return [(key, ()) for key in step.keys]
        case _:
            return None
