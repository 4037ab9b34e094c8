"""Simulated devices, and arrays on them as a caller of another library would hold them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from akv.errors import BackendUnavailable, InvalidArgument
from akv.values.device import OnDevice
from akv_cupy.device import Array, Event, Kernel, Stream
from akv_cupy.simulated.memory import Block, Pool
from akv_cupy.simulated.streams import Scheduler, SimulatedStream, Use

__all__ = ["GuestArray", "SimulatedDevice", "SimulatedMachine"]


class SimulatedDevice:
    """See akv_cupy.device.Device."""

    def __init__(self, scheduler: Scheduler, index: int, limit: int | None = None) -> None:
        self.index = index
        self.name = f"simulated:{index}"
        self.scheduler = scheduler
        self.pool = Pool(limit)
        self.closed = False

    def stream(self, level: int) -> SimulatedStream:
        return SimulatedStream(self.scheduler, self.name, level)

    def allocate(self, nbytes: int) -> Block:
        block = self.pool.take(nbytes)
        if block is None:
            raise BackendUnavailable(f"{self.name}: no memory for {nbytes} bytes, {self.pool.used} are used")
        return block

    def pinned(self, nbytes: int) -> np.ndarray:
        return np.full(nbytes, 0xFF, np.uint8)

    # What lies on a stream keeps no memory alive: a caller who forgets to is to be found out.

    def upload(self, host: np.ndarray, to: Array, stream: Stream) -> None:
        target = _bytes(to)
        _of(stream).put("upload", lambda: np.copyto(target, host), [_use(to, True)])

    def download(self, array: Array, host: np.ndarray, stream: Stream) -> None:
        host.fill(0xFF)
        source = _bytes(array)
        _of(stream).put("download", lambda: np.copyto(host, source), [_use(array, False)])

    def copy(self, source: Array, target: Array, stream: Stream) -> None:
        start, stop = _bytes(source), _bytes(target)
        _of(stream).put("copy", lambda: np.copyto(stop, start), [_use(source, False), _use(target, True)])

    def clear(self, array: Array, stream: Stream) -> None:
        target = _bytes(array)
        _of(stream).put("clear", lambda: target.fill(0), [_use(array, True)])

    def address(self, array: Array) -> int:
        return int(raw(array).ctypes.data)

    def launch(
        self, kernel: Kernel, size: int, *arguments: object, stream: Stream, beside: Sequence[tuple[Array, bool]] = ()
    ) -> None:
        uses = [_use(array, writes) for array, writes in beside]
        taken: list[object] = []
        for place, argument in enumerate(arguments):
            if isinstance(argument, Array):
                assert argument.device is self, f"{kernel.name} on {self.name} was given {argument!r}"
                uses.append(_use(argument, place in kernel.writes))
                taken.append(raw(argument))
            else:
                taken.append(argument)

        def run() -> None:
            with np.errstate(all="ignore"):
                kernel.reference(*taken)

        _of(stream).put(kernel.name, run, uses)

    def memory(self) -> tuple[int, int | None]:
        return self.pool.used, self.pool.limit

    def close(self) -> None:
        self.closed = True


class GuestArray:
    """An array that belongs to a caller: in memory of another library's, filled on a stream of its.

    Attributes:
        stream: what its library would call the current stream.
    """

    def __init__(
        self, device: SimulatedDevice, memory: Pool, shape: Sequence[int], dtype: Any, stream: SimulatedStream
    ) -> None:
        self.device, self.stream = device, stream
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        nbytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self.array = Array(device, memory.take(nbytes), self.shape, self.dtype)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.index

    def fill(self, values: Any) -> GuestArray:
        """Have the values written, later, on its stream."""
        source, target = np.array(values, self.dtype), raw(self.array)
        self.stream.put("guest fill", lambda: np.copyto(target, source), [_use(self.array, True)])
        return self

    def read(self) -> np.ndarray:
        """What is there, waited for on its own stream only."""
        found, source = np.empty(self.shape, self.dtype), raw(self.array)
        self.stream.put("guest read", lambda: np.copyto(found, source), [_use(self.array, False)])
        self.stream.record().synchronize()
        return found


class SimulatedMachine:
    """See akv_cupy.device.Machine.

    Args:
        count: how many devices it has.
        limit: the most bytes that each may hand out.
        seed: of the order in which things are done that need no order.
    """

    def __init__(self, count: int = 1, limit: int | None = None, seed: int = 0) -> None:
        self.scheduler = Scheduler(seed)
        self.devices: Sequence[SimulatedDevice] = [
            SimulatedDevice(self.scheduler, index, limit) for index in range(count)
        ]
        self._elsewhere = Pool()
        self._streams = [device.stream(0) for device in self.devices]

    def adopt(self, value: OnDevice) -> tuple[Array, Event]:
        guest = value.owner
        if not isinstance(guest, GuestArray):
            raise InvalidArgument(f"{type(guest).__qualname__} is no array of this machine")
        return guest.array, guest.stream.record()

    def guest(self, values: Any, device: int = 0, stream: SimulatedStream | None = None) -> GuestArray:
        """A caller's array on one of the devices, which will be filled with some values."""
        source, stream = np.asarray(values), stream or self._streams[device]
        return GuestArray(self.devices[device], self._elsewhere, source.shape, source.dtype, stream).fill(source)

    @contextmanager
    def busy(self) -> Generator[None]:
        """While this lasts, the devices do nothing of what they are asked for."""
        with self.scheduler.change:
            self.scheduler.held = True
        try:
            yield
        finally:
            with self.scheduler.change:
                self.scheduler.held = False
                self.scheduler.change.notify_all()


def raw(array: Array) -> np.ndarray:
    """The elements as they are now, for the simulation, and for tests that look behind the store's back."""
    return np.ndarray(array.shape, array.dtype, array.memory.memory.data, array.offset, array.strides)


def _bytes(array: Array) -> np.ndarray:
    return raw(array.as_bytes(0, array.nbytes))


def _use(array: Array, writes: bool) -> Use:
    if array.strides is None:
        return array.memory.memory, array.offset, array.offset + array.nbytes, writes
    return array.memory.memory, 0, len(array.memory.memory.data), writes


def _of(stream: Stream) -> SimulatedStream:
    assert isinstance(stream, SimulatedStream)
    return stream
