"""What the tests of checkpoints share: stores of both kinds through both faces, and arrays of any dtype and shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import akv
from akv import sync
from akv.backend.registry import register
from akv.backend.simple import SimpleProvider, SimpleStorage
from akv.values.dtypes import EXTENDED, NATIVE, extended_dtype

MANIFEST = "akv-manifest.json"
DTYPES = sorted(NATIVE, key=str) + [extended_dtype(name, "test") for name in sorted(EXTENDED)]
FLOATS = [np.dtype(np.float16), extended_dtype("bfloat16", "test"), np.dtype(np.float32), np.dtype(np.float64)]


class DictStorage(SimpleStorage):
    """A simple storage, that may refuse to put one key."""

    refused: Any = None

    def __init__(self) -> None:
        self.arrays: dict[Any, np.ndarray] = {}
        super().__init__()

    def get(self, key: Any) -> np.ndarray:
        return self.arrays[key]

    def put(self, key: Any, array: np.ndarray, version: int) -> None:
        if key == self.refused:
            raise OSError("full")
        self.arrays[key] = array

    def remove(self, key: Any, version: int) -> None:
        del self.arrays[key]


register("ckdict", SimpleProvider("ckdict", lambda name, options: DictStorage()))

URLS = ["memory://", "ckdict://"]
FACES = ["async", "blocking"]


class Blocking:
    """A handle of akv.sync whose calls are carried out when they are made, and can be awaited."""

    def __init__(self, store: sync.KVStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return found if name == "is_capable" else lambda *args: _done(found(*args))


def _done(result: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future


@asynccontextmanager
async def opened(face: str, url: str = "memory://", **options: Any) -> AsyncIterator[Any]:
    """A handle whose verbs can be awaited, of either face."""
    if face == "blocking":
        with sync.connect(url, **options) as store:
            yield Blocking(store)
    else:
        async with akv.connect(url, **options) as kv:
            yield kv


def exactly(found: np.ndarray, expected: np.ndarray) -> None:
    """Assert that the arrays are the same, bit for bit."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def contents(store: sync.KVStore) -> dict[Any, tuple[int, bytes]]:
    """All that is stored: versions and bytes by key."""
    keys = store.keys()
    return {key: (store.info(key).version, store.pull(key).tobytes()) for key in keys}


def files(folder: Path) -> dict[str, bytes]:
    """The files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    return hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@st.composite
def arrays(draw: st.DrawFn, *dtypes: Any) -> np.ndarray:
    """Any bytes at all, so every NaN; only a bool is 0 or 1."""
    dtype, shape = np.dtype(draw(st.sampled_from(dtypes or DTYPES))), draw(shapes())
    nbytes = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=nbytes, max_size=nbytes))
    if dtype == np.bool_:
        return (np.frombuffer(data, np.uint8).reshape(shape) % 2).astype(np.bool_)
    return np.frombuffer(data, dtype).reshape(shape)


NASTY = [
    "",
    "a",
    "a/0",
    "a/0/0",
    "__metadata__",
    "akv:json:",
    'akv:json:"a"',
    "1",
    "\0",
    "\ud800",
    "\udfff\ud800",
    "😀",
    "é",
    "e\u0301",
]
texts = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=()), max_size=8)
integers = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)


def values() -> st.SearchStrategy[Mapping[Any, np.ndarray]]:
    """Keys of one kind, with arrays."""
    return st.dictionaries(texts, arrays(), max_size=6) | st.dictionaries(integers, arrays(), max_size=6)
