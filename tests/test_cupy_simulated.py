"""The simulated devices find what they are there to find."""

from __future__ import annotations

import numpy as np
import pytest

from akv.errors import BackendUnavailable
from akv_cupy.device import DONE, NOT_READY, Array, has_fired
from akv_cupy.simulated import Race, SimulatedMachine
from akv_cupy.simulated.machine import SimulatedDevice, raw

F4 = np.dtype(np.float32)


@pytest.fixture
def machine() -> SimulatedMachine:
    return SimulatedMachine(2)


def fresh(device: SimulatedDevice, size: int = 4) -> Array:
    return Array(device, device.allocate(4 * size), (size,), F4)


def ones(device: SimulatedDevice) -> np.ndarray:
    host = device.pinned(16)
    host.view(F4)[...] = 1
    return host


def test_nothing_is_done_before_somebody_waits(machine: SimulatedMachine) -> None:
    device = machine.devices[0]
    array, stream = fresh(device), device.stream(0)
    device.upload(ones(device), array, stream)
    assert np.isnan(raw(array)).all()
    stream.record().synchronize()
    assert (raw(array) == 1).all()


def test_an_event_fires_when_all_before_it_is_done(machine: SimulatedMachine) -> None:
    device = machine.devices[0]
    array, stream = fresh(device), device.stream(0)
    with machine.busy():
        device.upload(ones(device), array, stream)
        event = stream.record()
        assert [event.query() for _ in range(20)] == [NOT_READY] * 20
    assert DONE in [event.query() for _ in range(20)]


def test_host_memory_is_read_and_written_late(machine: SimulatedMachine) -> None:
    device = machine.devices[0]
    array, stream, host = fresh(device), device.stream(0), ones(device)
    device.upload(host, array, stream)
    host.view(F4)[...] = 2  # too early
    back = np.zeros(16, np.uint8)
    device.download(array, back, stream)
    assert np.isnan(back.view(F4)).all()
    stream.record().synchronize()
    assert (back.view(F4) == 2).all()


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("other", [0, 1])
def test_two_streams_need_an_event(machine: SimulatedMachine, ordered: bool, other: int) -> None:
    one, two = machine.devices[0], machine.devices[other]
    array, first, second = fresh(one), one.stream(0), two.stream(0)
    target = fresh(two)
    one.upload(ones(one), array, first)
    if ordered:
        second.wait(first.record())
        two.copy(array, target, second)
        second.record().synchronize()
        assert (raw(target) == 1).all()
    else:
        with pytest.raises(Race, match=r"copy.*upload"):
            two.copy(array, target, second)


def test_what_the_host_has_waited_for_is_in_order(machine: SimulatedMachine) -> None:
    device = machine.devices[0]
    array, first, second = fresh(device), device.stream(0), device.stream(0)
    device.upload(ones(device), array, first)
    first.record().synchronize()
    device.clear(array, second)
    second.record().synchronize()
    assert (raw(array) == 0).all()


def test_two_reads_need_no_order(machine: SimulatedMachine) -> None:
    device = machine.devices[0]
    array, hosts = fresh(device), [device.pinned(16), device.pinned(16)]
    for host in hosts:
        device.download(array, host, device.stream(0))


def test_freed_memory_is_used_again_at_once_and_watched(machine: SimulatedMachine) -> None:
    device = machine.devices[0]
    array, first, second = fresh(device), device.stream(0), device.stream(0)
    memory = array.memory.memory
    device.download(array, device.pinned(16), first)
    del array
    again = fresh(device)
    assert again.memory.memory is memory
    with pytest.raises(Race, match=r"upload.*download"):
        device.upload(ones(device), again, second)


def test_the_first_failure_is_for_good(machine: SimulatedMachine) -> None:
    device = machine.devices[0]
    array, stream = fresh(device), device.stream(0)
    machine.scheduler.fail_in = 0
    device.upload(ones(device), array, stream)
    event = stream.record()
    with pytest.raises(BackendUnavailable, match=r"simulated:0.*700"):
        event.synchronize()
    with pytest.raises(BackendUnavailable, match="700"):
        has_fired(event)
    with pytest.raises(BackendUnavailable, match="700"):
        device.upload(ones(device), array, stream)
    other = machine.devices[1]
    other.clear(target := fresh(other), stream := other.stream(0))
    stream.record().synchronize()
    assert (raw(target) == 0).all()


def test_the_limit_of_memory() -> None:
    (device,) = SimulatedMachine(1, limit=4096).devices
    blocks = [device.allocate(512) for _ in range(8)]
    with pytest.raises(BackendUnavailable, match="no memory for 512 bytes, 4096"):
        device.allocate(512)
    blocks.pop()
    device.allocate(512)
