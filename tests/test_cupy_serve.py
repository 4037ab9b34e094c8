"""A server whose store is on (simulated) devices: `akv serve --backend cupy://0`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from cupy_cases import SCHEME, provider

import akv
from akv.optim import Adam, Settings
from akv.testing.samples import array, same
from akv_cupy.executor import DeviceBackend
from akv_tcp.hosting import host, host_rounds
from akv_tcp.server import Server


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    made = provider().machines
    made.clear()
    server = Server(host(f"{SCHEME}://0,1"), make_rounds=host_rounds(f"{SCHEME}://0,1"))
    name, port = await server.start("127.0.0.1", 0)
    try:
        yield f"tcp://{name}:{port}/job"
    finally:
        async with asyncio.timeout(20):
            await server.stop()
    complaints = [each for machine in made for each in machine.scheduler.complaints]
    made.clear()
    assert not complaints


@pytest.mark.parametrize("size", [6, 3 << 18])
async def test_values_live_on_the_devices(url: str, size: int) -> None:
    value = array(shape=(size,))
    async with akv.connect(url) as kv:
        await kv.init(["a", "b"], [value, value])
        assert await kv.push("a", [value, value]) == 2
        await kv.set_updater("add")
        await kv.push(["a", "b"], [value, value])
        out = np.zeros(size)
        await kv.pull("a", out)
        same(out, (3 * value).astype(float))
        same(await kv.pull("b"), 2 * value)
        used = [device.pool.used for machine in provider().machines for device in machine.devices]
        assert [nbytes >= value.nbytes for nbytes in used if nbytes] == [True, True]


async def test_optimizers_and_rows_run_there(url: str) -> None:
    weight, grad, optimizer = array(), array(seed=1), Adam(learning_rate=0.5)
    async with akv.connect(url) as kv:
        await kv.init("w", weight)
        await kv.set_optimizer(optimizer)
        expected, state = weight.copy(), optimizer.create_state(weight)
        for count in (1, 2):
            await kv.push("w", grad)
            optimizer.bind("w", count, Settings())(expected, grad, state)
        np.testing.assert_allclose(await kv.pull("w"), expected, rtol=1e-6)
        found = await kv.row_sparse_pull("w", row_ids=[1])
        np.testing.assert_allclose(found.values, expected[1:], rtol=1e-6)


@pytest.mark.parametrize("spec", [{"type": "2bit", "threshold": 0.5}, {"type": "int8", "pull": "fp16"}])
async def test_packed_gradients(url: str, spec: dict[str, Any]) -> None:
    grad = np.linspace(-0.25, 0.25, 2048, dtype=np.float32)
    async with akv.connect(url) as kv:
        await kv.init("w", np.zeros_like(grad))
        await kv.set_gradient_compression(spec)
        await kv.set_updater("add")
        for _ in range(20):
            await kv.push("w", grad)
        np.testing.assert_allclose(await kv.pull("w"), 20 * grad, atol=0.6)


async def test_rounds_of_workers(url: str) -> None:
    """The sum of a round is made on the device, too."""
    async with akv.connect(f"{url}s?workers=2") as one, akv.connect(f"{url}s?workers=2") as other:
        await asyncio.gather(one.init("w", array()), other.init("w", array()))
        await asyncio.gather(one.push("w", array(seed=1)), other.push("w", array(seed=2)))
        for kv in (one, other):
            same(await kv.pull("w"), array(seed=1) + array(seed=2))


async def test_an_error_of_the_device_goes_over_the_wire(url: str) -> None:
    async with akv.connect(url) as kv:
        await kv.init("w", array())
        for machine in provider().machines:
            machine.scheduler.fail_in = 0
        with pytest.raises(akv.BackendUnavailable, match="700"):
            await kv.push("w", array())


def test_it_is_no_other_backend() -> None:
    backend = provider().open("0", provider_options())
    assert isinstance(backend, DeviceBackend)
    assert backend.capabilities["snapshots"]
    backend.close()
    provider().machines.clear()


def provider_options() -> dict[str, Any]:
    return {"memory_limit": None, "staging": 1 << 24, "on_nonfinite": "allow", "max_queued": 10}
