"""Compiled or not: the same bytes and the same residual, to the bit, for every codec."""

from __future__ import annotations

import compression_cases as cases
import numpy as np
import pytest
from compression_cases import CODECS, DTYPES, encode
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.compression import Compression

pytest.importorskip("numba")


def both(codec: Compression, grad: np.ndarray, residual: np.ndarray) -> list[tuple[bytes, bytes, bytes]]:
    """(packed, residual, decoded) without numba and with it."""
    results = []
    for wanted in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AKV_NUMBA", wanted)
            rest = residual.copy()
            packed = encode(codec, grad, rest)
            results.append((packed, cases.bits(rest, rest.dtype), cases.bits(cases.decode(codec, packed, grad.size))))
    return results


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@settings(max_examples=50, deadline=None)
@given(pair=st.tuples(cases.any_singles(), cases.any_singles()), double=st.booleans())
def test_same_for_any_values(codec, pair, double) -> None:
    size = min(one.size for one in pair)
    with np.errstate(invalid="ignore"):
        grad, residual = (one[:size].astype(np.float64 if double else np.float32) for one in pair)
    plain, compiled = both(codec, grad, residual)
    assert plain == compiled


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 15, 131_072, 200_003])
def test_same_for_any_size_and_dtype(codec, dtype, size) -> None:
    work = np.float64 if dtype == np.float64 else np.float32
    plain, compiled = both(codec, cases.normal(size, 1, dtype), cases.normal(size, 2, work))
    assert plain == compiled
