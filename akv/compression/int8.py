"""int8: blocks of signed bytes, each block with a float32 scale in front."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from akv.compression.buffers import Array, Packed, magnitude_bits, read_only
from akv.compression.codec import Compression
from akv.compression.compiled import kernels
from akv.errors import InvalidArgument
from akv.optim.parameters import Interval, as_whole, check_fields


def _as_block(owner: str, name: str, value: object) -> int:
    block = as_whole(owner, name, value, Interval(16, 65_536))
    if block & (block - 1):
        raise InvalidArgument(f"{owner}: {name}={block} is not a power of two")
    return block


@dataclass(frozen=True, slots=True)
class Int8(Compression):
    """Per block scale = max |v| / 127, then round(v / scale) to the nearest even; 1 + 4 / block bytes a value.

    `block` is a power of two from 16 to 65,536. With or without error feedback (pulls).
    A block that holds NaN or infinity, or whose scale exceeds float32, decodes to NaN throughout and leaves a residual
    of zero: the receiver was told, and the sender recovers. A block whose largest magnitude is below 4e-37 is sent as
    zeros, because float32 has no reciprocal of its scale.
    """

    name: ClassVar[str] = "int8"
    _unpacks_straight: ClassVar[bool] = True

    block: int = field(default=256, metadata={"parse": _as_block})

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def granule(self) -> int:
        return self.block

    def packed_nbytes(self, size: int) -> int:
        return -(-size // self.block) * 4 + size

    def _pack(self, grad: Array, kept: Array | None, packed: Packed) -> None:
        values = grad if kept is None else np.add(kept, grad, out=kept)
        for rows, scales, codes in self._rows(values, packed):
            _quantise(rows, scales, codes, kept is not None)

    def _unpack(self, packed: Packed, values: Array) -> None:
        for rows, scales, codes in self._rows(values, packed):
            _restore(codes, scales, rows)

    def _rows(self, values: Array, packed: Packed) -> list[tuple[Array, Array, Array]]:
        """The whole blocks, and the last short one, each as (rows of values, column of scales, rows of codes)."""
        whole = values.size // self.block
        cut, at = whole * self.block, whole * (self.block + 4)
        parts = [(values[:cut].reshape(whole, self.block), packed[:at].reshape(whole, self.block + 4))]
        if cut < values.size:
            parts.append((values[None, cut:], packed[None, at:]))
        return [(rows, unit[:, :4].view("<f4"), unit[:, 4:].view(np.int8)) for rows, unit in parts]


def _quantise(rows: Array, scales: Array, codes: Array, feedback: bool) -> None:
    peak = _peaks(rows)
    scale = (peak / rows.dtype.type(127)).astype(np.float32)
    bad = ~np.isfinite(scale)
    if bad.any():
        rows = _silence(rows, bad, feedback)
    inverse = 1 / scale.astype(rows.dtype)
    inverse[bad | ~np.isfinite(inverse.astype(np.float32))] = 0
    scale[inverse == 0] = 0
    _write_codes(rows, inverse, codes)
    if feedback:
        _subtract(rows, codes, scale.astype(rows.dtype))
    scale[bad] = np.nan
    scales[:, 0] = scale


def _peaks(rows: Array) -> Array:
    fast = kernels()
    peaks = np.empty(rows.shape[0], rows.dtype)
    if fast is not None:
        bits, mask = magnitude_bits(rows)
        fast.peaks(bits, mask, peaks.view(bits.dtype))
    else:
        np.abs(rows).max(axis=1, out=peaks)
    return peaks


def _silence(rows: Array, bad: Array, feedback: bool) -> Array:
    silent = rows if feedback else rows.copy()
    silent[bad] = 0
    return silent if feedback else read_only(silent)


def _write_codes(rows: Array, inverse: Array, codes: Array) -> None:
    fast = kernels()
    if fast is not None:
        return fast.codes(rows, inverse, codes)
    scaled = rows * inverse[:, None]
    codes[...] = np.rint(scaled, out=scaled)


def _restore(codes: Array, scales: Array, rows: Array) -> None:
    fast = kernels()
    if fast is not None:
        return fast.scaled(codes, scales[:, 0].astype(rows.dtype), rows)
    np.multiply(codes, scales, out=rows, dtype=rows.dtype)


def _subtract(rows: Array, codes: Array, scale: Array) -> None:
    fast = kernels()
    if fast is not None:
        return fast.less(rows, codes, scale)
    rows -= np.multiply(codes, scale[:, None], dtype=rows.dtype)
