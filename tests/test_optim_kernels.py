"""Sums of several arrays: the order, the rounding, any shape and strides, and never the inputs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import both_ways

from akv.optim import sum_into
from akv.optim.blocks import BLOCK

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(np.float16), BF16, np.dtype(np.float32), np.dtype(np.float64)]
INTS = [np.dtype(name) for name in ("uint8", "int8", "int32", "int64")]
# Sizes around every place where the code changes its way.
SIZES = [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 3]

__all__ = ["both_ways"]  # every test runs with numpy and with numba


def random(dtype: np.dtype[Any], shape: int | tuple[int, ...], seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape) * 60
    return np.asarray(values).astype(dtype)


def in_order(values: list[np.ndarray]) -> np.ndarray:
    """The sum, one element type up where akv promises it, one array after the other."""
    dtype = values[0].dtype
    wide = np.float32 if dtype.itemsize == 2 else dtype
    with np.errstate(over="ignore"):
        total = values[0].astype(wide)
        for value in values[1:]:
            total = total + value.astype(wide)
        return total.astype(dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", FLOATS + INTS, ids=str)
def test_the_sum_is_the_one_in_order(dtype: np.dtype[Any], size: int) -> None:
    values = [random(dtype, size, seed) for seed in range(3)]
    before = [value.copy() for value in values]
    out = np.empty(size, dtype)
    sum_into(out, values)
    np.testing.assert_array_equal(out, in_order(before))
    for value, kept in zip(values, before, strict=True):
        np.testing.assert_array_equal(value, kept)


@given(count=st.integers(1, 11), shape=st.lists(st.integers(0, 5), max_size=3), dtype=st.sampled_from(FLOATS + INTS))
def test_any_number_of_arrays_of_any_shape(count: int, shape: list[int], dtype: np.dtype[Any]) -> None:
    values = [random(dtype, tuple(shape), seed) for seed in range(count)]
    out = np.empty(shape, dtype)
    sum_into(out, values)
    np.testing.assert_array_equal(out, in_order(values))


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, BLOCK), dtype=st.sampled_from(FLOATS))
def test_slices_give_the_same_bits_as_the_whole(cut: int, dtype: np.dtype[Any]) -> None:
    values = [random(dtype, BLOCK + 9, seed) for seed in range(4)]
    whole, sliced = np.empty(BLOCK + 9, dtype), np.empty(BLOCK + 9, dtype)
    sum_into(whole, values)
    for part in (slice(0, cut), slice(cut, None)):
        sum_into(sliced[part], [value[part] for value in values])
    np.testing.assert_array_equal(sliced, whole)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("rows", [4, 700])
def test_strided_arrays(dtype: np.dtype[Any], rows: int) -> None:
    values = [random(dtype, (rows, 500, 2), seed)[..., 0] for seed in range(2)]
    values.append(np.asfortranarray(random(dtype, (rows, 500), 2)))
    for target in (np.zeros((rows, 500, 2), dtype)[..., 1], np.zeros((rows, 500), dtype, order="F")):
        sum_into(target, values)
        np.testing.assert_array_equal(target, in_order(values))


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16], ids=str)
def test_small_floats_are_rounded_once(dtype: np.dtype[Any]) -> None:
    # In its own dtype each of these ones would vanish beside the large number.
    big = 1 / np.finfo(np.float16).eps * 4 if dtype == np.float16 else 1024.0
    values = [np.full(3, big, dtype)] + [np.ones(3, dtype)] * 64
    out = np.empty(3, dtype)
    sum_into(out, values)
    assert (out > values[0]).all()


def test_integers_wrap() -> None:
    out = np.empty(2, np.uint8)
    sum_into(out, [np.array([200, 1], np.uint8), np.array([200, 2], np.uint8)])
    assert out.tolist() == [144, 3]


def test_the_first_value_may_be_the_target() -> None:
    total = np.arange(BLOCK + 5, dtype=np.float32)
    sum_into(total, [total, np.ones_like(total), np.ones_like(total)])
    np.testing.assert_array_equal(total, np.arange(BLOCK + 5, dtype=np.float32) + 2)


def test_float16_sums_into_a_float32_target() -> None:
    out = np.empty(3, np.float32)
    sum_into(out, [np.full(3, 60000, np.float16)] * 2)
    assert out.tolist() == [120000.0] * 3


def test_nan_and_infinity_pass_without_a_warning() -> None:
    out = np.empty(2, np.float16)
    sum_into(out, [np.array([np.inf, 65504], np.float16), np.array([-np.inf, 65504], np.float16)])
    assert np.isnan(out[0])
    assert np.isposinf(out[1])


def test_threads_sum_disjoint_slices() -> None:
    values = [random(np.dtype(np.float16), 4 * BLOCK, seed) for seed in range(3)]
    out = np.empty(4 * BLOCK, np.float16)
    parts = [slice(start, start + 9999) for start in range(0, out.size, 9999)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(sum_into, out[part], [value[part] for value in values]) for part in parts]:
            done.result()
    np.testing.assert_array_equal(out, in_order(values))
