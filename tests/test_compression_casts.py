"""fp16 and bf16: every pattern, every rounding boundary, and error feedback."""

from __future__ import annotations

import compression_cases as cases
import ml_dtypes
import numpy as np
import pytest
from compression_cases import decode, encode, engine  # noqa: F401  (a fixture)
from hypothesis import given, settings

from akv.compression import BFloat16, Float16

FORMATS = [
    pytest.param(Float16(), cases.half, np.float16, id="fp16"),
    pytest.param(BFloat16(), cases.brain, ml_dtypes.bfloat16, id="bf16"),
]
PATTERNS = np.arange(1 << 16, dtype=np.uint16)


def halves(codec, values) -> np.ndarray:
    return np.frombuffer(encode(codec, np.asarray(values), None), "<u2")


@pytest.mark.parametrize(("codec", "model", "dtype"), FORMATS)
@settings(deadline=None)
@given(values=cases.any_singles())
def test_rounds_to_the_nearest_even(codec, model, dtype, values) -> None:
    assert halves(codec, values).tolist() == [model(v) for v in values.tolist()]


@pytest.mark.parametrize(("codec", "model", "dtype"), FORMATS)
def test_every_pattern_survives(codec, model, dtype) -> None:
    values = decode(codec, PATTERNS.astype("<u2").tobytes(), PATTERNS.size)
    with np.errstate(invalid="ignore"):
        assert cases.same(values, PATTERNS.view(dtype).astype(np.float32))
    number = ~np.isnan(values)
    assert np.array_equal(halves(codec, values)[number], PATTERNS[number])
    assert len(set(halves(codec, values)[~number])) == 1


@pytest.mark.parametrize(("codec", "model", "dtype"), FORMATS)
def test_every_rounding_boundary(codec, model, dtype) -> None:
    """The middle between each two neighbours, and the float32 on either side of it, up to where infinity begins."""
    with np.errstate(all="ignore"):
        finite = np.sort(PATTERNS.view(dtype).astype(np.float64)[np.isfinite(PATTERNS.view(dtype).astype(np.float64))])
        top = finite[-1] + (finite[-1] - finite[-2]) / 2
        middle = np.append((finite[1:] + finite[:-1]) / 2, [top, -top]).astype(np.float32)
        up, down = np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(-np.inf))
        values = np.concatenate([middle, up, down])
        expected = values.astype(dtype).view(np.uint16)
    assert np.array_equal(halves(codec, values), expected)
    sample = slice(None, None, 97)
    assert halves(codec, values[sample]).tolist() == [model(v) for v in values[sample].tolist()]


@pytest.mark.parametrize(("codec", "model", "dtype"), FORMATS)
def test_float64_goes_through_float32(codec, model, dtype) -> None:
    values = cases.normal(1000, dtype=np.float64)
    assert np.array_equal(halves(codec, values), halves(codec, values.astype(np.float32)))


@pytest.mark.parametrize(("codec", "model", "dtype"), FORMATS)
def test_what_cannot_be_sent_exactly_stays(codec, model, dtype) -> None:
    grad = cases.normal(1000)
    residual = np.zeros(1000, np.float32)
    sent = decode(codec, encode(codec, grad, residual), 1000)
    assert np.array_equal(residual, grad - sent)
    assert 0 < np.abs(residual).max() < 0.01


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("codec", "large"), [(Float16(), 65_520.0), (BFloat16(), 3.4e38)])
def test_nonfinite_is_carried_and_the_sender_recovers(codec, large, dtype) -> None:
    assert codec.carries_nonfinite
    grad = np.array([np.nan, -np.nan, np.inf, -np.inf, large, 1.0], dtype)
    residual = np.zeros(6, dtype)
    sent = decode(codec, encode(codec, grad, residual), 6)
    assert cases.same(sent, np.array([np.nan, np.nan, np.inf, -np.inf, np.inf, 1.0]))
    assert residual.tolist() == [0.0] * 6
