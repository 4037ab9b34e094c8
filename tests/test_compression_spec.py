"""Descriptions, residuals, and when numba is imported."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import OrderedDict

import compression_cases as cases
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akv.compression import Compression, Int8, OneBit, Residuals, TopK, TwoBit, compiled, from_spec
from akv.errors import DTypeMismatch, InvalidArgument, ShapeMismatch


@pytest.mark.parametrize("codec", cases.CODECS, ids=repr)
def test_a_spec_survives_the_wire(codec: Compression) -> None:
    again = from_spec(msgpack.unpackb(msgpack.packb(codec.to_spec())))
    assert again == codec
    assert hash(again) == hash(codec)
    assert again.to_spec() == codec.to_spec()


@pytest.mark.parametrize("spec", cases.SPECS, ids=str)
def test_every_type_is_known(spec) -> None:
    assert from_spec(OrderedDict(spec)).to_spec().items() >= spec.items()


def test_defaults_and_numbers_of_other_types() -> None:
    assert from_spec({"type": "2bit"}) == TwoBit(0.5) == TwoBit(np.float32(0.5))
    assert from_spec({"type": "1bit", "threshold": 1}).to_spec() == {"type": "1bit", "threshold": 1.0}
    assert type(TwoBit(np.float32(0.5)).threshold) is float
    assert type(Int8(np.int64(64)).block) is int
    assert TwoBit(0.5) != OneBit(0.5)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, r"type None; known are 1bit, 2bit, bf16, fp16, int8, topk"),
        ({"type": "3bit"}, r"type '3bit'; known are 1bit"),
        ({"type": ["2bit"]}, r"known are"),
        ({"type": "2bit", "treshold": 1}, r"no parameter treshold; it has threshold"),
        ({"type": "fp16", "threshold": 1}, r"no parameter threshold"),
        ({"type": "2bit", 3: 1}, r"no parameter 3"),
        ("2bit", r"mapping"),
        (None, r"mapping"),
    ],
)
def test_errors_name_what_is_known(spec, text) -> None:
    with pytest.raises(InvalidArgument, match=text):
        from_spec(spec)


@pytest.mark.parametrize("threshold", [0, -1, 1e-50, 1e39, float("nan"), float("inf"), True, None, "0.5", [1]])
def test_two_bit_needs_a_positive_threshold(threshold) -> None:
    with pytest.raises(InvalidArgument, match="threshold"):
        from_spec({"type": "2bit", "threshold": threshold})


@given(st.dictionaries(st.text() | st.integers(), st.none() | st.floats() | st.text() | st.lists(st.integers())))
def test_nothing_else_leaks_from_a_spec(spec) -> None:
    for kind in ("1bit", "2bit", "fp16", "int8", "topk"):
        with pytest.raises(InvalidArgument):
            from_spec({**spec, "type": kind, "zzz": 0})


def test_a_description_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TopK().ratio = 0.5  # type: ignore[misc]


def test_residuals_are_kept_per_key_and_sender() -> None:
    residuals, grad = Residuals(), np.ones((2, 3), np.float32)
    first = residuals.of("w", 0, grad)
    assert first.tolist() == [0.0] * 6
    TwoBit().encode(grad, first, bytearray(4))
    assert residuals.of("w", 0, grad) is first
    assert first.any()
    for other in (residuals.of("w", 1, grad), residuals.of("v", 0, grad), residuals.of(1, 0, grad)):
        assert not other.any()
    assert residuals.nbytes == 4 * 24


def test_a_dropped_key_starts_from_zero() -> None:
    residuals, grad = Residuals(), np.ones(3, np.float32)
    residuals.of("w", 0, grad)[...] = 1
    kept = residuals.of("v", 0, grad)
    residuals.drop("w")
    residuals.drop("w")
    assert residuals.nbytes == kept.nbytes
    assert residuals.of("w", 0, np.ones(5)).tolist() == [0.0] * 5
    assert residuals.of("v", 0, grad) is kept


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_a_residual_is_wide_enough(dtype) -> None:
    expected = np.float64 if dtype == np.float64 else np.float32
    assert Residuals().of("w", 0, np.zeros(2, dtype)).dtype == expected


def test_a_gradient_of_another_kind_is_refused() -> None:
    residuals = Residuals()
    residuals.of("w", 0, np.ones(3, np.float32))
    with pytest.raises(ShapeMismatch, match=r"'w'.* 3 values.* 4"):
        residuals.of("w", 0, np.ones(4, np.float32))
    with pytest.raises(DTypeMismatch, match=r"'w'.*float32.*float64"):
        residuals.of("w", 0, np.ones(3))
    with pytest.raises(DTypeMismatch, match="int64"):
        residuals.of("v", 0, np.ones(3, np.int64))
    assert residuals.nbytes == 12


IMPORTS = """
import sys
import numpy as np
import akv
from akv.compression import from_spec
codec = from_spec({"type": "2bit"})
print("numba" in sys.modules)
codec.encode(np.ones(4, np.float32), np.zeros(4, np.float32), bytearray(4))
print("numba" in sys.modules)
"""


def _imports(**environment: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_importing_akv_does_not_import_numba() -> None:
    assert _imports(AKV_NUMBA="1") == ["False", str(cases.has_numba())]


def test_numba_can_be_switched_off() -> None:
    assert _imports(AKV_NUMBA="0") == ["False", "False"]


def test_without_numba_there_are_no_kernels(monkeypatch) -> None:
    monkeypatch.delenv("AKV_NUMBA", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    compiled._compile.cache_clear()
    assert compiled.kernels() is None
    compiled._compile.cache_clear()
