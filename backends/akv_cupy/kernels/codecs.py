"""The quantisers of `akv.compression` as loops over whole tensors, each one pass over values, residual and bytes.

They make the bytes and the residuals that `Compression.encode` makes and the values that `decode` makes, to the bit.
For the subset they are written in see `loops`.
"""

from __future__ import annotations

import numpy as np

from akv_cupy.kernels.halves import brain, half, unbrain, unhalf
from akv_cupy.kernels.kinds import (
    Count,
    Number,
    Read,
    ReadBytes,
    ReadCodes,
    ReadHalves,
    ReadScales,
    Real,
    Single,
    Written,
    WrittenBytes,
    WrittenCodes,
    WrittenHalves,
    WrittenScales,
)

team = range


def encode_1bit(packed: WrittenBytes, residual: Written, grad: Read, cut: Number, size: Count) -> None:
    """Eight values a byte, the first in the highest bit; bytes beyond the values become 0."""
    real = residual.dtype.type
    one, bound = real(1.0), real(cut)
    for b in range(packed.size):
        byte = 0
        for i in range(8 * b, min(8 * b + 8, size)):
            value = residual[i] + grad[i]
            above = value > bound
            residual[i] = value - (one if above else -one)
            byte = byte | ((1 if above else 0) << (7 - (i & 7)))
        packed[b] = np.uint8(byte)


def encode_2bit(packed: WrittenBytes, residual: Written, grad: Read, threshold: Number, size: Count) -> None:
    """Four values a byte, the first in the highest bits; bytes beyond the values become 0."""
    real = residual.dtype.type
    zero, step = real(0.0), real(threshold)
    for b in range(packed.size):
        byte = 0
        for i in range(4 * b, min(4 * b + 4, size)):
            value = residual[i] + grad[i]
            plus, minus = value >= step, value <= -step
            residual[i] = value - (step if plus else (-step if minus else zero))
            byte = byte | ((3 if plus else (2 if minus else 0)) << (6 - 2 * (i & 3)))
        packed[b] = np.uint8(byte)


def decode_1bit(out: Written, packed: ReadBytes) -> None:
    real = out.dtype.type
    one = real(1.0)
    for i in range(out.size):
        out[i] = one if (int(packed[i >> 3]) >> (7 - (i & 7))) & 1 else -one


def add_1bit(out: Written, packed: ReadBytes) -> None:
    real = out.dtype.type
    one = real(1.0)
    for i in range(out.size):
        out[i] += one if (int(packed[i >> 3]) >> (7 - (i & 7))) & 1 else -one


def decode_2bit(out: Written, packed: ReadBytes, threshold: Number) -> None:
    real = out.dtype.type
    zero, step = real(0.0), real(threshold)
    for i in range(out.size):
        code = (int(packed[i >> 2]) >> (6 - 2 * (i & 3))) & 3
        out[i] = step if code == 3 else (-step if code == 2 else zero)


def add_2bit(out: Written, packed: ReadBytes, threshold: Number) -> None:
    real = out.dtype.type
    zero, step = real(0.0), real(threshold)
    for i in range(out.size):
        code = (int(packed[i >> 2]) >> (6 - 2 * (i & 3))) & 3
        out[i] += step if code == 3 else (-step if code == 2 else zero)


def larger(a: Real, b: Real) -> Real:
    """The larger of two magnitudes, or NaN if one is."""
    return b if b > a or b != b else a


def finite(value: Single) -> Count:
    return 1 if value - value == np.float32(0.0) else 0


def int8_scale(top: Real, most: Real) -> Single:
    """top / 127 in float32; NaN where that is not finite, 0 where it has no finite reciprocal."""
    scale = np.float32(top / most)
    reciprocal = np.float32(1.0) / scale
    usable = scale if finite(reciprocal) else np.float32(0.0)
    return usable if finite(scale) else np.uint32(0x7FC00000).view(np.float32)


