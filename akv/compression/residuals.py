"""What error feedback remembers: one residual per key and sender."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from akv.compression.buffers import Array, work_dtype
from akv.errors import DTypeMismatch, ShapeMismatch


class Residuals:
    """The sender's side of error feedback: residuals by key and by sender (a device's index, or a worker's rank).

    Several devices that push one key each have a residual of their own, as in MXNet's device store. Not locked: the
    caller orders the pushes of one key, which error feedback needs anyway.
    """

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[Hashable, dict[Hashable, Array]] = {}

    def of(self, key: Hashable, sender: Hashable, grad: Array) -> Array:
        """The residual for gradients like `grad`: flat, float64 for float64 and else float32, zeros at first.

        It stays owned here; hand it (or slices of it) to `Compression.encode`, which updates it in place.
        Raises DTypeMismatch and ShapeMismatch if an earlier gradient of this key and sender was a different one.
        """
        dtype = work_dtype(grad.dtype)
        senders = self._by_key.setdefault(key, {})
        residual = senders.get(sender)
        if residual is None:
            residual = senders[sender] = np.zeros(grad.size, dtype)
        _check_fit(key, residual, grad)
        return residual

    def drop(self, key: Hashable) -> None:
        """Forget the key, for all senders: it was deleted. A key that is not known is no error."""
        self._by_key.pop(key, None)

    @property
    def nbytes(self) -> int:
        """The memory held, in bytes."""
        return sum(residual.nbytes for senders in self._by_key.values() for residual in senders.values())


def _check_fit(key: Hashable, residual: Array, grad: Array) -> None:
    if residual.size != grad.size:
        raise ShapeMismatch(f"key {key!r}: gradients had {residual.size} values, this one has {grad.size}")
    if residual.dtype != work_dtype(grad.dtype):
        raise DTypeMismatch(f"key {key!r}: its residual is {residual.dtype}, no match for {grad.dtype} gradients")
