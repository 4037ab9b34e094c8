"""What only a GPU can show. Skipped where there is none; `pytest -m gpu` runs nothing else."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

import akv
from akv.backend import registry
from akv.optim import LAMB, Adam, Settings
from akv.testing import BackendTests
from akv.testing.samples import array, same
from akv.values.keys import Key
from akv_cupy.probe import probe
from akv_cupy.provider import Provider

MISSING = next((step for step in probe([0]) if not step.good), None)
if MISSING is not None:
    pytest.skip(f"{MISSING.name}: {MISSING.text}", allow_module_level=True)
pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where akv was installed before there was a cupy://."""
    monkeypatch.setitem(registry._registered, "cupy", Provider())


@pytest.fixture
def cupy() -> Any:
    return importlib.import_module("cupy")


@pytest_asyncio.fixture
async def kv() -> AsyncIterator[akv.KVStore]:
    async with akv.connect("cupy://0/test") as kv:
        yield kv


class TestCupy(BackendTests):
    """The contract, on the card."""

    def url(self, folder: Path) -> str:
        return f"cupy://0/{folder.name}"

    def peek(self, url: str, key: Key) -> np.ndarray:
        backend: Any = registry._open.engines["cupy", url.removeprefix("cupy://")].backend
        stored = backend.storage._catalog.entries[key].array
        device, host = stored.device, np.empty(stored.shape, stored.dtype)
        # On a stream of its own, which waits for nothing of the store's.
        cupy = device.cupy
        with device.raw, cupy.cuda.Stream(non_blocking=True) as stream:
            if host.nbytes:
                cupy.cuda.runtime.memcpyAsync(host.ctypes.data, stored.memory.ptr, host.nbytes, 4, stream.ptr)
                stream.synchronize()
        return host


async def test_the_callers_stream_is_respected(kv: akv.KVStore, cupy: Any) -> None:
    size = 1 << 22
    await kv.init("w", np.zeros(size, np.float32))
    stream = cupy.cuda.Stream(non_blocking=True)
    for round_ in range(1, 20):
        with stream:
            value = cupy.zeros(size, cupy.float32)
            for _ in range(50):  # some milliseconds of work that is not done when push is called
                value += 0.5
            value += round_
            pending = kv.push("w", value)
        await pending
        with stream:
            out = cupy.empty(size, cupy.float32)
            pending = kv.pull("w", out)
        await pending
        with stream:
            assert bool((out == 25 + round_).all())


async def test_many_things_at_once(kv: akv.KVStore, cupy: Any) -> None:
    """Memory that is given back and taken again, by operations on several streams."""
    names = [f"k{number}" for number in range(32)]
    sizes = [1 << (8 + number % 12) for number in range(32)]
    await kv.init(names, [np.zeros(size, np.float32) for size in sizes])
    await kv.set_updater("add")
    for _ in range(20):
        pending = [
            kv.push(name, [cupy.ones(size, cupy.float32), np.ones(size, np.float32)], number % 3 - 1)
            for number, (name, size) in enumerate(zip(names, sizes, strict=True))
        ]
        await asyncio.gather(*pending)
    for found in await kv.pull(names):
        assert (found == 40).all()


@pytest.mark.parametrize("optimizer", [Adam(), Adam(multi_precision=True), LAMB()], ids=repr)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
async def test_optimizers_are_those_of_the_cpu(kv: akv.KVStore, optimizer: Any, dtype: Any) -> None:
    weight, grad = array(dtype, (1000, 77)), array(dtype, (1000, 77), seed=1)
    await kv.init("w", weight)
    await kv.set_optimizer(optimizer)
    expected, state = weight.copy(), optimizer.create_state(weight)
    for count in (1, 2, 3):
        await kv.push("w", grad)
        optimizer.bind("w", count, Settings())(expected, grad, state)
    np.testing.assert_allclose(await kv.pull("w"), expected, rtol=2e-3 if dtype is np.float16 else 1e-6)


async def test_torch_tensors(kv: akv.KVStore) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA here")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        value = torch.arange(6, dtype=dtype, device="cuda").reshape(2, 3)
        await kv.init(str(dtype), value)
        await kv.push(str(dtype), [value, value.t().contiguous().t()])
        out = torch.zeros_like(value)
        await kv.pull(str(dtype), out)
        assert bool((out == 2 * value).all())


async def test_more_than_the_card_has(kv: akv.KVStore, cupy: Any) -> None:
    async with akv.connect("cupy://0/small?memory_limit=64M") as small:
        await small.init("w", np.zeros(1 << 20, np.float32))
        with pytest.raises(akv.BackendUnavailable, match="memory"):
            await small.init("v", np.zeros(1 << 25, np.float32))
        same((await small.pull("w"))[:3], np.zeros(3, np.float32))


async def test_the_processs_allocator_is_left_alone(kv: akv.KVStore, cupy: Any) -> None:
    before = cupy.cuda.get_allocator(), cupy.get_default_memory_pool().used_bytes()
    await kv.init("w", np.ones(1 << 20, np.float32))
    await kv.push("w", np.ones(1 << 20, np.float32))
    assert (cupy.cuda.get_allocator(), cupy.get_default_memory_pool().used_bytes()) == before
