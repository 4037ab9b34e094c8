"""1bit and 2bit, bit for bit as MXNet packs them (src/kvstore/gradient_compression-inl.h).

Both fill 32-bit words, the first value in the highest bits of the first byte, unused bits zero. MXNet computes in
float32 only; float64 gradients follow the same rule in float64.

NaN and infinity cannot be sent. An element whose residual became NaN sends "no" (1bit: -1, 2bit: 0) for ever, an
infinite one its sign, exactly as in MXNet; so `carries_nonfinite` is False, and whoever rejects such gradients has to
look before encoding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from akv.compression.buffers import Array, Packed
from akv.compression.codec import Compression
from akv.compression.compiled import kernels
from akv.optim.parameters import Interval, check_fields, number

# c0 | c1 << 8 | c2 << 16 | c3 << 24 times this has c0 c1 c2 c3, two bits each, in its top byte; no carry reaches it.
_GATHER = np.uint32(1 << 30 | 1 << 20 | 1 << 10 | 1)

# Between these a number stays above zero and finite when it is rounded to float32.
_POSITIVE_SINGLE = Interval(low=2.0**-149, high=float(np.finfo(np.float32).max))


@dataclass(frozen=True, slots=True)
class Bits(Compression):
    """What the two have in common: compiled loops take the whole bytes, numpy what is left, or all."""

    needs_residual: ClassVar[bool] = True
    carries_nonfinite: ClassVar[bool] = False
    _unpacks_straight: ClassVar[bool] = True

    _per_byte: ClassVar[int]
    _loops: ClassVar[tuple[str, str]]
    """To pack and to unpack."""

    @property
    @abstractmethod
    def _number(self) -> np.float32:
        """The threshold."""

    @property
    def granule(self) -> int:
        return 4 * self._per_byte

    def packed_nbytes(self, size: int) -> int:
        return -(-size // self.granule) * 4

    def _pack(self, grad: Array, kept: Array | None, packed: Packed) -> None:
        assert kept is not None
        threshold = kept.dtype.type(self._number)
        loop, whole = self._compiled(0, kept.size)
        if loop is not None:
            loop(grad, kept, packed[:whole], threshold)
        if whole < packed.size:
            rest = slice(whole * self._per_byte, None)
            self._pack_rest(np.add(kept[rest], grad[rest], out=kept[rest]), packed[whole:], threshold)

    def _unpack(self, packed: Packed, values: Array) -> None:
        loop, whole = self._compiled(1, values.size)
        if loop is not None:
            loop(packed[:whole], values, values.dtype.type(self._number))
        _look_up(self._table(values.dtype.char), packed[whole:], values[whole * self._per_byte :])

    def _compiled(self, which: int, size: int) -> tuple[Callable[..., None] | None, int]:
        """A loop, if there is one, and how many bytes it takes."""
        fast = kernels()
        return (None, 0) if fast is None else (getattr(fast, self._loops[which]), size // self._per_byte)

    @abstractmethod
    def _pack_rest(self, values: Array, packed: Packed, threshold: Any) -> None:
        """Pack, and take from `values` what is sent."""

    @abstractmethod
    def _table(self, dtype: str) -> Array:
        """A row of values for every byte."""


@dataclass(frozen=True, slots=True)
class OneBit(Bits):
    """r += g; r > threshold sends +1 and r -= 1, anything else sends -1 and r += 1.

    The threshold (any finite number) is only the cut: what is decoded is +1 and -1.
    """

    name: ClassVar[str] = "1bit"
    _per_byte: ClassVar[int] = 8
    _loops: ClassVar[tuple[str, str]] = ("one_bit", "one_bit_back")

    threshold: float = number(0.5)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def _number(self) -> np.float32:
        return np.float32(self.threshold)

    def _pack_rest(self, values: Array, packed: Packed, threshold: Any) -> None:
        bits = np.zeros(packed.size * 8, np.bool_)
        above = np.greater(values, threshold, out=bits[: values.size])
        values += np.int8(1) - 2 * above.view(np.int8)
        packed[...] = np.packbits(bits)

    def _table(self, dtype: str) -> Array:
        return _one_bit_table(dtype)


@dataclass(frozen=True, slots=True)
class TwoBit(Bits):
    """r += g; r >= threshold sends +threshold, r <= -threshold sends -threshold, else 0; r -= what was sent.

    Codes: 11 plus, 10 minus, 00 zero. The threshold is held in float32, where it must be above zero, as in MXNet.
    """

    name: ClassVar[str] = "2bit"
    _per_byte: ClassVar[int] = 4
    _loops: ClassVar[tuple[str, str]] = ("two_bit", "two_bit_back")

    threshold: float = number(0.5, _POSITIVE_SINGLE)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def _number(self) -> np.float32:
        return np.float32(self.threshold)

    def _pack_rest(self, values: Array, packed: Packed, threshold: Any) -> None:
        padded = np.zeros(packed.size * 4, np.uint8)
        codes = padded[: values.size]
        plus, minus = values >= threshold, values <= -threshold
        values -= (plus.view(np.int8) - minus.view(np.int8)) * threshold
        np.add(plus, minus, out=codes, dtype=np.uint8)
        codes += codes
        codes += plus
        packed[...] = (padded.view("<u4") * _GATHER) >> 24

    def _table(self, dtype: str) -> Array:
        return _two_bit_table(dtype, self.threshold)


@lru_cache(maxsize=2)
def _one_bit_table(dtype: str) -> Array:
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8)
    table: Array = np.array([-1, 1], dtype)[bits]
    return table


@lru_cache(maxsize=16)
def _two_bit_table(dtype: str, threshold: float) -> Array:
    # Code 01 is never sent; MXNet decodes it as zero too.
    step = np.float32(threshold)
    codes = np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3
    table: Array = np.array([0, 0, -step, step], dtype)[codes]
    return table


def _look_up(table: Array, packed: Packed, values: Array) -> None:
    """`table` has a row of values for every byte."""
    width = table.shape[1]
    whole = values.size // width
    rows = values[: whole * width].reshape(whole, width)
    # With mode="raise" take buffers its result, so that an error leaves `out` as it was; a byte cannot be out of range.
    np.take(table, packed[:whole], axis=0, out=rows, mode="clip")
    if whole * width < values.size:
        values[whole * width :] = table[packed[whole]][: values.size - whole * width]
