"""`akv get` and `akv put`: what they write and read; and whose time-out counts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import DTYPES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import akv
from akv import sync
from akv.cli import looking, main
from akv.cli.files import read_array, write_array
from akv.values.dtypes import NATIVE, extended_dtype

URL = "memory://cli-look"
BF16 = extended_dtype("bfloat16", "test")
VALUE = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def kv() -> Iterator[sync.KVStore]:
    with sync.connect(URL) as kv:
        yield kv
        kv.delete(kv.keys())


def values(shape: tuple[int, ...], dtype: np.dtype[Any], seed: int) -> np.ndarray:
    data = np.random.default_rng(seed).integers(0, 2, (*shape, dtype.itemsize), np.uint8)
    return np.ascontiguousarray(data).reshape(-1).view(dtype).reshape(shape)


# -- files ----------------------------------------------------------------------------------------------------


@given(
    dtype=st.sampled_from(DTYPES),
    shape=hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
    key=st.one_of(st.integers(-9, 9), st.text(max_size=5)),
    seed=st.integers(0, 99),
)
def test_what_a_file_keeps_comes_back_as_it_was(dtype: Any, shape: tuple[int, ...], key: Any, seed: int) -> None:
    value = values(shape, dtype, seed)
    with tempfile.TemporaryDirectory() as folder:
        for name in ["a.safetensors", *(["a.npy", "a"] if dtype in NATIVE else [])]:
            path = Path(folder) / name
            write_array(path, key, value)
            found = read_array(path, key)
            assert (found.dtype, found.shape, found.tobytes()) == (dtype, shape, value.tobytes())


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BF16], ids=str)
def test_get_then_put(kv: sync.KVStore, dtype: Any, tmp_path: Path) -> None:
    file = str(tmp_path / "w.safetensors")
    kv.init("w", VALUE.astype(dtype))
    assert main(["get", URL, "w", "-o", file]) == 0
    kv.push("w", np.zeros((2, 3), dtype))
    assert main(["put", URL, "w", file]) == 0
    assert main(["put", URL, "other", file]) == 0
    for key in ("w", "other"):
        assert kv.info(key).dtype == dtype
        np.testing.assert_array_equal(kv.pull(key).astype(np.float32), VALUE)


def test_others_read_it(kv: sync.KVStore, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    kv.init("w", VALUE)
    assert main(["get", URL, "w", "-o", str(tmp_path / "w.safetensors")]) == 0
    found = safetensors.load_file(tmp_path / "w.safetensors")
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], VALUE)
    safetensors.save_file({"a": VALUE, "b": VALUE + 1}, tmp_path / "two.safetensors")
    assert main(["put", URL, "b", str(tmp_path / "two.safetensors")]) == 0
    np.testing.assert_array_equal(kv.pull("b"), VALUE + 1)


def test_what_a_npy_cannot_keep_is_refused_and_nothing_is_written(
    kv: sync.KVStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kv.init("w", VALUE.astype(BF16))
    assert main(["get", URL, "w", "-o", str(tmp_path / "w.npy")]) == 1
    assert "cannot keep bfloat16; end its name in .safetensors" in capsys.readouterr().err
    assert main(["get", URL, "w", "-o", str(tmp_path / "w.txt")]) == 1
    assert "w.txt: values are written as .npy or .safetensors" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def safe(header: object, data: bytes = bytes(24)) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting value"),
        (b"\x00" * 7, "Expecting value"),
        (b"\xff" * 64, "decode"),
        (safe([]), "does not begin with a header"),
        (safe({}), "it has 0 arrays"),
        (safe({"a": ENTRY, "b": ENTRY}), "it has 2 arrays, and none is called 'w': a, b"),
        (safe({"w": ENTRY}, bytes(23)), "does not lie in its bytes 0 to 24"),
        (safe({"w": {**ENTRY, "shape": [2, 4]}}), "does not lie"),
        (safe({"w": {**ENTRY, "data_offsets": [-24, 0]}}), "does not lie"),
        (safe({"w": {**ENTRY, "shape": ["2", 3]}}), "cannot be read"),
        (safe({"w": {**ENTRY, "shape": [-2, -3]}}), "cannot be read"),
        (safe({"w": {**ENTRY, "dtype": "F4"}}), "'F4' is none that a store can hold"),
        (safe({"w": {"dtype": "F32"}}), "cannot be read"),
        (safe({"w": 1}), "cannot be read"),
        (safe({"w": ENTRY, "__metadata__": {"views": '{"w": "x"}'}}), "'x' is none of"),
        (safe({"w": ENTRY, "__metadata__": 3}), "cannot be read"),
        (b"[" * 5000 + b"1", "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_such_file_is_one_line(
    kv: sync.KVStore, data: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    assert main(["put", URL, "w", str(path)]) == 1
    err = capsys.readouterr().err
    assert f"{path} cannot be read as a .safetensors file: " in err
    assert said in err
    assert err.count("\n") == 1
    assert kv.keys() == []


def test_a_npy_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "w.npy").write_bytes(b"nothing")
    with pytest.raises(akv.InvalidArgument, match=r"w\.npy cannot be read as a \.npy file: "):
        read_array(tmp_path / "w.npy", "w")


# -- time-outs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "variable", "own", "counts"),
    [
        ("", None, 30.0, 30.0),
        ("", None, None, None),
        ("?timeout=2", None, 30.0, 2.0),
        ("?timeout=2", None, None, 2.0),
        ("?timeout=2", "3", 30.0, 2.0),
        ("", "3", 30.0, 3.0),
    ],
)
def test_whoever_says_a_time_out_is_heard(
    query: str, variable: str | None, own: float | None, counts: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("AKV_TIMEOUT", variable)
    with looking.look(f"memory://{query}", own) as kv:
        assert kv._timeout == counts


def test_the_time_out_of_a_url_ends_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    connect = sync.connect

    def seen(url: str, **options: object) -> sync.KVStore:
        kv = connect(url, **options)
        asked.append(kv._timeout)
        return kv

    monkeypatch.setattr(sync, "connect", seen)
    for command in (["ls"], ["get", "w"], ["put", "w", "nowhere"], ["save", "no/where"], ["load", "nowhere"]):
        main([command[0], f"{URL}?timeout=7", *command[1:]])
    assert asked == [7.0] * 5
