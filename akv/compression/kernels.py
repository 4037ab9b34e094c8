"""Inner loops that numba compiles. Plain functions: this module does not import numba, `compiled` does.

They do the same operations in the same order as the numpy lines they replace, so the results are equal to the bit
(numba contracts nothing to FMA unless asked to). An inner loop over the values of a byte has to be one of fixed length:
then it is unrolled, and the outer one vectorised.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from akv.compression.buffers import Array


def one_bit(grad: Array, kept: Array, packed: Array, cut: Any) -> None:
    """`kept` += `grad`; a bit for each value, 1 if it is above `cut`; `kept` loses the 1 or -1 that is sent."""
    one = kept.dtype.type(1)
    for b in range(packed.size):
        byte = np.uint8(0)
        for k in range(8):
            i = 8 * b + k
            value = kept[i] + grad[i]
            above = value > cut
            kept[i] = value - (one if above else -one)
            byte = np.uint8(byte << 1 | above)
        packed[b] = byte


def one_bit_back(packed: Array, values: Array, cut: Any) -> None:
    """1 or -1 for each bit."""
    one = values.dtype.type(1)
    for b in range(packed.size):
        for k in range(8):
            values[8 * b + k] = one if (packed[b] >> (7 - k)) & 1 else -one


def two_bit(grad: Array, kept: Array, packed: Array, step: Any) -> None:
    """`kept` += `grad`; 3 for values >= step, 2 for values <= -step, else 0; `kept` loses what is sent."""
    zero = kept.dtype.type(0)
    for b in range(packed.size):
        byte = np.uint8(0)
        for k in range(4):
            i = 4 * b + k
            value = kept[i] + grad[i]
            plus = value >= step
            minus = value <= -step
            code = np.uint8(3) if plus else (np.uint8(2) if minus else np.uint8(0))
            kept[i] = value - (step if plus else (-step if minus else zero))
            byte = np.uint8(byte << 2 | code)
        packed[b] = byte


def two_bit_back(packed: Array, values: Array, step: Any) -> None:
    """step, -step or 0 for each code."""
    zero = values.dtype.type(0)
    for b in range(packed.size):
        for k in range(4):
            code = (packed[b] >> (6 - 2 * k)) & 3
            values[4 * b + k] = step if code == 3 else (-step if code == 2 else zero)


def half(values: Array, bits: Array, out: Array) -> None:
    """float32 `values`, also given as their uint32 `bits`, to float16 bits: nearest even, every NaN 0x7E00."""
    for i in range(values.size):
        magnitude = bits[i] & np.uint32(0x7FFFFFFF)
        sign = (bits[i] >> np.uint32(16)) & np.uint32(0x8000)
        # Rebias the exponent by 15 - 127 and round half to even at bit 13; a carry into infinity is right too.
        normal = (magnitude + np.uint32(0xC8000FFF) + ((magnitude >> np.uint32(13)) & np.uint32(1))) >> np.uint32(13)
        # Below 2**-14 a float16 counts multiples of 2**-24.
        small = np.uint32(np.rint(min(abs(values[i]), np.float32(2.0**-14)) * np.float32(2.0**24)))
        finite = small if magnitude < np.uint32(0x38800000) else normal
        code = np.uint32(0x7C00) | sign if magnitude >= np.uint32(0x47800000) else finite | sign
        out[i] = np.uint16(0x7E00) if magnitude > np.uint32(0x7F800000) else np.uint16(code)


def unhalf(halves: Array, values: Array, bits: Array) -> None:
    """float16 bits `halves` to float32 `values`, also given as their uint32 `bits`; exact."""
    for i in range(halves.size):
        bits[i] = (np.uint32(halves[i]) & np.uint32(0x7FFF)) << np.uint32(13)
    # The exponent is now 127 - 15 too small; multiplying also normalises what was subnormal.
    for i in range(halves.size):
        values[i] *= np.float32(2.0**112)
    for i in range(halves.size):
        special = (halves[i] & np.uint16(0x7C00)) == np.uint16(0x7C00)
        sign = (np.uint32(halves[i]) & np.uint32(0x8000)) << np.uint32(16)
        bits[i] |= sign | (np.uint32(0x7F800000) if special else np.uint32(0))


def brain(bits: Array, out: Array) -> None:
    """uint32 `bits` of float32 to bfloat16 bits: nearest even, every NaN 0x7FC0."""
    for i in range(bits.size):
        rounded = (bits[i] + np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        nan = (bits[i] & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        out[i] = np.uint16(0x7FC0) if nan else np.uint16(rounded)


def peaks(bits: Array, mask: Any, out: Array) -> None:
    """Per row of unsigned `bits` of floats the largest magnitude, as bits: NaN above infinity above the finite."""
    for b in range(bits.shape[0]):
        row = bits[b]
        top = mask & ~mask
        for i in range(row.size):
            magnitude = row[i] & mask
            top = magnitude if magnitude > top else top
        out[b] = top


def codes(values: Array, inverse: Array, out: Array) -> None:
    """Per row round(values * inverse) into int8 `out`."""
    for b in range(values.shape[0]):
        row, target, factor = values[b], out[b], inverse[b]
        for i in range(row.size):
            target[i] = np.int8(np.rint(row[i] * factor))


def less(values: Array, codes: Array, scale: Array) -> None:
    """Per row values -= codes * scale. Not one with `codes`: numba compiles no write to a read-only gradient."""
    for b in range(values.shape[0]):
        row, sent, factor = values[b], codes[b], scale[b]
        for i in range(row.size):
            row[i] -= sent[i] * factor


def scaled(codes: Array, scale: Array, out: Array) -> None:
    """Per row codes * scale into `out`. numpy converts the codes in a buffer first: 13 GB/s, against 60."""
    for b in range(out.shape[0]):
        row, sent, factor = out[b], codes[b], scale[b]
        for i in range(row.size):
            row[i] = sent[i] * factor


def reach(values: Array, bound: Any, flags: Array, out: Array) -> int:
    """The positions where not |value| < bound into `out`; returns how many. `flags` (bool) is scratch.

    Eight flags are looked at together, since hits are few: 25 us per 65,536 values, where numpy takes 43.
    """
    for i in range(values.size):
        flags[i] = not (abs(values[i]) < bound)
    count = 0
    whole = values.size // 8
    groups = flags[: 8 * whole].view(np.uint64)
    for b in range(whole):
        if groups[b]:
            for j in range(8):
                out[count] = 8 * b + j
                count += flags[8 * b + j]
    for i in range(8 * whole, values.size):
        if flags[i]:
            out[count] = i
            count += 1
    return count
