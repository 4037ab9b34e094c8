"""The small parts: dtypes by number, errors by number, memory as bytes."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akv import errors
from akv.errors import DTypeMismatch, InvalidArgument
from akv_tcp import wire as w
from akv_tcp.wire import dtypes
from akv_tcp.wire.buffers import cut
from akv_tcp.wire.codes import CODES
from akv_tcp.wire.dtypes import ITEMSIZE
from akv_tcp.wire.limits import MAX_TEXT


@pytest.mark.parametrize("code", [dtype for dtype in w.DType if dtype])
def test_every_number_is_a_dtype_and_back(code: w.DType) -> None:
    dtype = w.dtype_to_numpy(code)
    assert w.dtype_from_numpy(dtype) == code
    assert dtype.itemsize == ITEMSIZE[code]
    assert dtype.name == code.name.lower()
    assert not dtype.hasobject


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_arrays_of_ml_dtypes_travel(dtype: type) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)
    code = w.dtype_from_numpy(array.dtype)
    data = w.array_bytes(array)
    assert len(data) == 6 * ITEMSIZE[code]
    np.testing.assert_array_equal(np.frombuffer(data, w.dtype_to_numpy(code)).reshape(2, 3), array)


@pytest.mark.parametrize("dtype", ["O", "V100", "f4,f4", "M8[ns]", "U4", ">f4", "g"])
def test_other_dtypes_do_not_travel(dtype: str) -> None:
    with pytest.raises(DTypeMismatch):
        w.dtype_from_numpy(np.dtype(dtype))


@pytest.mark.parametrize("code", [0, 20, -1, 255])
def test_other_numbers_are_no_dtype(code: int) -> None:
    with pytest.raises(DTypeMismatch, match=str(code)):
        w.dtype_to_numpy(code)


def test_without_ml_dtypes_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for code in range(w.DType.BFLOAT16, max(w.DType) + 1):
        monkeypatch.delitem(dtypes._NUMPY, code, raising=False)
    with pytest.raises(DTypeMismatch, match=r"pip install ml_dtypes"):
        w.dtype_to_numpy(w.DType.BFLOAT16)
    assert w.dtype_to_numpy(w.DType.FLOAT32) == np.float32


@given(st.sampled_from([(), (0,), (3,), (0, 5), (2, 3, 4), (1,) * 32]))
def test_the_bytes_of_an_array_are_its_memory(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).random(shape)
    data = w.array_bytes(array)
    assert bytes(data) == array.tobytes()
    assert (data.format, data.ndim, data.itemsize) == ("B", 1, 1)
    if array.size:
        array.flat[0] = 5
        assert bytes(data) == array.tobytes()


@pytest.mark.parametrize("array", [np.zeros((4, 4))[:, :2], np.zeros((4, 4)).T, np.zeros(8)[::2]])
def test_an_array_with_gaps_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidArgument, match="contiguous"):
        w.array_bytes(array)


@given(st.lists(st.binary(max_size=9), max_size=5), st.integers(0, 50), st.integers(0, 50))
def test_a_cut_through_runs_is_a_cut_through_their_sum(runs: list[bytes], start: int, size: int) -> None:
    pieces = cut([memoryview(run) for run in runs], start, start + size)
    assert b"".join(pieces) == b"".join(runs)[start : start + size]
    assert all(pieces)


def test_every_error_has_a_number() -> None:
    assert {error.__name__ for error in CODES.values()} == set(errors.__all__)
    for code, error in CODES.items():
        assert w.code_of(error("text")) == code
        again = w.error_from(code, "text")
        assert type(again) is error
        assert str(again) == "text"


def test_an_error_nobody_knows_is_an_akv_error() -> None:
    class Later(errors.KeyNotFound):
        """Of a newer version."""

    assert w.code_of(Later("x")) == w.code_of(errors.KeyNotFound("x"))
    assert w.code_of(OSError("x")) == 0
    assert type(w.error_from(200, "x")) is errors.AkvError


@given(st.text(st.characters(), max_size=2 * MAX_TEXT))
def test_the_text_of_an_error_fits(text: str) -> None:
    fitting = w.fitting_text(text)
    assert len(fitting.encode()) <= MAX_TEXT
    if len(text) < MAX_TEXT // 4 and text.isprintable():
        assert fitting == text


def test_the_public_names_are_sorted_and_there() -> None:
    assert all(hasattr(w, name) for name in w.__all__)
    assert len(set(w.__all__)) == len(w.__all__)
