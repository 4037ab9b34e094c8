"""Order among streams, callers' streams, errors of devices, priorities, cancelling, memory: on simulated devices."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from cupy_cases import machine_of, provider, simulated, stored

import akv
from akv import sync
from akv.optim import SGD, Adam
from akv.testing.samples import array, same
from akv.values.device import OnDevice
from akv_cupy import executor
from akv_cupy import waiter as waiter_module
from akv_cupy.lane import Lane
from akv_cupy.simulated import Race, SimulatedMachine
from akv_cupy.simulated.streams import SimulatedStream

BIG = (3 << 20,)  # 12 MiB: several slots of host memory
LARGER = (1 << 17,)  # 512 KiB: by itself to the device and over it, where smaller ones go together


@pytest_asyncio.fixture
async def kv() -> AsyncIterator[akv.KVStore]:
    provider()
    with simulated("0,1/streams") as url:
        async with akv.connect(url) as kv:
            yield kv


@pytest.fixture
def machine(kv: akv.KVStore) -> SimulatedMachine:
    return machine_of("simulated://0,1/streams")


def value_of(key: str) -> np.ndarray:
    return stored("simulated://0,1/streams", key)


def complaints(machine: SimulatedMachine) -> list[BaseException]:
    """Those there were; they are forgotten."""
    found = list(machine.scheduler.complaints)
    machine.scheduler.complaints.clear()
    return found


# -- what is forgotten shows ------------------------------------------------------------------------------------------


async def test_a_pull_that_does_not_wait_shows(kv: akv.KVStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await kv.init("w", array())
    monkeypatch.setattr(executor, "fires_soon", lambda event: True)
    with machine_of("simulated://0,1/streams").busy():
        assert np.isnan(await kv.pull("w")).all()


async def test_a_push_that_does_not_wait_shows(
    kv: akv.KVStore, machine: SimulatedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kv.init("w", array())
    monkeypatch.setattr(executor, "fires_soon", lambda event: True)
    with machine.busy():
        assert await kv.push("w", array(seed=1)) == 2
        assert np.isnan(value_of("w")).all()
    assert await asyncio.wait({kv.push("w", array(seed=2)), kv.push("w", array(seed=3))})


async def test_a_callers_stream_that_is_not_waited_for_shows(
    kv: akv.KVStore, machine: SimulatedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kv.init("w", array())
    monkeypatch.setattr(SimulatedStream, "wait", lambda stream, event: None)
    with pytest.raises(Race, match="guest fill"):
        await kv.push("w", machine.guest(array(seed=1)))
    assert complaints(machine)


async def test_memory_that_is_given_back_too_early_shows(
    kv: akv.KVStore, machine: SimulatedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["a", "b", "c", "d"]  # two on each device
    await kv.init(keys, [array(shape=LARGER) for _ in keys])
    honest = Lane.launch

    def forgetful(lane: Lane, *arguments: Any) -> None:
        honest(lane, *arguments)
        lane._kept.clear()

    monkeypatch.setattr(Lane, "launch", forgetful)
    with machine.busy():
        # Each gives what it has brought back when it is launched, and the other takes it from there.
        pending = [kv.push(key, [array(shape=LARGER, seed=1), array(shape=LARGER, seed=2)]) for key in keys]
        await asyncio.wait(pending, timeout=0.05)
    results = await asyncio.gather(*pending, return_exceptions=True)
    assert any(isinstance(result, Race) for result in results)
    assert complaints(machine)


async def test_small_keys_that_go_together_are_kept_until_they_are_done(
    kv: akv.KVStore, machine: SimulatedMachine
) -> None:
    names = [f"k{number}" for number in range(24)]
    await kv.init(names, [np.zeros(60, np.float32)] * 24)
    await kv.set_updater("add")
    with machine.busy():
        # The tables of all are of one size, and so is what they bring: what is given back too early is taken at once.
        pending = [kv.push(names[start : start + 4], [np.ones(60, np.float32)] * 4) for start in range(0, 24, 4)]
        await asyncio.wait(pending, timeout=0.05)
    await asyncio.gather(*pending)
    assert np.all([await kv.pull(names)]), "each was added to"


# -- arrays of callers ------------------------------------------------------------------------------------------------


async def test_device_arrays_go_in_and_out(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    for device in (0, 1):
        await kv.init(f"w{device}", machine.guest(array(), device))
        same(await kv.pull(f"w{device}"), array())
        out = machine.guest(array(seed=9), device)
        assert await kv.pushpull(f"w{device}", machine.guest(array(seed=1), 1 - device), out) is out
        same(out.read(), array(seed=1))


async def test_a_pushed_device_array_is_copied_and_never_written_to(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    await kv.init("w", machine.guest(array()))
    guest = machine.guest(array(seed=1), 0)
    for updater in ("assign", "add"):
        await kv.set_updater(updater)
        await kv.push("w", guest)
        await kv.push("w", [guest, guest])
        same(guest.read(), array(seed=1))
    guest.fill(np.full((2, 3), -1))
    guest.read()
    same(await kv.pull("w"), 5 * array(seed=1))


async def test_a_donated_device_array_is_kept(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    await kv.init("w", array())
    home = int((await kv.info("w")).where[-1])
    guest = machine.guest(array(seed=1), home)
    await kv.push("w", guest, donate=True)
    same(await kv.pull("w"), array(seed=1))
    assert np.shares_memory(value_of("w"), guest.array.memory.memory.data)
    await kv.push("w", machine.guest(array(seed=2), 1 - home), donate=True)
    same(await kv.pull("w"), array(seed=2))


async def test_one_value_per_device_is_summed_and_fills_one_out_per_device(
    kv: akv.KVStore, machine: SimulatedMachine
) -> None:
    parts = [array(np.float16, seed=seed) for seed in range(3)]
    await kv.init("w", array(np.float16))
    await kv.push("w", [machine.guest(parts[0], 0), machine.guest(parts[1], 1), parts[2]])
    total = sum(part.astype(np.float32) for part in parts)
    outs = [machine.guest(np.zeros((2, 3), np.float16), device) for device in (0, 1)]
    wide = np.zeros((2, 3))
    await kv.pull("w", [*outs, wide])
    for out in outs:
        same(out.read(), np.asarray(total, np.float16))
    same(wide, np.asarray(total, np.float64))


async def test_small_floats_of_devices_are_rounded_once(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    await kv.init("w", np.zeros(3, np.float16))
    parts = [np.full(3, 128, np.float16), *[np.full(3, 0.03125, np.float16)] * 40]
    await kv.push("w", [machine.guest(part, place % 2) for place, part in enumerate(parts)])
    same(await kv.pull("w"), np.full(3, 128 + 40 * 0.03125, np.float32).astype(np.float16))


async def test_outs_on_a_device_are_cast(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    dtypes = [np.float16, np.float32, np.float64, np.int32, np.dtype(bfloat16)]
    for stored_dtype in dtypes:
        await kv.init(str(stored_dtype), array(stored_dtype))
        for device in (0, 1):
            outs = [machine.guest(np.zeros((2, 3), dtype), device) for dtype in dtypes]
            await kv.pull(str(stored_dtype), outs)
            for out in outs:
                same(out.read(), array(stored_dtype).astype(out.dtype))


@pytest.mark.parametrize("device", [0, 1])
async def test_strided_arrays(kv: akv.KVStore, machine: SimulatedMachine, device: int) -> None:
    def transposed(values: np.ndarray) -> Any:
        guest = machine.guest(values, device)
        guest.shape = guest.array.shape = guest.shape[::-1]
        guest.array.strides = np.ndarray(values.shape, values.dtype).T.strides
        return guest

    await kv.init("w", array())
    value, out = array(shape=(3, 2), seed=1), transposed(np.zeros((3, 2), np.float32))
    await kv.push("w", transposed(value))
    same(await kv.pull("w"), value.T.copy())
    await kv.pull("w", out)
    same(out.read(), value.T.copy())


async def test_what_a_caller_has_under_way_comes_first(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    """And the store does not wait for it on the loop."""
    await kv.init("w", array())
    stream = machine.devices[0].stream(0)
    with machine.busy():
        guest = machine.guest(array(seed=1), 0, stream)
        pending = kv.push("w", guest)
        out = machine.guest(array(seed=8), 1, machine.devices[1].stream(0))
        pulled = kv.pull("w", out)
        await asyncio.sleep(0.01)
        assert not pending.done()
    assert await pending == 2
    await pulled
    same(out.read(), array(seed=1))


async def test_host_stores_refuse_them(machine: SimulatedMachine) -> None:
    async with akv.connect("memory://") as kv:
        await kv.init("w", array())
        for call in (
            lambda guest: kv.push("w", guest),
            lambda guest: kv.push("w", [array(), guest]),
            lambda guest: kv.pull("w", guest),
            lambda guest: kv.init("v", guest),
            lambda guest: kv.pushpull("w", array(), guest),
            lambda guest: kv.broadcast("v", array(), guest),
        ):
            with pytest.raises(akv.InvalidArgument, match=r"GPU memory.*host memory.*cupy://0"):
                call(machine.guest(array()))


async def test_arrays_of_another_machine_are_refused(kv: akv.KVStore) -> None:
    await kv.init("w", array())
    with pytest.raises(akv.InvalidArgument, match="no array of this machine"):
        await kv.push("w", FakeCuda())


class FakeCuda:
    shape, dtype = (2, 3), np.dtype(np.float32)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


@pytest.mark.parametrize(("kind", "module"), [("out of JAX", "jaxlib.xla"), ("leaf", "builtins")])
def test_outs_that_cannot_be_written(kind: str, module: str) -> None:
    fake = type("Array", (FakeCuda,), {"__module__": module, "requires_grad": True, "is_leaf": False})()
    with pytest.raises(akv.InvalidArgument, match=r"pull of key 'w'"):
        OnDevice(fake, "pull", "w", written=True)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(6))
async def test_an_error_of_the_device_reaches_whoever_awaits(
    kv: akv.KVStore, machine: SimulatedMachine, after: int
) -> None:
    await kv.init(["w", "v"], [array(), array()])
    await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
    machine.scheduler.fail_in = after
    pending = [kv.push("w", array(seed=1)), kv.push("v", [array(), array()]), kv.pull("w"), kv.pull("v")]
    async with asyncio.timeout(10):
        results = await asyncio.gather(*pending, return_exceptions=True)
        later = await asyncio.gather(*[kv.pull(key) for key in ("w", "v") * 2], return_exceptions=True)
    errors = [result for result in [*results, *later] if isinstance(result, BaseException)]
    assert errors
    assert all(isinstance(error, akv.BackendUnavailable) and "700" in str(error) for error in errors)
    # Where there was none, there is the right answer.
    for result in results[2:]:
        if isinstance(result, np.ndarray):
            assert not np.isnan(result).any()


async def test_an_error_while_a_thread_waits_for_the_device(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    await kv.init("w", array())
    with machine.busy():
        pending = kv.push("w", array(seed=1))
        while not any(stream._tasks for stream in machine.scheduler.streams):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)  # and whoever has put it there has looked often enough
        machine.scheduler.fail_in = 0
    with pytest.raises(akv.BackendUnavailable, match="700"):
        await pending
    assert (await kv.info("w")).version == 1


async def test_an_error_reaches_a_flush(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    await kv.init("w", array())
    machine.scheduler.fail_in = 0
    kv.push("w", array())
    with pytest.raises(akv.BackendUnavailable, match="simulated"):
        await kv.flush()


async def test_no_memory_left() -> None:
    provider()
    with simulated("0/small") as url:
        async with akv.connect(f"{url}?memory_limit=1M") as kv:
            await kv.init("w", np.zeros(1 << 16, np.float32))
            with pytest.raises(akv.BackendUnavailable, match="no memory"):
                await kv.init("v", np.zeros(1 << 18, np.float32))
            with pytest.raises(akv.BackendUnavailable, match="no memory"):
                await kv.push("w", [np.zeros(1 << 16, np.float32)] * 4)
            assert await kv.keys() == ["w"]
            assert await kv.push("w", np.ones(1 << 16, np.float32)) == 2
            assert (await kv.pull("w") == 1).all()


async def test_memory_comes_back(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    await kv.init("w", np.zeros(BIG, np.float32))
    await kv.set_optimizer(Adam())
    await kv.push("w", np.ones(BIG, np.float32))
    used = [device.pool.used for device in machine.devices]
    for _ in range(3):
        await kv.push("w", [np.ones(BIG, np.float32), machine.guest(np.ones(BIG, np.float32), 1)])
        await kv.pull("w")
    assert [device.pool.used for device in machine.devices] == used
    await kv.delete("w")
    assert [device.pool.used for device in machine.devices] == [0, 0]


# -- the loop, priorities, cancelling ---------------------------------------------------------------------------------


async def test_the_loop_goes_on_while_the_devices_are_busy(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    await kv.init(["w", "big"], [array(), np.zeros(BIG, np.float32)])
    turns = 0
    with machine.busy():
        pending = [kv.push("w", array(seed=1)), kv.pull("w"), kv.push("big", np.ones(BIG, np.float32)), kv.pull("big")]
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.05
        while loop.time() < until:
            await asyncio.sleep(0)
            turns += 1
        assert not any(each.done() for each in pending)
    version, value, _, big = await asyncio.gather(*pending)
    assert turns > 50
    assert version == 2
    same(value, array(seed=1))
    assert (big == 1).all()


async def test_priorities_are_those_of_streams(kv: akv.KVStore, machine: SimulatedMachine) -> None:
    names = ["low", "middle", "high"]
    await kv.init(names, [array()] * 3)
    machine.scheduler.done.clear()
    with machine.busy():
        pending = [kv.push(name, array(seed=1), priority) for name, priority in zip(names, (-3, 0, 7), strict=True)]
        while len({stream.level for stream in machine.scheduler.streams if stream._tasks}) < 3:
            await asyncio.sleep(0.001)
    await asyncio.gather(*pending)
    levels = [level for _, level, what in machine.scheduler.done if what == "upload"]
    assert levels == [1, 0, -1]


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_a_push_that_is_cancelled_while_the_device_is_busy(
    kv: akv.KVStore, machine: SimulatedMachine, turns: int
) -> None:
    await kv.init("w", np.zeros(BIG, np.float32))
    ones = np.ones(BIG, np.float32)
    with machine.busy():
        pending = kv.push("w", ones)
        for _ in range(turns):
            await asyncio.sleep(0.003)
        pending.cancel()
        await asyncio.sleep(0.003)
    await asyncio.wait({pending}, timeout=10)
    # The buffer is the caller's again.
    ones[...] = 5
    version = (await kv.info("w")).version
    assert (await kv.pull("w") == version - 1).all()
    assert await kv.push("w", ones) == version + 1
    assert (await kv.pull("w") == 5).all()


async def test_many_operations_share_little_host_memory() -> None:
    provider()
    with simulated("0/narrow") as url:
        async with akv.connect(f"{url}?staging=8M") as kv:
            names = [f"k{number}" for number in range(12)]
            values = [np.full(BIG, number, np.float32) for number in range(12)]
            await asyncio.gather(*[kv.init(name, value) for name, value in zip(names, values, strict=True)])
            async with asyncio.timeout(30):
                await kv.push(names, values)
                found = await asyncio.gather(*[kv.pull(name) for name in names])
                whole = await kv.pull(names)
            for number, (one, other) in enumerate(zip(found, whole, strict=True)):
                assert (one == number).all()
                assert (other == number).all()


async def test_waiting_threads_end(kv: akv.KVStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiter_module, "_IDLE_SECONDS", 0.01)
    await kv.init("w", array())
    with machine_of("simulated://0,1/streams").busy():
        pending = kv.push("w", array())
        await asyncio.sleep(0.01)
    await pending
    for _ in range(200):
        if not [thread for thread in threading.enumerate() if thread.name.startswith("akv-simulated:")]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a waiter still runs")


def test_the_blocking_face_takes_device_arrays() -> None:
    provider()
    with simulated("0,1/blocking") as url, sync.connect(url) as kv:
        kv.init("w", array())
        machine = machine_of(url)
        pushed = [machine.guest(array(seed=1), 0), machine.guest(array(seed=2), 1)]
        assert kv.pushpull("w", pushed) is pushed  # which writes the result into them
        for guest in pushed:
            same(guest.read(), array(seed=1) + array(seed=2))


@pytest.mark.parametrize("updater", ["assign", "add"])
async def test_nothing_keeps_what_was_pushed(kv: akv.KVStore, machine: SimulatedMachine, updater: str) -> None:
    await kv.init("w", array())
    await kv.set_updater(updater)
    host, guest, out = array(seed=1), machine.guest(array(seed=1), 1), array()
    gone = [weakref.ref(each) for each in (host, guest, out)]
    gc.disable()
    try:
        with machine.busy():  # so that a thread waits for them
            pending = [kv.push("w", [host, guest]), kv.pull("w", out)]
            await asyncio.sleep(0.02)
        await asyncio.gather(*pending)
        del host, guest, out, pending
        until = asyncio.get_running_loop().time() + 5
        while any(each() is not None for each in gone) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.001)
        assert [each() for each in gone] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize("what", ["no key", "no memory", "a function", "the device"])
async def test_nothing_keeps_what_failed(kv: akv.KVStore, machine: SimulatedMachine, what: str) -> None:
    def fail(key: object, pushed: np.ndarray, stored: np.ndarray) -> None:
        raise ZeroDivisionError

    await kv.init("w", array())
    if what == "a function":
        await kv.set_updater(fail)
    elif what == "no memory":
        for device in machine.devices:
            device.pool.limit = 0
    elif what == "the device":
        machine.scheduler.fail_in = 0
    host = array(seed=1)
    gone = weakref.ref(host)
    gc.disable()
    try:
        pending = kv.push("x" if what == "no key" else "w", host)
        await asyncio.wait({pending})
        assert isinstance(pending.exception(), akv.BackendUnavailable | akv.KeyNotFound | ZeroDivisionError)
        del host, pending
        kv.failures.forget()
        until = asyncio.get_running_loop().time() + 5
        while gone() is not None and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.001)
        assert gone() is None
    finally:
        gc.enable()
