"""One operation on its way to a server and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from akv import operations as ops
from akv.backend.storage import Info
from akv.compression import Compression
from akv.errors import AkvError, ProtocolError
from akv.operations import Operation
from akv.values.forms import Value
from akv.values.rowsparse import RowSparse

from . import wire as w
from .agreed import restored
from .client_requests import ask, ask_packed
from .delivery import owned, read_only
from .due import Due
from .exchange import Exchange
from .lists import take_list
from .mismatch import refuse
from .packing import Packing, Quantiser
from .payloads import staging, value_from

__all__ = ["Call"]


class Call:
    """What became a request, or several one after the other (a broadcast is an init and a pull).

    While an answer arrives it may be received straight into the caller's arrays. If the connection breaks then, they
    hold parts of it until the answer to the repeated request is there, or for ever if there will be none.

    Attributes:
        number: of the request.
        done: to be called at its end.
        request: what is sent, and sent again after the connection broke; None of what went out as a frame.
        lent: a transport may read the caller's arrays.
        packing: what packs the gradients that it brings, if they travel packed.
        answered: the server has done it: of its result at least a part has come.
        unpacking: a thread restores what the answer brought.
        leaving: the operation was cancelled, and ends as soon as nothing is lent.
    """

    # What most requests never change stands here, not in __init__.
    request: w.Request | None = None
    packing: Packing | None = None
    lent = leaving = answered = unpacking = False
    _due: Due | None = None

    def __init__(self, number: int, op: Operation, done: Callable[[Operation], None], where: str) -> None:
        self.number = number
        self.op = self._step = op
        self.done = done
        self._where = where

    def _begin(self, step: Operation) -> None:
        self._step = step
        self._due = None

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
            done = error is None or self.answered
            applied = self.op.keys if done else error.applied if isinstance(error, AkvError) else ()
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
        due, entry = self._held(message.entries), message.entries[index]
        out = due.own(entry, index) if entry.kind == w.Kind.DENSE else None
        return staging(nbytes) if out is None else w.array_bytes(out)

    def unpack(self, result: w.Result, codec: Compression) -> w.Result:
        """The same answer with packed values restored, in the caller's arrays where they are like that.

        Raises:
            AkvError: the answer does not fit.
        """
        due = self._held(result.entries)
        pairs = list(zip(result.entries, result.data, strict=True))
        for index, (entry, data) in enumerate(pairs):
            if entry.kind == w.Kind.CODED:
                pairs[index] = restored(entry, data, codec, due.own(entry, index))
        return w.Result(result.request, tuple([entry for entry, _ in pairs]), [data for _, data in pairs])

    def take(self, result: w.Result) -> bool:
        """Make the operation's outcome of the answer; return whether there is more to ask: see `go_on`.

        Raises:
            AkvError: the answer does not fit.
        """
        step, entries = self._step, result.entries
        if type(step) is ops.Push and type(self.request) is w.Push and len(entries) == len(step.keys):
            self.op.result = step.outcome(w.versions_in(entries))
            return False
        read = step.read if type(step) is ops.PushPull else step
        if type(read) is ops.Pull and self._due is None and (values := take_list(read, result)) is not None:
            self.op.result = read.outcome(values)
            return False
        if isinstance(step, ops.Push) and isinstance(self.request, w.Info):
            refuse(step, entries)
        self.op.result = step.outcome(self._results(self._held(entries), entries, result.data))
        return step.follow is not None

    def _held(self, entries: Sequence[w.Entry]) -> Due:
        """What is due, once the answer was held against it."""
        if self._due is None:
            self._due = Due(self._step, entries)
        return self._due

    def _results(self, due: Due, entries: Sequence[w.Entry], data: Sequence[w.Payload]) -> list[Any]:
        match self._step:
            case ops.PushPull():
                return [None] * len(entries) + due.values(entries, data)
            case ops.Push():
                return w.versions_in(entries)
            case ops.Pull():
                return due.values(entries, data)
            case ops.PullRows():
                return _rows(self._step, map(value_from, entries, data))
            case ops.Snapshot():
                return [read_only(value) for value in map(value_from, entries, data)]
            case ops.Wait():
                self._step.reached = max([self._step.min_version, *w.versions_in(entries)])
            case ops.Describe():
                self._step.infos = [_info(entry, self._where) for entry in entries]
            case Exchange():
                self._step.entries, self._step.data = entries, data
            case ops.ListKeys():
                self._step.found = [entry.key for entry in entries if entry.key is not None]
            case _:
                pass
        return []


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
