"""What both sides have to agree on: the rules of a job, and compression (descriptions, packed pushes and pulls)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from akv import operations as ops
from akv.compression import Coded, Compression, Scheme
from akv.errors import CompressionConflict, InvalidArgument, ProtocolError
from akv.job import Settings, Wishes
from akv.job.settings import Consistency, OnLoss
from akv.values.buffers import empty
from akv.values.keys import Key

from . import wire as w

__all__ = [
    "asks_packed",
    "coded_operation",
    "describe",
    "is_packed",
    "packed_read",
    "restored",
    "rules",
    "spec_of",
    "wishes_of",
]


_CODED = int(w.Kind.CODED)  # comparing with a member of an enum takes three times as long


def rules(wishes: Wishes | Settings) -> w.Settings:
    """What a client wishes of a job, or what holds in it, as it travels."""
    consistency, loss = wishes.consistency, wishes.on_worker_loss
    return w.Settings(
        None if consistency is None else w.Consistency[consistency.upper()],
        wishes.staleness,
        wishes.workers,
        None if loss is None else w.OnLoss[loss.upper()],
        wishes.worker_timeout,
    )


def wishes_of(rules: w.Settings) -> Wishes:
    """What `rules` made it of."""
    consistency, loss = rules.consistency, rules.on_worker_loss
    return Wishes(
        _CONSISTENCIES.get(consistency), rules.staleness, rules.workers, _LOSSES.get(loss), rules.worker_timeout
    )


_CONSISTENCIES: Mapping[w.Consistency | None, Consistency] = {
    w.Consistency.SYNC: "sync",
    w.Consistency.ASYNC: "async",
    w.Consistency.SSP: "ssp",
}
_LOSSES: Mapping[w.OnLoss | None, OnLoss] = {w.OnLoss.ABORT: "abort", w.OnLoss.DROP: "drop", w.OnLoss.WAIT: "wait"}


def describe(number: int, scheme: Scheme) -> w.SetCompression:
    """A scheme as a request: the types of the codecs, and the first one's numbers."""
    spec = scheme.push.to_spec()
    name = spec.pop("type") + ("" if scheme.pull is None else f",{scheme.pull.name}")
    return w.SetCompression(number, 0, None, name, tuple(spec.items()))


def spec_of(request: w.SetCompression) -> dict[str, object]:
    """What `describe` made it of. Whether it makes sense, akv.compression.Scheme says."""
    name, _, pull = request.name.partition(",")
    return {**dict(request.numbers), "type": name, **({"pull": pull} if pull else {})}


def packed_read(key: Key, version: int) -> w.Entry:
    """An entry that asks for a value, packed if that makes it smaller. Its dtype says nothing."""
    return w.Entry(key, w.Kind.CODED, int(w.DType.FLOAT32), version=version)


def asks_packed(request: w.Request) -> bool:
    """Whether a request brings packed values, or asks for them.

    Raises:
        InvalidArgument: it mixes them with others.
    """
    if not isinstance(request, (w.Push, w.PushPull, w.Pull)):
        return False
    kinds = w.kinds_of(request.entries)
    if _CODED in kinds and len(kinds) > 1:
        raise InvalidArgument("packed and unpacked values do not mix in one request")
    return _CODED in kinds


def coded_operation(request: w.Request, scheme: Scheme | None) -> ops.Operation:
    """The operation of a request that `asks_packed`, of a client that has agreed on `scheme`.

    Raises:
        CompressionConflict: it has agreed on none.
    """
    assert isinstance(request, (w.Push, w.PushPull, w.Pull))
    if scheme is None:
        raise CompressionConflict("packed values without an agreement; call set_gradient_compression first")
    keys = [entry.key for entry in request.entries if entry.key is not None]
    if isinstance(request, w.Pull):
        op = ops.CodedPull(keys, request.priority)
        op.min_version = max(entry.version for entry in request.entries)
        return op
    values = [_coded(scheme.push, *pair) for pair in zip(request.entries, request.data, strict=True)]
    kind = ops.CodedPushPull if isinstance(request, w.PushPull) else ops.CodedPush
    return kind(keys, values, request.priority)


def is_packed(result: w.Result) -> bool:
    """Whether an answer brings packed values."""
    return _CODED in w.kinds_of(result.entries)


def restored(entry: w.Entry, data: w.Payload, codec: Compression, out: np.ndarray | None) -> tuple[w.Entry, w.Payload]:
    """A packed entry of an answer as a dense one, restored in `out` (which is like it), or in fresh memory.

    Raises:
        ProtocolError: the bytes are not what the codec makes.
    """
    value = _coded(codec, entry, data)
    codec.check(value.packed, value.size)
    if out is None:
        out = empty(value.shape, value.dtype)
    codec.decode(value.packed, out)
    return entry._replace(kind=w.Kind.DENSE, nbytes=out.nbytes), w.array_bytes(out)


def _coded(codec: Compression, entry: w.Entry, data: w.Payload) -> Coded:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ProtocolError(f"a packed entry for key {entry.key!r} brings no bytes")
    packed = np.frombuffer(data, np.uint8) if len(data) else np.empty(0, np.uint8)
    return Coded(codec, packed, entry.shape, w.dtype_to_numpy(entry.dtype))
