"""akv_cupy.cuda against a stand-in for CuPy that works at once: whether the calls, addresses and kernels fit."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from cupy_fake import Fake, compiled

import akv
from akv.backend import registry
from akv.optim import LAMB, LARS, SGD, Adam, Settings
from akv.testing.samples import array, same
from akv_cupy.cuda import CudaMachine
from akv_cupy.cuda_device import CudaDevice
from akv_cupy.provider import Provider

URL = "fakecupy://0,1/store"


@pytest.fixture
def cupy() -> Fake:
    return Fake()


@pytest_asyncio.fixture
async def kv(cupy: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[akv.KVStore]:
    monkeypatch.setattr(CudaDevice, "compiled", compiled(tmp_path))
    provider = Provider("fakecupy", lambda devices, limit: CudaMachine(cupy, devices, limit))
    monkeypatch.setitem(registry._registered, "fakecupy", provider)
    async with akv.connect(f"{URL}?memory_limit=1M") as kv:
        yield kv


async def test_every_verb(kv: akv.KVStore) -> None:
    await kv.init("w", array())
    assert await kv.push("w", array(seed=1)) == 2
    same(await kv.pull("w"), array(seed=1))
    await kv.push("w", [array(seed=1), array(seed=2), array(seed=3)])
    same(await kv.pull("w"), array(seed=1) + array(seed=2) + array(seed=3))
    await kv.set_updater("add")
    await kv.push("w", array(seed=4))
    out = np.zeros((2, 3))
    await kv.pull("w", out)
    same(out, sum((array(seed=seed) for seed in (1, 2, 3, 4)), np.zeros((2, 3), np.float32)).astype(float))
    found = await kv.row_sparse_pull("w", row_ids=[1])
    same(found.values, out[1:].astype(np.float32))
    await kv.push("w", akv.RowSparse([0], np.ones((1, 3), np.float32), (2, 3)))
    assert (await kv.pull("w"))[0, 0] == out[0, 0] + 1
    assert (await kv.info("w")).where == "cuda:0"


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), Adam(multi_precision=True), LAMB(), LARS(momentum=0.9)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
async def test_optimizers(kv: akv.KVStore, optimizer: Any, dtype: Any) -> None:
    weight, grad = array(dtype), array(dtype, seed=1)
    await kv.init("w", weight)
    await kv.set_optimizer(optimizer)
    expected, state = weight.copy(), optimizer.create_state(weight)
    for count in (1, 2):
        await kv.push("w", grad)
        optimizer.bind("w", count, Settings())(expected, grad, state)
    np.testing.assert_allclose(await kv.pull("w"), expected, rtol=1e-3 if dtype is np.float16 else 1e-6)


async def test_callers_arrays(kv: akv.KVStore, cupy: Fake) -> None:
    await kv.init("w", array())
    pool = cupy.cuda.MemoryPool()
    given = cupy.ndarray((2, 3), np.dtype(np.float32), pool.malloc(24))
    given[...] = array(seed=1)
    cupy.log.clear()
    await kv.push("w", given)
    same(await kv.pull("w"), array(seed=1))
    names = [entry[0] for entry in cupy.log]
    # The caller's stream is waited for before the copy.
    assert names.index("record") < names.index("wait") < names.index("memcpy")
    out = cupy.ndarray((2, 3), np.dtype(np.float64), pool.malloc(48))
    await kv.pull("w", out)
    assert np.array_equal(np.asarray(out), array(seed=1))
    await kv.push("w", DLPack(array(seed=2)))
    same(await kv.pull("w"), array(seed=2))
    for stream in (None, 1, 77):
        cupy.log.clear()
        await kv.push("w", Interface(array(seed=3), stream))
        same(await kv.pull("w"), array(seed=3))
        assert (("eventRecord", stream) in cupy.log) == (stream is not None)


async def test_outs_that_say_they_are_read_only(kv: akv.KVStore) -> None:
    await kv.init("w", array())
    with pytest.raises(akv.InvalidArgument, match="read-only"):
        await kv.pull("w", Interface(array(), None, read_only=True))


class DLPack:
    def __init__(self, shown: np.ndarray) -> None:
        self.shown, self.shape, self.dtype = shown, shown.shape, shown.dtype

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 1

    def __dlpack__(self) -> None:
        """For `hasattr`."""


class Interface:
    def __init__(self, shown: np.ndarray, stream: int | None, read_only: bool = False) -> None:
        self.shown, self.shape, self.dtype, self._stream = shown, shown.shape, shown.dtype, stream
        self._read_only = read_only

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "data": (self.shown.ctypes.data, self._read_only),
            "stream": self._stream,
            "strides": None,
            "version": 3,
        }


async def test_between_devices(kv: akv.KVStore, cupy: Fake) -> None:
    await kv.init("w", array())
    cupy.log.clear()
    await kv.push("w", [DLPack(array(seed=1)), array(seed=2)])
    same(await kv.pull("w"), array(seed=1) + array(seed=2))
    assert [entry[1:3] for entry in cupy.log if entry[0] == "peer"] == [(1, 0)]


async def test_errors(kv: akv.KVStore, cupy: Fake) -> None:
    await kv.init("w", array())
    with pytest.raises(akv.BackendUnavailable, match=r"cuda:.*out of memory.*memory_limit"):
        await kv.init("v", np.zeros(1 << 20, np.float32))
    cupy.codes[:] = [700] * 100
    with pytest.raises(akv.BackendUnavailable, match=r"cuda:0.*700"):
        await kv.push("w", array())
    cupy.codes.clear()


def test_streams_have_priorities(cupy: Fake) -> None:
    device = CudaMachine(cupy, [0], None).devices[0]
    assert [device.stream(level).raw.priority for level in (1, 0, -1)] == [-5, 0, 0]


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_cupy_has_what_is_used() -> None:
    cupy: Any = importlib.import_module("cupy")
    for name in ("memcpyAsync", "memcpyPeerAsync", "memcpyDefault", "eventQuery", "eventRecord", "CUDARuntimeError"):
        assert hasattr(cupy.cuda.runtime, name)
    for name in ("MemoryPool", "PinnedMemoryPool", "UnownedMemory", "MemoryPointer", "using_allocator", "nvrtc"):
        assert hasattr(cupy.cuda, name)
    assert cupy.cuda.runtime.eventQuery(0) != 0
    assert hasattr(cupy.cuda.driver, "CUDADriverError")
    assert hasattr(cupy.cuda.compiler, "CompileException")
