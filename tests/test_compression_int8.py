"""int8: against a model, and at the ends of the range."""

from __future__ import annotations

import struct

import compression_cases as cases
import numpy as np
import pytest
from compression_cases import decode, encode, engine  # noqa: F401  (a fixture)
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.compression import Int8
from akv.errors import InvalidArgument

finite = st.one_of(cases.singles(), cases.singles(-3e38, 3e38), cases.singles(-1e-36, 1e-36), cases.singles(0.0, 1e-44))


@settings(deadline=None)
@given(values=finite, block=st.sampled_from([16, 32, 256]))
def test_equal_to_the_model(values, block) -> None:
    expected, sent, rest = cases.int8(values.tolist(), block)
    residual = np.zeros(values.size, np.float32)
    assert encode(Int8(block), values, None) == expected
    assert encode(Int8(block), values, residual) == expected
    assert np.array_equal(residual, np.array(rest, np.float32))
    assert np.array_equal(decode(Int8(block), expected, values.size), np.array(sent, np.float32))


def test_the_layout_of_a_block() -> None:
    packed = encode(Int8(16), np.array([127.0, -127.0, 0.5, 1.5, -64.0], np.float32), None)
    assert packed == struct.pack("<f5b", 1.0, 127, -127, 0, 2, -64)


@settings(deadline=None)
@given(values=finite)
def test_error_is_at_most_half_a_step(values) -> None:
    sent = decode(Int8(16), encode(Int8(16), values, None), values.size)
    for lo in range(0, values.size, 16):
        row, got = values[lo : lo + 16].astype(np.float64), sent[lo : lo + 16].astype(np.float64)
        assert np.abs(row - got).max() <= max(np.abs(row).max() / 127 * 0.50001, 4e-37)


def test_float64_keeps_the_exact_rest() -> None:
    grad, residual = cases.normal(1000, dtype=np.float64), np.zeros(1000)
    sent = decode(Int8(), encode(Int8(), grad, residual), 1000, np.float64)
    assert np.array_equal(residual, grad - sent)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("feedback", [True, False])
def test_a_nonfinite_value_is_carried_by_its_block(bad, feedback) -> None:
    grad = cases.normal(48, dtype=np.float64)
    grad[20] = bad
    given = grad.copy()
    residual = np.full(48, 0.25) if feedback else None
    sent = decode(Int8(16), encode(Int8(16), grad, residual), 48)
    assert np.isnan(sent[16:32]).all()
    assert np.isfinite(np.delete(sent, slice(16, 32))).all()
    assert np.array_equal(grad, given, equal_nan=True)
    if residual is not None:
        assert (residual[16:32] == 0).all()
        assert np.isfinite(residual).all()


def test_a_block_of_zeros_and_a_block_too_small_for_a_scale() -> None:
    tiny = np.full(16, 1e-38, np.float32)
    residual = np.zeros(32, np.float32)
    packed = encode(Int8(16), np.concatenate([np.zeros(16, np.float32), tiny]), residual)
    assert packed == bytes(40)
    assert np.array_equal(residual[16:], tiny)


@pytest.mark.parametrize("block", [0, 8, 17, 24, 131_072, -16, 16.0, True, "16"])
def test_block_is_a_power_of_two(block) -> None:
    with pytest.raises(InvalidArgument, match="block"):
        Int8(block)
