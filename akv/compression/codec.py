"""What all codecs share: the description, the checks, and the walk through a tensor block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from akv.compression import buffers
from akv.compression.buffers import Array, Memory, Packed
from akv.errors import InvalidArgument
from akv.optim.blocks import flat
from akv.values.dtypes import DType

# Values per step, so that gradient, residual and scratch of a step (512 KiB each in float32) stay in cache. 2bit in
# GB/s, without and with numba, on Zen 4: 16 Ki values 2.4 and 4.5, 64 Ki 3.6 and 7.3, 128 Ki 3.9 and 8.1, 256 Ki 4.1
# and 8.5.
BLOCK = 131_072


@dataclass(frozen=True, slots=True)
class Compression(ABC):
    """A codec: an immutable description, equal to another one of the same type and numbers, safe in any thread.

    Packed bytes depend on the values and the description only, never on the dtype of the gradient or the machine
    (everything is little-endian). A tensor is packed in units of `granule` values, so any range [lo, hi) of the
    flattened tensor whose ends are multiples of `granule` (or the end of the tensor) may be encoded and decoded by
    itself: its bytes are those of the whole between `packed_nbytes(lo)` and `packed_nbytes(hi)`.
    """

    name: ClassVar[str]
    """The word for it in a spec: `2bit`, `int8`, ..."""
    needs_residual: ClassVar[bool] = False
    """True where a single message means nothing without error feedback, so not for pulls."""
    carries_nonfinite: ClassVar[bool] = True
    """True if NaN or infinity in a gradient reaches the receiver as such. Where False, look before encoding."""
    _unpacks_straight: ClassVar[bool] = False
    """True where unpacking takes no scratch memory, so that blocks would only be more calls."""

    @property
    @abstractmethod
    def granule(self) -> int:
        """Values per packed unit."""

    @property
    def _step(self) -> int:
        return max(BLOCK // self.granule, 1) * self.granule

    @abstractmethod
    def packed_nbytes(self, size: int) -> int:
        """The exact number of bytes that `size` values take."""

    @abstractmethod
    def _pack(self, grad: Array, kept: Array | None, packed: Packed) -> None:
        """Pack a block of float32 or float64, only to be read; with `kept`, their sum, and leave there what was not
        sent."""

    @abstractmethod
    def _unpack(self, packed: Packed, values: Array) -> None:
        """Write a block of float32 or float64."""

    def to_spec(self) -> dict[str, Any]:
        """The description as plain words and numbers, for msgpack or JSON; `from_spec` takes it back."""
        return {"type": self.name} | {one.name: getattr(self, one.name) for one in fields(self)}

    def encode(self, grad: Array, residual: Array | None, out: Memory) -> int:
        """Pack `grad` plus `residual` into `out`; returns the number of bytes used, `packed_nbytes(grad.size)`.

        `grad` is of any shape, layout and real floating dtype, and is never written to. `residual` holds as many
        values (float64 for float64, else float32; C-contiguous) and is updated in place: decoded bytes plus residual
        give gradient plus old residual, so `add_decoded(out, residual)` takes back a message that nobody will apply.
        None means no error feedback. Nothing is kept of either.

        Raises DTypeMismatch, ShapeMismatch, and InvalidArgument (no residual where one is needed, `out` too small or
        read-only, memory that is not contiguous); nothing is written then.
        """
        work = buffers.work_dtype(grad.dtype)
        kept = self._kept(residual, grad)
        target = buffers.packed_target(out, self.packed_nbytes(grad.size))
        source = flat(grad)
        with np.errstate(all="ignore"):
            for part, unit in self._steps(grad.size, self._step):
                values = buffers.read_only(np.asarray(source[part], work))
                self._pack(values, None if kept is None else kept[part], target[unit])
        return target.size

    def decode(self, packed: Memory, out: Array) -> None:
        """Write the values into `out` (any dtype that `encode` takes, any shape, C-contiguous).

        Raises ProtocolError (not `packed_nbytes(out.size)` bytes, or bytes that no encoder makes), DTypeMismatch,
        and InvalidArgument (`out` read-only or not contiguous); nothing is written then.
        """
        straight = self._unpacks_straight and out.dtype == buffers.work_dtype(out.dtype)
        self._restore(packed, out, self._write, out.size if straight else self._step)

    def add_decoded(self, packed: Memory, out: Array) -> None:
        """Like `decode`, but `out += values`, in one pass over `out`."""
        self._restore(packed, out, self._add, self._step)

    def prepare(self, dtype: DType) -> None:
        """Import numba and compile what gradients of this dtype need, so that no push has to wait for it.

        dtype: one that `encode` takes. Call it off the event loop; without numba there is nothing to do.
        """
        size = 2 * self.granule + 1  # several whole units, and a part of one
        grad, packed = np.zeros(size, dtype), np.empty(self.packed_nbytes(size), np.uint8)
        self.encode(grad, np.zeros(size, buffers.work_dtype(dtype)), packed)
        if not self.needs_residual:
            self.encode(grad, None, packed)
        self.decode(packed, grad)

    def check(self, packed: Memory, size: int) -> None:
        """Raise ProtocolError unless `packed` may be the bytes of `size` values."""
        self._check(buffers.packed_source(packed, self.packed_nbytes(size), size), size)

    def _restore(self, packed: Memory, out: Array, put: Callable[[Packed, Array, DType], None], step: int) -> None:
        work = buffers.work_dtype(out.dtype)
        target = buffers.writable("out", out)
        source = buffers.packed_source(packed, self.packed_nbytes(target.size), target.size)
        self._check(source, target.size)
        with np.errstate(all="ignore"):
            for part, unit in self._steps(target.size, step):
                put(source[unit], target[part], work)

    def _check(self, packed: Packed, size: int) -> None:
        """Raise ProtocolError for bytes that no encoder makes of `size` values."""

    def _write(self, packed: Packed, block: Array, work: DType) -> None:
        if block.dtype == work:
            self._unpack(packed, block)
        else:
            block[...] = self._values(packed, block.size, work)

    def _add(self, packed: Packed, block: Array, work: DType) -> None:
        np.add(block, self._values(packed, block.size, work), out=block, casting="same_kind")

    def _values(self, packed: Packed, size: int, work: DType) -> Array:
        values = np.empty(size, work)
        self._unpack(packed, values)
        return values

    def _kept(self, residual: Array | None, grad: Array) -> Array | None:
        if residual is not None:
            return buffers.flat_residual(residual, grad)
        if self.needs_residual:
            raise InvalidArgument(f"{self.name} compression needs a residual: it cannot be used for pulls")
        return None

    def _steps(self, size: int, step: int) -> Iterator[tuple[slice, slice]]:
        """Blocks of `step` values, which are whole granules, as (values, packed bytes), in order."""
        for lo in range(0, size, max(step, 1)):
            hi = min(lo + step, size)
            yield slice(lo, hi), slice(self.packed_nbytes(lo), self.packed_nbytes(hi))
