"""Operations as requests to a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from akv import operations as ops
from akv.errors import InvalidArgument
from akv.init import Table
from akv.operations import Operation
from akv.optim import sum_into
from akv.optim.updaters import Updater
from akv.values.buffers import empty
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse, merge, row_ids
from akv.values.singles import Singles

from . import wire as w
from .agreed import describe, packed_read
from .exchange import Exchange
from .lists import joined, named
from .mismatch import mismatched
from .packing import Packing
from .payloads import bare, pack

__all__ = ["REPEATABLE", "ask", "ask_packed"]

REPEATABLE = (w.Pull, w.Rows, w.Wait, w.Info, w.Keys, w.Capture, w.Fetch)
"""Requests that change nothing: they may simply be carried out again when the answer was lost on its way."""


def ask_packed(number: int, op: Operation, packing: Packing | None) -> w.Request | None:
    """The request for an operation whose gradients are packed, or, with no `packing`, for values that are.

    Raises:
        AkvError: the operation cannot be sent.
    """
    if packing is None:
        return w.Pull(number, op.priority, None, False, tuple([packed_read(key, op.min_version) for key in op.keys]))
    make = w.PushPull if isinstance(op, ops.PushPull) else w.Push
    return make(number, op.priority, None, packing.entries, packing.data)


def ask(number: int, op: Operation) -> w.Request | None:
    """The request for an operation; None where the server need not know.

    Raises:
        AkvError: the operation cannot be sent.
    """
    keys, priority = op.keys, op.priority
    if type(op) is ops.Push and len(op.groups) == 1 == len(op.groups[0]) and type(op.groups[0][0]) is np.ndarray:
        # By far the most frequent, and a third of the time.
        entry, data = pack(keys[0], op.groups[0][0])
        return w.Push(number, priority, None, (entry,), (data,))
    match op:
        case ops.Pull() | ops.Snapshot():
            return w.Pull(number, priority, None, False, named(op.selection, op.min_version))
        case ops.Init():
            return w.Init(number, priority, None, *_packed(keys, map(_table, op.values)))
        case ops.Push() if in_doubt := mismatched(op):
            return w.Info(number, priority, None, tuple(map(bare, in_doubt)))
        case ops.Push():
            make = w.PushPull if isinstance(op, ops.PushPull) else w.Push
            return make(number, priority, None, *_brought(op))
        case ops.PullRows():
            wanted = [(key, ids) for key, group in zip(keys, op.requests, strict=True) for ids, _ in group]
            ids = [row_ids(ids, None, op.verb, key) for key, ids in wanted]
            return w.Rows(number, priority, None, False, *_packed([key for key, _ in wanted], ids))
        case ops.Wait():
            # For a version above 0 the server has told already, see TcpBackend.await_versions.
            return None if op.min_version else w.Wait(number, priority, None, tuple(map(bare, op.awaited)))
        case ops.Delete():
            return w.Delete(number, priority, None, tuple(map(bare, keys)))
        case ops.Describe():
            return w.Info(number, priority, None, tuple(map(bare, keys)))
        case _:
            return _ask_of_all(number, op)


def _ask_of_all(number: int, op: Operation) -> w.Request | None:
    """The same, for operations on a store as a whole."""
    match op:
        case ops.ListKeys():
            return w.Keys(number)
        case ops.SetUpdater():
            return w.SetUpdater(number, 0, None, _name(op.updater))
        case ops.SetOptimizer():
            return w.SetOptimizer(number, 0, None, json.dumps(op.optimizer.to_dict(), separators=(",", ":")))
        case ops.SetLearningRate():
            return w.SetLearningRate(number, 0, None, op.learning_rate)
        case ops.SetMultipliers():
            return w.SetMultipliers(number, 0, None, op.name, tuple(op.factors.items()))
        case ops.SetCompression():
            return describe(number, op.scheme)
        case ops.Barrier():
            return w.Barrier(number, 0, None, op.name)
        case Exchange():
            return op.make(number)
        case ops.Flush():
            return None
        case _:
            raise InvalidArgument(f"{op.verb} does not exist for tcp:// stores")


def _brought(op: ops.Push) -> tuple[Sequence[w.Entry], Sequence[w.Payload]]:
    listed = joined(op.selection, op.groups.values) if isinstance(op.groups, Singles) else None
    return listed or _packed(op.keys, map(_total, op.groups))


def _packed(keys: Sequence[Key], values: Iterable[Value | Table]) -> tuple[tuple[w.Entry, ...], list[w.Payload]]:
    pairs = [pack(key, value) for key, value in zip(keys, values, strict=True)]
    return tuple([entry for entry, _ in pairs]), [data for _, data in pairs]


def _table(value: Value | Table) -> Value | Table:
    return value.canonical() if isinstance(value, RowSparse) else value


def _total(group: Sequence[Value]) -> Value:
    """The sum over devices, made here: it travels once."""
    if len(group) == 1 and type(group[0]) is np.ndarray:
        return group[0]
    rows = [part for part in group if isinstance(part, RowSparse)]
    if len(rows) == len(group):
        return merge(rows)  # of one as well: the wire takes no more rows than the table has
    if len(group) == 1:
        return group[0]
    arrays = [part.todense() if isinstance(part, RowSparse) else part for part in group]
    fresh = empty(arrays[0].shape, arrays[0].dtype)
    sum_into(fresh, arrays)
    return fresh


def _name(updater: Updater) -> str:
    """The name of an updater that exists on the server too."""
    name: str | None = getattr(updater, "name", None)
    if name is None:
        raise InvalidArgument("a function cannot travel to a server; use 'assign', 'add', or set_optimizer")
    return name
