"""One operation on its way to a server and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from akv import operations as ops
from akv.backend.storage import Info
from akv.compression import Compression
from akv.errors import AkvError, ProtocolError
from akv.operations import Operation
from akv.values.forms import Value, check_cast, check_shape
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse

from . import wire as w
from .agreed import restored
from .delivery import deliver, fits, owned, read_only
from .doubts import refuse
from .exchange import Exchange
from .packing import Packing, Quantiser
from .payloads import staging, value_from
from .questions import ask, ask_packed

__all__ = ["Asking"]

Wanted = tuple[Key, Sequence[Value]]


class Asking:
    """What became a request, or several one after the other (a broadcast is an init and a pull).

    While an answer arrives it may be received straight into the caller's arrays. If the connection breaks then, they
    hold parts of it until the answer to the repeated request is there, or for ever if there will be none.

    Attributes:
        number: of the request.
        done: to be called at its end.
        request: what is sent, and sent again after the connection broke; None of what went out as a frame.
        lent: a transport may read the caller's arrays.
        packing: what packs the gradients that it brings, if they travel packed.
        unpacking: a thread restores what the answer brought.
        leaving: the operation was cancelled, and ends as soon as nothing is lent.
    """

    # What most requests never change stands here, not in __init__.
    request: w.Request | None = None
    packing: Packing | None = None
    lent = leaving = unpacking = False
    _checked = False
    _wanted: list[Wanted] | None = None
    _landed: Collection[int] = ()

    def __init__(self, number: int, op: Operation, done: Callable[[Operation], None], where: str) -> None:
        self.number = number
        self.op = self._step = op
        self.done = done
        self._where = where

    def _begin(self, step: Operation) -> None:
        self._step = step
        self._wanted, self._checked, self._landed = None, False, ()

    @property
    def ready(self) -> bool:
        """Whether the request may be sent."""
        return not self.unpacking and (self.packing is None or self.packing.begun)

    def prepare(self, quantiser: Quantiser | None = None) -> bool:
        """Make the request, packed if there is a quantiser that packs; False where there is nothing to ask.

        Raises:
            AkvError: the operation cannot be sent.
        """
        step, scheme = self._step, None if quantiser is None else quantiser.scheme
        if quantiser is not None and scheme is not None and isinstance(step, ops.Push):
            self.packing = quantiser.pack(step.verb, step.keys, step.groups)
            self.request = ask_packed(self.number, step, self.packing)
        elif scheme is not None and scheme.pull is not None and isinstance(step, ops.Pull):
            self.request = ask_packed(self.number, step, None)
        else:
            self.request = ask(self.number, step)
        return self.request is not None

    def prepared(self) -> w.Request:
        """The request of an operation that went out as a frame, to be sent again. Raises what `prepare` raises."""
        self.prepare()
        assert self.request is not None
        return self.request

    def go_on(self, number: int) -> None:
        """The first part is done: make the request of the next. Raises what `prepare` raises."""
        assert self._step.follow is not None
        self.number = number
        self._begin(self._step.follow)
        self.prepare()

    def end(self, error: BaseException | None) -> None:
        """Tell the engine."""
        if self.packing is not None:
            applied = self.op.keys if error is None else error.applied if isinstance(error, AkvError) else ()
            self.packing.settle(applied)
        if error is not None:
            self.op.error = error
        self.request = None
        self.done(self.op)

    # -- the answer -------------------------------------------------------------------------------------------

    def landing(self, message: w.Result, index: int, nbytes: int) -> w.Buffer:
        """Memory for the bytes of an entry of the answer: the caller's own array, where it is like that.

        Raises:
            AkvError: the answer does not fit. Nothing was written to then.
        """
        self._check(message.entries)
        entry = message.entries[index]
        out = self._own(entry, index) if entry.kind == w.Kind.DENSE else None
        return staging(nbytes) if out is None else w.array_bytes(out)

    def unpack(self, result: w.Result, codec: Compression) -> w.Result:
        """The same answer with packed values restored, in the caller's arrays where they are like that.

        Raises:
            AkvError: the answer does not fit.
        """
        self._check(result.entries)
        pairs = list(zip(result.entries, result.data, strict=True))
        for index, (entry, data) in enumerate(pairs):
            if entry.kind == w.Kind.CODED:
                pairs[index] = restored(entry, data, codec, self._own(entry, index))
        return w.Result(result.request, tuple([entry for entry, _ in pairs]), [data for _, data in pairs])

    def _own(self, entry: w.Entry, index: int) -> np.ndarray | None:
        """The caller's array, if the value may be received straight into it."""
        targets = self._wanted[index][1] if self._wanted else ()
        if targets and isinstance(out := targets[0], np.ndarray) and fits(out, entry):
            self._landed = {*self._landed, index}
            return out
        return None

    def take(self, result: w.Result) -> bool:
        """Make the operation's outcome of the answer; return whether there is more to ask: see `go_on`.

        Raises:
            AkvError: the answer does not fit.
        """
        step, entries = self._step, result.entries
        if type(step) is ops.Push and type(self.request) is w.Push and len(entries) == len(step.keys):
            self.op.result = step.outcome([entry.version for entry in entries])
            return False
        if isinstance(step, ops.Push) and isinstance(self.request, w.Info):
            refuse(step, entries)
        self._check(entries)
        self.op.result = step.outcome(self._results(entries, result.data))
        return step.follow is not None

    def _check(self, entries: Sequence[w.Entry]) -> None:
        """Hold the answer against what was asked, and the caller's arrays, before any of them is written to."""
        if self._checked:
            return
        wanted, verb = _wanted(self._step), self._step.verb
        self._wanted = wanted
        if wanted is not None and len(entries) != len(wanted):
            raise ProtocolError(f"{verb}: the server answered with {len(entries)} entries where {len(wanted)} were due")
        for (key, outs), entry in zip(wanted or (), entries, strict=False):
            for out in outs:
                if out.shape != entry.shape:
                    check_shape(verb, key, out.shape, entry.shape)
                if out.dtype is not (dtype := w.dtype_to_numpy(entry.dtype)):
                    check_cast(verb, key, dtype, out.dtype)
        self._checked = True

    def _results(self, entries: Sequence[w.Entry], data: Sequence[w.Payload]) -> list[Any]:
        match self._step:
            case ops.PushPull():
                return [None] * len(entries) + self._values(entries, data)
            case ops.Push():
                return [entry.version for entry in entries]
            case ops.Pull():
                return self._values(entries, data)
            case ops.PullRows():
                return _rows(self._step, map(value_from, entries, data))
            case ops.Snapshot():
                return [read_only(value) for value in map(value_from, entries, data)]
            case ops.Wait():
                self._step.reached = max([self._step.min_version, *[entry.version for entry in entries]])
            case ops.Describe():
                self._step.infos = [_info(entry, self._where) for entry in entries]
            case Exchange():
                self._step.entries, self._step.data = entries, data
            case ops.ListKeys():
                self._step.found = [entry.key for entry in entries if entry.key is not None]
            case _:
                pass
        return []

    def _values(self, entries: Sequence[w.Entry], data: Sequence[w.Payload]) -> list[Any]:
        assert self._wanted is not None
        values: list[Any] = list(map(value_from, entries, data))
        for index, (_, targets) in enumerate(self._wanted):
            if not targets:
                values[index] = owned(values[index])
                continue
            for out in targets[1:] if index in self._landed else targets:
                deliver(out, values[index])
            values[index] = None
        return values