def encode_int8(
    scales: WrittenScales, codes: WrittenCodes, residual: Written, grad: Read, shift: Count, size: Count
) -> None:
    """Blocks of 1 << shift values. `scales` and `codes` are the packed bytes twice, as float32 and as int8: a scale
    stands in front of the codes of its block."""
    real = residual.dtype.type
    zero, one, most = real(0.0), real(1.0), real(127.0)
    for b in range((size + (1 << shift) - 1) >> shift):
        start, end = b << shift, min((b + 1) << shift, size)
        top = zero
        for i in team(start, end):
            residual[i] = residual[i] + grad[i]
            top = larger(top, abs(residual[i]))
        scale = int8_scale(top, most)
        sent = real(scale)
        inverse = one / sent if scale > np.float32(0.0) else zero
        for i in team(start, end):
            value = residual[i] if finite(scale) else zero
            code = np.int8(np.rint(value * inverse))
            codes[i + 4 * b + 4] = code
            residual[i] = value - real(code) * sent if finite(scale) else zero
        scales[(start + 4 * b) >> 2] = scale


def quantise_int8(scales: WrittenScales, codes: WrittenCodes, values: Read, shift: Count, size: Count) -> None:
    """`encode_int8` without a residual."""
    real = values.dtype.type
    zero, one, most = real(0.0), real(1.0), real(127.0)
    for b in range((size + (1 << shift) - 1) >> shift):
        start, end = b << shift, min((b + 1) << shift, size)
        top = zero
        for i in team(start, end):
            top = larger(top, abs(values[i]))
        scale = int8_scale(top, most)
        inverse = one / real(scale) if scale > np.float32(0.0) else zero
        for i in team(start, end):
            codes[i + 4 * b + 4] = np.int8(np.rint((values[i] if finite(scale) else zero) * inverse))
        scales[(start + 4 * b) >> 2] = scale


def decode_int8(out: Written, scales: ReadScales, codes: ReadCodes, shift: Count) -> None:
    real = out.dtype.type
    for i in range(out.size):
        b = i >> shift
        out[i] = real(codes[i + 4 * b + 4]) * real(scales[((b << shift) + 4 * b) >> 2])


def add_int8(out: Written, scales: ReadScales, codes: ReadCodes, shift: Count) -> None:
    real = out.dtype.type
    for i in range(out.size):
        b = i >> shift
        out[i] += real(codes[i + 4 * b + 4]) * real(scales[((b << shift) + 4 * b) >> 2])


def encode_fp16(packed: WrittenHalves, residual: Written, grad: Read) -> None:
    real = residual.dtype.type
    zero = real(0.0)
    for i in range(residual.size):
        value = residual[i] + grad[i]
        bits = half(np.float32(value))
        packed[i] = bits
        residual[i] = zero if bits & np.uint16(0x7C00) == np.uint16(0x7C00) else value - real(unhalf(bits))


def encode_bf16(packed: WrittenHalves, residual: Written, grad: Read) -> None:
    real = residual.dtype.type
    zero = real(0.0)
    for i in range(residual.size):
        value = residual[i] + grad[i]
        bits = brain(np.float32(value))
        packed[i] = bits
        residual[i] = zero if bits & np.uint16(0x7F80) == np.uint16(0x7F80) else value - real(unbrain(bits))


def quantise_fp16(packed: WrittenHalves, values: Read) -> None:
    for i in range(values.size):
        packed[i] = half(np.float32(values[i]))


def decode_fp16(out: Written, packed: ReadHalves) -> None:
    real = out.dtype.type
    for i in range(out.size):
        out[i] = real(unhalf(packed[i]))


def add_fp16(out: Written, packed: ReadHalves) -> None:
    real = out.dtype.type
    for i in range(out.size):
        out[i] += real(unhalf(packed[i]))


def quantise_bf16(packed: WrittenHalves, values: Read) -> None:
    for i in range(values.size):
        packed[i] = brain(np.float32(values[i]))


def decode_bf16(out: Written, packed: ReadHalves) -> None:
    real = out.dtype.type
    for i in range(out.size):
        out[i] = real(unbrain(packed[i]))


def add_bf16(out: Written, packed: ReadHalves) -> None:
    real = out.dtype.type
    for i in range(out.size):
        out[i] += real(unbrain(packed[i]))
