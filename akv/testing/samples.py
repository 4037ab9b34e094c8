"""Values of every kind, and how two of them are compared."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from akv.values.arrays import describe
from akv.values.dtypes import NATIVE, DType, accumulator

__all__ = ["DTYPES", "LAYOUTS", "SHAPES", "array", "bits", "layouts", "same", "summed"]

EXTENDED = (
    [np.dtype(getattr(importlib.import_module("ml_dtypes"), name)) for name in ("bfloat16", "float8_e4m3fn")]
    if importlib.util.find_spec("ml_dtypes")
    else []
)
DTYPES: list[DType] = sorted(NATIVE, key=lambda dtype: dtype.num) + EXTENDED

SHAPES: list[tuple[int, ...]] = [(), (0,), (3, 0, 2), (1,), (7,), (2, 3), (2, 1, 3, 1)]


def array(dtype: Any = np.float32, shape: tuple[int, ...] = (2, 3), seed: int = 0) -> np.ndarray:
    """Small whole numbers (True and False for bool), with imaginary parts for complex dtypes: sums are exact."""
    numbers = np.random.default_rng(seed).integers(0, 8, (2, *shape))
    dtype = np.dtype(dtype)
    values = numbers[0] + 1j * numbers[1] if dtype.kind == "c" else numbers[0]
    result: np.ndarray = np.asarray(values % 2 if dtype.kind == "b" else values).astype(dtype)
    return result


def bits(dtype: DType, shape: tuple[int, ...] = (2, 33), seed: int = 0) -> np.ndarray:
    """Any bytes at all, so every NaN and subnormal; only bool has no more than two values."""
    generator = np.random.default_rng(seed)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(generator.bytes(count), dtype).reshape(shape)


def layouts(values: np.ndarray) -> dict[str, np.ndarray]:
    """The same two-dimensional values, the way they may lie in memory."""
    spread = np.repeat(np.repeat(values, 2, axis=0), 3, axis=1)
    read_only = values.copy()
    read_only.flags.writeable = False
    return {
        "Fortran": np.asfortranarray(values),
        "strided": spread[::2, ::3],
        "reversed": values[::-1, ::-1].copy()[::-1, ::-1],
        "transposed": values.T.copy().T,
        "read-only": read_only,
        "foreign byte order": values.astype(values.dtype.newbyteorder()),
        "unaligned": _unaligned(values),
    }


def _unaligned(values: np.ndarray) -> np.ndarray:
    memory = np.zeros(values.nbytes + 1, np.uint8)
    shifted = memory[1:].view(values.dtype).reshape(values.shape)
    shifted[...] = values
    return shifted


LAYOUTS = list(layouts(np.zeros((2, 3), np.float32)))


def summed(*values: np.ndarray) -> np.ndarray:
    """The sum in the order given: small floats in float32, rounded once."""
    dtype = values[0].dtype
    total = values[0].astype(accumulator(dtype))
    with np.errstate(all="ignore"):
        for value in values[1:]:
            total = total + value.astype(total.dtype)
        return np.asarray(total).astype(dtype)


def same(found: Any, expected: np.ndarray) -> None:
    """Assert that an array came back with this dtype, this shape and these bytes (zeros of either sign are equal)."""
    assert isinstance(found, np.ndarray), f"{type(found).__name__} is no array"
    assert found.shape == expected.shape, f"{describe(found)} instead of {describe(expected)}"
    assert found.dtype == expected.dtype, f"{describe(found)} instead of {describe(expected)}"
    assert found.tobytes() == expected.tobytes() or np.array_equal(found, expected), f"{found} instead of {expected}"
