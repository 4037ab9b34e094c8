"""Gradient compression in a storage: the residuals it keeps, and packed values on their way in and out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from akv.backend.screen import Screen
from akv.backend.storage import SnapshotStorage, Storage, Transaction, Where
from akv.compression import Coded, Compression, Residuals, Scheme
from akv.errors import CompressionConflict, DTypeMismatch, InvalidArgument
from akv.optim.blocks import FLOATS, flat
from akv.values.dtypes import DType, accumulator
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse

__all__ = ["CodedRead", "CompressionStorage", "Compressor", "Packed", "Part", "Pushed", "check_packable", "restore"]

# Below this a copy costs less than a snapshot, which makes the next write go to fresh memory.
_COPIED_NBYTES = 64 * 1024


class CompressionStorage(ABC):
    """A capability: gradient compression."""

    @abstractmethod
    def set_compression(self, scheme: Scheme, senders_pack: bool) -> None:
        """Compress what is pushed from now on; the same scheme again changes nothing.

        Without `senders_pack` each value of a push is packed with a residual of its own and restored, here; with it
        only `begin_coded` takes pushes.

        Raises:
            CompressionConflict: another scheme is set.
        """

    @abstractmethod
    def begin_coded(self, key: Key, values: Sequence[Coded]) -> Transaction:
        """`begin_write` of packed values.

        Raises:
            CompressionConflict: they are not packed as the scheme says. ProtocolError: no encoder made the bytes.
            And what begin_write raises.
        """

    @abstractmethod
    def check_plain(self, key: Key, values: Sequence[Value], agreed: Scheme | None) -> None:
        """Raise what begin_write raises because of compression, and change nothing.

        Also raises CompressionConflict unless whoever pushes has `agreed` to just this.
        """

    @abstractmethod
    def accept(self, key: Key, values: Sequence[Coded]) -> list[Part]:
        """Packed values as the parts of a sum, once they are found to be good. Raises what begin_coded raises."""

    @property
    @abstractmethod
    def pull_codec(self) -> Compression | None:
        """How pulled values are packed, if at all."""


class Compressor:
    """What a storage that compresses knows: the scheme and, unless the senders pack, the residuals."""

    __slots__ = ("_residuals", "_senders_pack", "scheme")

    def __init__(self, scheme: Scheme, senders_pack: bool) -> None:
        self.scheme = scheme
        self._senders_pack = senders_pack
        self._residuals = Residuals()

    def same(self, scheme: Scheme, senders_pack: bool) -> Compressor:
        """This one, which is asked for again. Raises CompressionConflict: it is another that is asked for."""
        if scheme != self.scheme or senders_pack != self._senders_pack:
            raise CompressionConflict(
                f"this store compresses with {self.scheme}, not with {scheme}; all workers set the same, once"
            )
        return self

    def pack(self, key: Key, values: Sequence[Value]) -> list[Part]:
        """The values of a push, each with the residual of its place in the list.

        Raises:
            InvalidArgument, DTypeMismatch: a value cannot be packed. CompressionConflict: its sender has to pack it.
        """
        arrays = self.check(key, values, self.scheme)
        residuals = [self._residuals.of(key, place, array) for place, array in enumerate(arrays)]
        return [Pushed(self.scheme.push, *pair) for pair in zip(arrays, residuals, strict=True)]

    def check(self, key: Key, values: Sequence[Value], agreed: Scheme | None) -> list[np.ndarray]:
        """The values as arrays that `pack` takes, of somebody who has `agreed`. Raises what it raises."""
        arrays = [check_packable("push", key, value) for value in values]
        if self._senders_pack or agreed != self.scheme:
            raise CompressionConflict(
                f"push of key {key!r}: this store compresses with {self.scheme}, which this worker has not agreed to; "
                "every worker calls set_gradient_compression with that before it pushes"
            )
        return arrays

    def accept(self, key: Key, values: Sequence[Coded]) -> list[Part]:
        """Values that senders have packed.

        Raises:
            CompressionConflict: in another way. ProtocolError: no encoder made the bytes. DTypeMismatch.
        """
        for value in values:
            if value.codec != self.scheme.push:
                raise CompressionConflict(
                    f"push of key {key!r}: packed with {value.codec}, where this store has {self.scheme}"
                )
            check_real("push", key, value.dtype)
            value.codec.check(value.packed, value.size)
        return [Packed(value) for value in values]

    def drop(self, key: Key) -> None:
        """The key was deleted."""
        self._residuals.drop(key)


class Part(ABC):
    """One value of a push on its way into a sum: a flat row of `size` values, restored by ranges of whole granules."""

    __slots__ = ("codec", "size")

    def __init__(self, codec: Compression, size: int) -> None:
        self.codec, self.size = codec, size

    @abstractmethod
    def write(self, part: slice, out: np.ndarray, add: bool, keep: bool) -> None:
        """Write a range to `out`, or add it. With `keep` a residual changes at once, without at `keep_residual`."""

    @abstractmethod
    def look(self, part: slice, screen: Screen) -> None:
        """Show a range to a screen."""

    def keep_residual(self) -> None:
        """The push has succeeded."""


class Pushed(Part):
    """A gradient that is packed, with error feedback, and restored: what a receiver would make of it."""

    __slots__ = ("_fresh", "_grad", "_residual")

    def __init__(self, codec: Compression, grad: np.ndarray, residual: np.ndarray) -> None:
        super().__init__(codec, grad.size)
        self._grad, self._residual = flat(grad), residual
        self._fresh: np.ndarray | None = None

    def write(self, part: slice, out: np.ndarray, add: bool, keep: bool) -> None:
        residual = self._residual[part]
        if not keep:
            self._fresh = residual = residual.copy()
        packed = np.empty(self.codec.packed_nbytes(out.size), np.uint8)
        self.codec.encode(self._grad[part], residual, packed)
        (self.codec.add_decoded if add else self.codec.decode)(packed, out)

    def look(self, part: slice, screen: Screen) -> None:
        screen.look(self._grad[part])

    def keep_residual(self) -> None:
        if self._fresh is not None:
            self._residual[...] = self._fresh


class Packed(Part):
    """What a sender has packed."""

    __slots__ = ("_dtype", "_packed")

    def __init__(self, value: Coded) -> None:
        super().__init__(value.codec, value.size)
        self._packed, self._dtype = value.packed, value.dtype

    def write(self, part: slice, out: np.ndarray, add: bool, keep: bool) -> None:
        packed = self._packed[self.codec.packed_nbytes(part.start) : self.codec.packed_nbytes(part.stop)]
        (self.codec.add_decoded if add else self.codec.decode)(packed, out)

    def look(self, part: slice, screen: Screen) -> None:
        if self.codec.carries_nonfinite:
            values = np.empty(part.stop - part.start, accumulator(self._dtype))
            self.write(part, values, False, False)
            screen.look(values)


def restore(parts: Sequence[Part], part: slice, out: np.ndarray, keep: bool = True) -> np.ndarray:
    """Write a range of the sum of some values to `out` (float32 or float64), in their order; returns `out`."""
    for number, one in enumerate(parts):
        one.write(part, out, number > 0, keep)
    return out


def check_packable(verb: str, key: Key, value: Value) -> np.ndarray:
    """The value as an array that can be packed. Raises InvalidArgument (rows), DTypeMismatch (no real floats)."""
    if isinstance(value, RowSparse):
        raise InvalidArgument(
            f"{verb} of key {key!r}: gradient compression takes dense arrays, not a RowSparse; "
            "keep the table in a store without compression, or push rows.todense()"
        )
    check_real(verb, key, value.dtype)
    return value


def check_real(verb: str, key: Key, dtype: DType) -> None:
    """Raise DTypeMismatch unless values of `dtype` can be packed."""
    if accumulator(dtype) not in FLOATS:
        raise DTypeMismatch(
            f"{verb} of key {key!r}: gradient compression takes real floating dtypes, not {dtype}; "
            "keep the key in a store without compression"
        )


class CodedRead(Transaction):
    """A value packed on its way out: a Coded, or the array itself where packing does not make it smaller."""

    __slots__ = ("_array", "_codec", "_key", "_packed", "_read", "_storage")

    def __init__(self, storage: Storage, codec: Compression | None, key: Key) -> None:
        self._storage, self._codec, self._key = storage, codec, key
        self._read = storage.begin_read(key, None)
        self._array: np.ndarray | None = None
        super().__init__(storage.nbytes(key), (self._pack,))

    @property
    def length(self) -> int:
        codec = self._fetch()
        return 1 if codec is None else max(1, -(-self._value.size // codec.granule))

    @property
    def _value(self) -> np.ndarray:
        assert self._array is not None
        return self._array

    def _fetch(self) -> Compression | None:
        """Get the value, which is not there before the pushes of the same operation are done."""
        storage, codec = self._storage, self._codec
        if self._array is None:
            snapshots = isinstance(storage, SnapshotStorage) and self.nbytes > _COPIED_NBYTES
            self._array = storage.snapshot(self._key) if snapshots else self._read.run()  # type: ignore[attr-defined]
            value = self._value
            if (
                codec is None
                or accumulator(value.dtype) not in FLOATS
                or codec.packed_nbytes(value.size) >= value.nbytes
            ):
                self._codec = None
            else:
                self._packed = np.empty(codec.packed_nbytes(value.size), np.uint8)
        return self._codec

    def _pack(self, where: Where) -> None:
        codec = self._fetch()
        if codec is None:
            return
        values, unit = self._value.reshape(-1), codec.granule
        start, stop = elements(where, unit, values.size)
        codec.encode(values[start:stop], None, self._packed[codec.packed_nbytes(start) : codec.packed_nbytes(stop)])

    def commit(self) -> Any:
        value, self._array = self._value, None
        return value if self._codec is None else Coded(self._codec, self._packed, value.shape, value.dtype)


def elements(where: Where, unit: int, size: int) -> tuple[int, int]:
    """The values that a slice of granules stands for."""
    if isinstance(where, slice):
        return where.start * unit, min(where.stop * unit, size)
    return 0, size
