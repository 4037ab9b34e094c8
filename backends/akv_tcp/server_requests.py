"""Requests as operations of the hosted store."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from akv import operations as ops
from akv.backend.protocol import Backend
from akv.compression import Scheme
from akv.errors import AkvError, InvalidArgument, ProtocolError
from akv.optim import from_dict
from akv.values.forms import Value
from akv.values.keys import Key

from . import wire as w
from .agreed import asks_packed, coded_operation, spec_of
from .lists import values_from
from .payloads import bare, initial_from, value_from

__all__ = ["bound", "expected", "operation", "refusal"]

# Below this a copy costs less than the snapshot, which makes the next write go to fresh memory.
_COPIED_NBYTES = 64 * 1024
# That holds for each of several, as long as the store copies them at once.
_COPIED_KEYS = 32
# Of those that were waited for in vain, an error names so many.
_RANKS = 1024


def operation(request: w.Request, owner: int, backend: Any, scheme: Scheme | None) -> ops.Operation:
    """The operation that a request asks for, on behalf of the handle `owner`, which has agreed on `scheme`.

    Raises:
        AkvError: the request makes no sense.
    """
    if asks_packed(request):
        return coded_operation(request, scheme)
    match request:
        case w.Push():
            op: ops.Operation = _push(request)
        case w.Pull():
            op = _pull(request, backend)
        case w.Init():
            op = ops.Init(owner, _keys(request.entries), list(map(initial_from, request.entries, request.data)))
        case w.PushPull():
            op = _pushpull(request, backend)
        case w.Rows():
            wanted = _wanted_rows(request)
            op = ops.PullRows(list(wanted), None, request.priority, list(wanted.values()))
        case w.Wait() if len(request.entries) == 1:
            op = ops.Wait(request.entries[0].key, request.entries[0].version)
        case w.Delete():
            op = ops.Delete(_keys(request.entries))
        case w.Info():
            op = ops.Describe(_keys(request.entries))
        case w.Keys():
            op = ops.ListKeys()
        case w.SetUpdater():
            op = ops.SetUpdater(request.name)
        case w.SetOptimizer():
            op = ops.SetOptimizer(from_dict(_described(request.description)))
        case w.SetLearningRate():
            op = ops.SetLearningRate(request.learning_rate)
        case w.SetMultipliers() if request.name in ("lr_mult", "wd_mult"):
            op = ops.SetMultipliers(request.name, request.factors)
        case w.SetCompression():
            op = ops.SetCompression(spec_of(request), senders_pack=True)
        case w.Barrier():
            op = ops.Barrier(request.name)
        case _:
            raise ProtocolError(f"this server does not serve such a {type(request).__name__}")
    return op


def bound(request: w.Request, op: ops.Operation, most: int) -> None:
    """Have nothing take more than `most` bytes that a few bytes ask for, since nobody has counted them.

    Raises:
        InvalidArgument: it would.
    """
    if isinstance(op, ops.PullRows):
        op.most = most
    if isinstance(request, w.Init):
        sparse = [entry for entry in request.entries if entry.kind == w.Kind.ROWS]
        nbytes = sum([math.prod(entry.shape) * w.dtype_to_numpy(entry.dtype).itemsize for entry in sparse])
        if nbytes > most:
            raise InvalidArgument(
                f"init: the arrays would be {nbytes} bytes, the most is {most}; init a table instead, see akv.init"
            )


def refusal(request: w.Request, error: BaseException) -> w.Error:
    """The answer to a request that failed."""
    name = "" if isinstance(error, AkvError) else f"{type(error).__name__}: "
    text = " ".join([f"{name}{error}", *getattr(error, "__notes__", ())])
    told = w.Error(request.request, w.code_of(error), w.fitting_text(text))
    if isinstance(error, AkvError):
        told.entries = tuple([bare(key) for key in error.applied])
        told.ranks, told.waited = tuple(error.ranks[:_RANKS]), error.waited
    return told


def expected(request: w.Request, op: ops.Operation, backend: Backend) -> int:
    """The bytes that the answer will bring, as far as is known, and not paid for by those of the request.

    0 where a pull may have to wait for other clients: those may wait for what this client sends next, which must then
    be read.
    """
    if not isinstance(request, (w.Pull, w.Rows)) or backend.capabilities["collective"]:
        return 0
    # Not `op` itself for a pull: a snapshot goes over no bytes.
    return backend.size(op if isinstance(request, w.Rows) else ops.Pull(_keys(request.entries), None, 0))


def _push(request: w.Push) -> ops.Push:
    entries = w.listing_of(request.entries)
    # Small ones arrive in memory that cannot be kept, and of a single key there is a short way through the store.
    donate = entries.largest >= w.INLINE
    if len(entries) == 1 and not donate:
        return ops.Push(entries[0].key, value_from(entries[0], request.data[0]), request.priority)
    return ops.Push(entries.keys, values_from(entries, request.data), request.priority, donate)


def _pushpull(request: w.PushPull, backend: Any) -> ops.PushPull:
    entries = w.listing_of(request.entries)
    op = ops.PushPull(entries.keys, values_from(entries, request.data), None, request.priority, donate=True)
    if backend.capabilities["snapshots"] and _is_large(entries.nbytes, len(entries)):
        op.read = ops.Snapshot(op.selection)
    return op


def _pull(request: w.Pull, backend: Any) -> ops.Operation:
    entries = w.listing_of(request.entries)
    keys = entries[0].key if len(entries) == 1 else entries.keys
    op: ops.Operation = ops.Pull(keys, None, request.priority)
    if backend.capabilities["snapshots"] and _is_large(backend.size(op), len(entries)):
        # Sent from the store's own memory: the next write goes elsewhere while the snapshot lives.
        op = ops.Snapshot(op.selection)
        op.priority = request.priority
    if entries.newest:
        op.min_version = entries.newest
    return op


def _is_large(nbytes: int, count: int) -> bool:
    return nbytes > _COPIED_NBYTES * min(count, _COPIED_KEYS)


def _keys(entries: Sequence[w.Entry]) -> list[Key]:
    return [entry.key for entry in entries if entry.key is not None]


def _wanted_rows(request: w.Rows) -> dict[Key, list[Value]]:
    """The arrays of row ids of each key. Those of one key follow each other, or the answer could not be in order."""
    wanted: dict[Key, list[Value]] = {}
    last: Key | None = None
    for key, ids in zip(_keys(request.entries), map(value_from, request.entries, request.data), strict=True):
        if key != last and key in wanted:
            raise ProtocolError(f"the row ids for key {key!r} do not follow each other")
        wanted.setdefault(key, []).append(ids)
        last = key
    return wanted


def _described(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the description of an optimizer is no JSON: {error}") from None
