"""topk: exactly the largest, whatever the sample made of them."""

from __future__ import annotations

import math

import compression_cases as cases
import numpy as np
import pytest
from compression_cases import decode, encode, engine  # noqa: F401  (a fixture)
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.compression import TopK
from akv.errors import InvalidArgument, ProtocolError

CHUNK = 65_536


def fields(packed: bytes) -> tuple[list[int], np.ndarray]:
    count = len(packed) // 6
    return np.frombuffer(packed, "<u2", count).tolist(), np.frombuffer(packed, "<f4", count, 2 * count)


@settings(deadline=None)
@given(values=cases.any_singles() | cases.singles(), ratio=st.sampled_from([0.01, 0.1, 0.5, 0.99, 1.0]))
def test_equal_to_the_model(values, ratio) -> None:
    expected = cases.largest(values.tolist(), math.ceil(ratio * values.size))
    residual = np.zeros(values.size, np.float32)
    positions, numbers = fields(encode(TopK(ratio), values, residual))
    assert positions == expected
    assert cases.same(numbers, 0.0 + values[expected])
    values[expected] = 0
    assert cases.same(residual + 0.0, values + 0.0)


def _chunks() -> dict[str, np.ndarray]:
    random = cases.normal(CHUNK)
    sparse = np.where(np.arange(CHUNK) % 1000 == 7, random, np.float32(0))
    hidden = np.where(np.arange(CHUNK) % 61 == 0, np.float32(9), random)
    unseen = np.where(np.arange(CHUNK) % 61 == 1, random + 9, random * np.float32(1e-3))
    return {
        "random": random,
        "zeros": np.zeros(CHUNK, np.float32),
        "equal": np.full(CHUNK, -0.5, np.float32),
        "few other than zero": sparse.astype(np.float32),
        "the sample sees only large ones": hidden.astype(np.float32),
        "the sample sees no large one": unseen.astype(np.float32),
        "rising": np.arange(CHUNK, dtype=np.float32),
        "falling": -np.arange(CHUNK, dtype=np.float32)[::-1].copy(),
        "all nan": np.full(CHUNK, np.nan, np.float32),
        "few values": np.round(random * 2).astype(np.float32),
    }


@pytest.mark.parametrize("values", _chunks().values(), ids=_chunks().keys())
@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.3])
def test_exact_where_the_sample_misleads(values, ratio) -> None:
    positions, numbers = fields(encode(TopK(ratio), values, np.zeros(CHUNK, np.float32)))
    assert positions == cases.largest(values.tolist(), math.ceil(ratio * CHUNK))
    assert np.array_equal(numbers, values[positions], equal_nan=True)


def test_each_chunk_selects_by_itself() -> None:
    grad = np.concatenate([cases.normal(CHUNK), 100 * cases.normal(CHUNK), cases.normal(50)])
    residual = np.zeros(grad.size, np.float32)
    sent = decode(TopK(), encode(TopK(), grad, residual), grad.size)
    assert [np.count_nonzero(part) for part in (sent[:CHUNK], sent[CHUNK : 2 * CHUNK], sent[2 * CHUNK :])] == [
        656,
        656,
        1,
    ]
    assert np.array_equal(sent + residual, grad)


def test_everything_is_sent_in_the_end() -> None:
    residual = cases.normal(1000)
    total, first = np.zeros(1000, np.float32), residual.copy()
    for _ in range(100):
        TopK(0.01).add_decoded(encode(TopK(0.01), np.zeros(1000, np.float32), residual), total)
    assert np.array_equal(total, first)
    assert not residual.any()


def test_nan_and_infinity_go_first_and_leave_nothing() -> None:
    grad = np.array([1.0, np.nan, 2.0, -np.inf, 1e300], np.float64)
    residual = np.zeros(5)
    positions, numbers = fields(encode(TopK(0.6), grad, residual))
    assert positions == [1, 3, 4]
    assert cases.same(numbers, [np.nan, -np.inf, np.inf])
    assert residual.tolist() == [1.0, 0, 2.0, 0, 0]


def test_float64_keeps_what_float32_cannot_say() -> None:
    grad, residual = cases.normal(100, dtype=np.float64), np.zeros(100)
    sent = decode(TopK(1.0), encode(TopK(1.0), grad, residual), 100, np.float64)
    assert np.array_equal(residual, grad - sent)
    assert residual.any()


@pytest.mark.parametrize("positions", [[5, 5], [7, 3], [3, 200], [200, 201]])
def test_positions_from_a_peer_are_checked(positions) -> None:
    """Before anything is written: the chunk in front of the wrong one is right."""
    first = encode(TopK(), cases.normal(CHUNK), np.zeros(CHUNK, np.float32))
    packed = first + np.array(positions, "<u2").tobytes() + bytes(8)
    out = np.ones(CHUNK + 200, np.float32)
    for put in (TopK().decode, TopK().add_decoded):
        with pytest.raises(ProtocolError, match="positions"):
            put(packed, out)
    assert (out == 1).all()


@pytest.mark.parametrize("ratio", [0, -0.1, 1.1, np.nan, True, "1", None])
def test_ratio_is_a_fraction(ratio) -> None:
    with pytest.raises(InvalidArgument, match="ratio"):
        TopK(ratio)
