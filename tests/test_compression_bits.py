"""1bit and 2bit against MXNet's rules: vectors worked out by hand, and a model that builds a string of bits."""

from __future__ import annotations

from functools import cache

import compression_cases as cases
import numpy as np
import pytest
from compression_cases import decode, encode, engine  # noqa: F401  (a fixture)
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.compression import OneBit, TwoBit
from akv.errors import ProtocolError

NAN, INF = float("nan"), float("inf")
MODELS = [
    pytest.param(OneBit, cases.one_bit, id="1bit"),
    pytest.param(TwoBit, cases.two_bit, id="2bit"),
]
thresholds = st.sampled_from([0.5, 0.1, 1.0, 3.0, 1e-3])


def test_two_bit_packs_as_mxnet_does() -> None:
    # codes        11   00    10    00    11   11   10    00 | 11 (padded with seven 00 to 16 values)
    grad = [0.5, 0.49, -0.5, -0.49, 7.0, 0.6, -9.0, 0.0, 1.0]
    residual = np.zeros(9, np.float32)
    packed = encode(TwoBit(0.5), np.array(grad, np.float32), residual)
    assert packed == bytes([0b11_00_10_00, 0b11_11_10_00, 0b11_00_00_00, 0])
    assert residual.tolist() == [
        0.0,
        np.float32(0.49),
        0.0,
        -np.float32(0.49),
        6.5,
        np.float32(0.6) - np.float32(0.5),
        -8.5,
        0.0,
        0.5,
    ]
    assert decode(TwoBit(0.5), packed, 9).tolist() == [0.5, 0, -0.5, 0, 0.5, 0.5, -0.5, 0, 0.5]


def test_two_bit_sends_later_what_it_could_not_send_now() -> None:
    residual = np.zeros(1, np.float32)
    rounds = [decode(TwoBit(0.5), encode(TwoBit(0.5), np.full(1, g, np.float32), residual), 1)[0] for g in (1.25, 0, 0)]
    assert rounds == [0.5, 0.5, 0.0]
    assert residual[0] == 0.25


def test_one_bit_packs_as_mxnet_does() -> None:
    # bits         0     1    0    1    0    1    1    0  | 1 (padded to 32)
    grad = [0.5, 0.51, -3.0, 2.0, 0.0, 1.0, 9.0, -0.5, 0.75]
    residual = np.zeros(9, np.float32)
    packed = encode(OneBit(0.5), np.array(grad, np.float32), residual)
    assert packed == bytes([0b0101_0110, 0b1000_0000, 0, 0])
    assert residual.tolist() == [1.5, np.float32(0.51) - 1, -2.0, 1.0, 1.0, 0.0, 8.0, 0.5, -0.25]
    assert decode(OneBit(0.5), packed, 9).tolist() == [-1, 1, -1, 1, -1, 1, 1, -1, 1]


@pytest.mark.parametrize(("size", "words"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2), (33, 3)])
def test_two_bit_fills_words_of_16_values(size: int, words: int) -> None:
    assert TwoBit().packed_nbytes(size) == 4 * words


@pytest.mark.parametrize(("size", "words"), [(0, 0), (1, 1), (32, 1), (33, 2), (64, 2), (65, 3)])
def test_one_bit_fills_words_of_32_values(size: int, words: int) -> None:
    assert OneBit().packed_nbytes(size) == 4 * words


@pytest.mark.parametrize(("codec", "model"), MODELS)
@settings(deadline=None)
@given(grads=st.lists(cases.any_singles(), min_size=1, max_size=3), threshold=thresholds)
def test_bit_for_bit_as_the_model(codec, model, grads, threshold) -> None:
    size = min(g.size for g in grads)
    residual = np.zeros(size, np.float32)
    for grad in grads:
        expected, sent, rest = model(grad[:size], residual, threshold)
        packed = encode(codec(threshold), grad[:size], residual)
        assert packed == expected
        assert cases.same(residual, rest)
        assert cases.same(decode(codec(threshold), packed, size), sent)


@pytest.mark.parametrize(("codec", "model"), MODELS)
def test_across_the_blocks_of_a_large_tensor(codec, model) -> None:
    grad, residual, (expected, sent, rest) = large(model)
    residual = residual.copy()
    packed = encode(codec(), grad, residual)
    assert packed == expected
    assert np.array_equal(residual, np.array(rest, np.float32))
    assert np.array_equal(decode(codec(), packed, grad.size), np.array(sent, np.float32))


@cache  # two seconds for each model
def large(model):
    grad, residual = cases.normal(2 * 131_072 + 45), cases.normal(2 * 131_072 + 45, seed=1)
    return grad, residual, model(grad, residual, 0.5)


def test_nan_and_infinity_are_not_carried() -> None:
    grad = np.array([NAN, INF, -INF, 1.0], np.float32)
    for codec, sent in ((TwoBit(), [0, 0.5, -0.5, 0.5]), (OneBit(), [-1, 1, -1, 1])):
        assert not codec.carries_nonfinite
        residual = np.zeros(4, np.float32)
        for last in (1.0, 0.5):
            assert decode(codec, encode(codec, grad, residual), 4).tolist()[:3] == sent[:3]
            assert cases.same(residual[:3], [NAN, INF, -INF])
            assert np.isfinite(residual[3]), last


def test_the_threshold_is_that_of_float32_for_every_dtype() -> None:
    edge = np.float64(np.float32(0.1))
    grad = np.array([edge, np.nextafter(edge, 0)])
    residual = np.zeros(2)
    packed = encode(TwoBit(0.1), grad, residual)
    assert packed[0] == 0b11_00_00_00
    assert residual.tolist() == [0.0, np.nextafter(edge, 0)]
    assert decode(TwoBit(0.1), packed, 2, np.float64).tolist() == [edge, 0.0]


def test_the_unused_code_and_the_padding_mean_nothing() -> None:
    assert decode(TwoBit(), bytes([0b01_11_01_10, 0xFF, 0xFF, 0xFF]), 4).tolist() == [0, 0.5, 0, -0.5]
    with pytest.raises(ProtocolError, match="4 packed bytes, 8 arrived"):
        TwoBit().decode(bytes(8), np.zeros(16, np.float32))
