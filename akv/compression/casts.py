"""fp16 and bf16: two bytes a value, with error feedback or without (pulls).

float64 is rounded to float32 first. Every NaN becomes the quiet NaN, infinities stay, and what is too large for the
format becomes infinity (fp16: from 65,520 on), as IEEE 754 has it. Where infinity or NaN was sent, the residual
starts again from zero: the receiver was told, and the sender recovers.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from akv.compression.buffers import Array, Packed, read_only
from akv.compression.codec import Compression
from akv.compression.compiled import kernels

Halves = npt.NDArray[np.uint16]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cast(Compression):
    """What the two have in common."""

    _special: ClassVar[np.uint16]
    """The exponent of infinity and NaN."""

    @property
    def granule(self) -> int:
        return 1

    def packed_nbytes(self, size: int) -> int:
        return 2 * size

    def _pack(self, grad: Array, kept: Array | None, packed: Packed) -> None:
        values = grad if kept is None else np.add(kept, grad, out=kept)
        halves = self._narrow(read_only(np.asarray(values, np.float32)))
        packed.view("<u2")[...] = halves
        if kept is not None:
            kept -= self._widen(read_only(halves))
            lost = (halves & self._special) == self._special
            if lost.any():
                kept[lost] = 0

    def _unpack(self, packed: Packed, values: Array) -> None:
        values[...] = self._widen(packed.view("<u2"))

    @staticmethod
    @abstractmethod
    def _narrow(values: Singles) -> Halves: ...

    @staticmethod
    @abstractmethod
    def _widen(halves: Halves) -> Singles: ...


@dataclass(frozen=True, slots=True)
class Float16(Cast):
    """IEEE 754 binary16: 11 significant bits, 6e-8 to 65,504."""

    name: ClassVar[str] = "fp16"
    _special: ClassVar[np.uint16] = np.uint16(0x7C00)

    @staticmethod
    def _narrow(values: Singles) -> Halves:
        fast = kernels()
        if fast is not None:
            out = np.empty(values.size, np.uint16)
            fast.half(values, values.view(np.uint32), out)
            return out
        halves = values.astype(np.float16).view(np.uint16)
        # Converters differ in what they keep of a NaN's payload and sign.
        halves[np.isnan(values)] = 0x7E00
        return halves

    @staticmethod
    def _widen(halves: Halves) -> Singles:
        fast = kernels()
        if fast is None:
            return halves.view(np.float16).astype(np.float32)
        values = np.empty(halves.size, np.float32)
        fast.unhalf(halves, values, values.view(np.uint32))
        return values


@dataclass(frozen=True, slots=True)
class BFloat16(Cast):
    """The upper half of a float32: 8 significant bits, float32's range."""

    name: ClassVar[str] = "bf16"
    _special: ClassVar[np.uint16] = np.uint16(0x7F80)

    @staticmethod
    def _narrow(values: Singles) -> Halves:
        bits = values.view(np.uint32)
        fast = kernels()
        if fast is not None:
            out = np.empty(bits.size, np.uint16)
            fast.brain(bits, out)
            return out
        # Nearest, ties to even: add half of the last place kept, less one where that place is even.
        rounded = bits >> 16
        rounded &= 1
        rounded += bits
        rounded += 0x7FFF
        rounded >>= 16
        halves = rounded.astype(np.uint16)
        halves[np.isnan(values)] = 0x7FC0
        return halves

    @staticmethod
    def _widen(halves: Halves) -> Singles:
        return np.left_shift(halves, 16, dtype=np.uint32).view(np.float32)
