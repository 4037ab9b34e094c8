"""For the codecs: each rule once more in plain Python, one value at a time, and what the test modules share."""

from __future__ import annotations

import importlib.util
import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from akv.compression import Compression, from_spec

Array = np.ndarray[Any, Any]
DTYPES = [np.dtype(name) for name in ("float16", "float32", "float64")] + [np.dtype(ml_dtypes.bfloat16)]
SPECS: list[dict[str, Any]] = [
    {"type": "1bit"},
    {"type": "1bit", "threshold": -0.25},
    {"type": "2bit"},
    {"type": "2bit", "threshold": 0.1},
    {"type": "fp16"},
    {"type": "bf16"},
    {"type": "int8"},
    {"type": "int8", "block": 16},
    {"type": "topk"},
    {"type": "topk", "ratio": 0.3},
]
CODECS = [from_spec(spec) for spec in SPECS]
STATELESS = [codec for codec in CODECS if not codec.needs_residual]


def has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


@pytest.fixture(scope="module", autouse=True, params=["numpy", "numba"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """A module that imports this name runs all its tests twice. The first call of a kernel takes 0.5 s to compile it,
    so tests with hypothesis have no deadline."""
    if request.param == "numba" and not has_numba():
        pytest.skip("numba is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AKV_NUMBA", "1" if request.param == "numba" else "0")
        yield request.param


def encode(codec: Compression, grad: Array, residual: Array | None) -> bytes:
    out = np.full(codec.packed_nbytes(grad.size), 0xAA, np.uint8)
    assert codec.encode(grad, residual, out) == out.size
    return out.tobytes()


def decode(codec: Compression, packed: bytes, size: int, dtype: Any = np.float32) -> Array:
    out = np.full(size, 77, dtype)
    codec.decode(packed, out)
    return out


def residual_for(codec: Compression, grad: Array) -> Array | None:
    dtype = np.float64 if grad.dtype == np.float64 else np.float32
    return np.zeros(grad.size, dtype) if codec.needs_residual else None


def normal(size: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return (np.random.default_rng(seed).standard_normal(size) * 0.4).astype(dtype)


def singles(low: float = -8.0, high: float = 8.0, size: int = 100) -> st.SearchStrategy[Array]:
    """Rows of ordinary float32 numbers, with many repeats and zeros among them."""
    number = st.floats(single(low), single(high), width=32) | st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0])
    return arrays.arrays(np.float32, st.integers(0, size), elements=number)


def any_singles(size: int = 100) -> st.SearchStrategy[Array]:
    """Rows of all that a float32 can be: subnormal, infinite, NaN."""
    return arrays.arrays(np.float32, st.integers(0, size), elements=st.floats(width=32))


def single(x: float) -> float:
    """Nearest float32. A sum or product of two float32, rounded to double first, is still rounded right."""
    with np.errstate(all="ignore"):
        return float(np.float32(x))


def bits(values: Any, dtype: Any = np.float32) -> bytes:
    """For comparing to the bit, where every NaN is the same."""
    array = np.array(values, dtype)
    array[np.isnan(array)] = np.nan
    return array.tobytes()


def same(a: Array, b: Any) -> bool:
    return bits(a, a.dtype) == bits(b, a.dtype)


# --- the rules -------------------------------------------------------------------------------------------------------


def one_bit(grad: Array, residual: Array, threshold: float) -> tuple[bytes, list[float], list[float]]:
    """Packed bytes, decoded values, new residual."""
    bits, sent, rest = "", [], []
    for g, r in zip(grad.tolist(), residual.tolist(), strict=True):
        v = single(r + g)
        above = v > single(threshold)
        bits += "1" if above else "0"
        sent.append(1.0 if above else -1.0)
        rest.append(single(v - sent[-1]))
    return _words(bits), sent, rest


def two_bit(grad: Array, residual: Array, threshold: float) -> tuple[bytes, list[float], list[float]]:
    bits, sent, rest = "", [], []
    t = single(threshold)
    for g, r in zip(grad.tolist(), residual.tolist(), strict=True):
        v = single(r + g)
        code, value = ("11", t) if v >= t else ("10", -t) if v <= -t else ("00", 0.0)
        bits += code
        sent.append(value)
        rest.append(single(v - value))
    return _words(bits), sent, rest


def _words(bits: str) -> bytes:
    """Whole 32-bit words, the first bit the most significant of the first byte."""
    bits += "0" * (-len(bits) % 32)
    return int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


def half(x: float) -> int:
    """The bits of the float16 nearest to x; struct rounds half to even, but refuses what becomes infinite."""
    if math.isnan(x):
        return 0x7E00
    try:
        return int.from_bytes(struct.pack(">e", x), "big")
    except OverflowError:
        return 0x7C00 if x > 0 else 0xFC00


def brain(x: float) -> int:
    """The bits of the bfloat16 nearest to the float32 x, by comparing the distances to both neighbours."""
    if math.isnan(x):
        return 0x7FC0
    low = int.from_bytes(struct.pack(">f", x), "big") >> 16
    if math.isinf(x):
        return low
    below, above = (_brain_value(low & 0x7FFF), _brain_value((low & 0x7FFF) + 1))
    distance = (abs(Fraction(x)) - below) - (above - abs(Fraction(x)))
    return low + (1 if distance > 0 or (distance == 0 and low % 2) else 0)


def _brain_value(bits: int) -> Fraction:
    # As if the exponents went on: rounding to infinity begins half-way to what would come next.
    exponent, fraction = bits >> 7, bits & 0x7F
    return Fraction(fraction + (128 if exponent else 0)) * Fraction(2) ** (max(exponent, 1) - 127 - 7)


def int8(values: list[float], block: int) -> tuple[bytes, list[float], list[float]]:
    """Of finite float32 values: packed bytes, decoded values, residual."""
    packed, sent, rest = b"", [], []
    for lo in range(0, len(values), block):
        row = values[lo : lo + block]
        scale = single(max(abs(v) for v in row) / 127)
        inverse = single(1 / scale) if scale else 0.0
        if math.isinf(inverse) or not scale:
            scale = inverse = 0.0
        codes = [round(single(v * inverse)) for v in row]
        packed += struct.pack(f"<f{len(row)}b", scale, *codes)
        sent += [single(code * scale) for code in codes]
        rest += [single(v - single(code * scale)) for v, code in zip(row, codes, strict=True)]
    return packed, sent, rest


def largest(values: list[float], count: int) -> list[int]:
    """The positions of the `count` largest magnitudes, NaN above all, the first of equal ones, ascending."""

    def rank(i: int) -> tuple[bool, float, int]:
        nan = math.isnan(values[i])
        return (not nan, 0.0 if nan else -abs(values[i]), i)

    return sorted(sorted(range(len(values)), key=rank)[:count])
