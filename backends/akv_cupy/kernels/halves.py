"""float16 and bfloat16 as the 16 bits that they are, each way, one number at a time: helpers of the loops.

They do the same whether numpy, numba or C computes them: numba widens small integers where numpy and C do not, so what
must not grow is cut. On the GPU one instruction stands for `half` and one for `unhalf`, see `source`.
"""

from __future__ import annotations

import numpy as np

from akv_cupy.kernels.kinds import Half, Single

__all__ = ["HALVES", "brain", "half", "unbrain", "unhalf"]


def half(value: Single) -> Half:
    """float32 to float16: nearest even, every NaN 0x7E00."""
    bits = np.float32(value).view(np.uint32)
    magnitude, sign = bits & np.uint32(0x7FFFFFFF), (bits >> np.uint32(16)) & np.uint32(0x8000)
    tiny = magnitude < np.uint32(0x38800000)
    # Rebias the exponent by 15 - 127 and round half to even at bit 13; a carry into infinity is right too.
    normal = (magnitude - np.uint32(0x38000000) + np.uint32(0xFFF)) if not tiny else np.uint32(0)
    normal = (normal + ((magnitude >> np.uint32(13)) & np.uint32(1))) >> np.uint32(13)
    # Below 2**-14 a float16 counts multiples of 2**-24.
    small = np.uint32(np.rint((abs(value) if tiny else np.float32(0.0)) * np.float32(16777216.0)))
    finite = small if tiny else normal
    code = np.uint32(0x7C00) if magnitude >= np.uint32(0x47800000) else finite
    return np.uint16(0x7E00) if magnitude > np.uint32(0x7F800000) else np.uint16(code | sign)


def unhalf(bits: Half) -> Single:
    """float16 to float32; exact."""
    wide = np.uint32(bits)
    shifted = np.uint32((wide & np.uint32(0x7FFF)) << np.uint32(13))
    # The exponent is now 127 - 15 too small; multiplying by 2**112 also normalises what was subnormal.
    value = np.uint32(shifted).view(np.float32) * np.float32(5.192296858534828e33)
    special = (wide & np.uint32(0x7C00)) == np.uint32(0x7C00)
    sign = (wide & np.uint32(0x8000)) << np.uint32(16)
    out = np.float32(value).view(np.uint32) | sign | (np.uint32(0x7F800000) if special else np.uint32(0))
    return np.uint32(out).view(np.float32)


def brain(value: Single) -> Half:
    """float32 to bfloat16: nearest even, every NaN 0x7FC0."""
    bits = np.float32(value).view(np.uint32)
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    finite = np.uint32(0) if nan else bits  # so that nothing wraps around
    rounded = (finite + np.uint32(0x7FFF) + ((finite >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.uint16(0x7FC0) if nan else np.uint16(rounded)


def unbrain(bits: Half) -> Single:
    """bfloat16 to float32; exact."""
    wide = np.uint32(np.uint32(bits) << np.uint32(16))
    return np.uint32(wide).view(np.float32)


HALVES = {function.__name__: function for function in (half, unhalf, brain, unbrain)}