def _wanted(step: Operation) -> list[Wanted] | None:
    """For each entry that the answer has to have, its key, and the caller's arrays that it is for."""
    match step:
        case ops.Pull() if step.outs is not None:
            return list(zip(step.keys, step.outs, strict=True))
        case ops.PushPull():
            return _wanted(step.read)
        case ops.PullRows():
            pairs = zip(step.keys, step.requests, strict=True)
            return [(key, () if out is None else (out,)) for key, group in pairs for _, out in group]
        case ops.Pull() | ops.Push() | ops.Snapshot() | ops.Describe():
            return [(key, ()) for key in step.keys]
        case _:
            return None


def _rows(step: ops.PullRows, values: Iterator[Value]) -> list[list[RowSparse]]:
    """The rows that were asked for, in the order of the request."""
    return [[_row(next(values), out) for _, out in group] for group in step.requests]


def _row(value: Value, out: RowSparse | None) -> RowSparse:
    if not isinstance(value, RowSparse):
        raise ProtocolError("row_sparse_pull: the server answered with an array where rows were due")
    if out is None:
        return RowSparse(owned(value.indices), owned(value.values), value.shape)
    out.replace(owned(value.indices), owned(value.values))
    return out


def _info(entry: w.Entry, where: str) -> Info:
    dtype = w.dtype_to_numpy(entry.dtype)
    return Info(entry.shape, dtype, entry.version, entry.number or math.prod(entry.shape) * dtype.itemsize, where)
