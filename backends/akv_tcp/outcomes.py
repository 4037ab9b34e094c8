"""What has become of operations of the hosted store, as answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from akv import operations as ops
from akv.backend.storage import Info
from akv.compression import Coded
from akv.values.forms import Value

from . import wire as w
from .lists import joined
from .payloads import bare, pack
from .server_requests import refusal

__all__ = ["answer"]


def answer(request: w.Request, op: ops.Operation) -> w.Message:
    """RESULT or ERROR."""
    if op.error is not None:
        return refusal(request, op.error)
    entries, data = _outcome(request, op)
    return w.Result(request.request, entries, data)


def _outcome(request: w.Request, op: ops.Operation) -> tuple[Sequence[w.Entry], Sequence[w.Payload]]:
    result = op.result if op.selection.many else [op.result]
    match request:
        case w.Push():
            return w.Versions(result), ()
        case w.PushPull() | w.Pull():
            return _packed(result)
        case w.Rows():
            return _packed([rows for found in result for rows in (found if isinstance(found, list) else [found])])
        case w.Wait():
            return (w.Entry(None, version=op.result),), []
        case w.Info():
            return tuple(_info(info) for info in result), []
        case w.Keys():
            return tuple(bare(key) for key in result), []
        case _:
            return (), []


def _packed(values: Sequence[Value | Coded]) -> tuple[Sequence[w.Entry], Sequence[w.Payload]]:
    listed = joined(None, values)
    if listed is not None:
        return listed
    pairs = [pack(None, value) for value in values]
    return tuple([entry for entry, _ in pairs]), [data for _, data in pairs]


def _info(info: Info) -> w.Entry:
    dtype = w.dtype_from_numpy(info.dtype)
    whole = math.prod(info.shape) * info.dtype.itemsize
    held = 0 if info.nbytes == whole else info.nbytes
    return w.Entry(None, dtype=dtype, shape=info.shape, number=held, version=info.version)
