"""The devices of CUDA, and callers' arrays on them. CuPy is imported here, and in `probe`, when a store is opened."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import Any

from akv.errors import AkvError, InvalidArgument
from akv.values.arrays import describe
from akv.values.device import OnDevice
from akv_cupy.cuda_device import CudaDevice, CudaEvent, CudaStream
from akv_cupy.device import Array, Event
from akv_cupy.probe import check

__all__ = ["CudaMachine", "open_machine"]


def open_machine(indices: Sequence[int], limit: int | None) -> CudaMachine:
    """The devices with these numbers; each may hold `limit` bytes.

    Raises:
        BackendUnavailable: something is missing; the text names it, and the command that mends it.
    """
    check(indices)
    return CudaMachine(importlib.import_module("cupy"), indices, limit)


class CudaMachine:
    """See akv_cupy.device.Machine."""

    def __init__(self, cupy: Any, indices: Sequence[int], limit: int | None) -> None:
        self._cupy = cupy
        self.devices: Sequence[CudaDevice] = [CudaDevice(cupy, index, limit) for index in indices]
        self._others: dict[int, CudaDevice] = {}
        self._guests = _Guests()

    def adopt(self, value: OnDevice) -> tuple[Array, Event]:
        owner = value.owner
        try:
            if isinstance(owner, self._cupy.ndarray):
                # Its work is on CuPy's current stream of this thread, as CuPy itself assumes.
                return self._adopted(owner, value), self._ready(owner.device.id)
            if hasattr(owner, "__dlpack__"):
                return self._from_dlpack(owner, value)
            return self._from_interface(owner, value)
        except AkvError:
            raise
        except (RuntimeError, BufferError, TypeError, ValueError) as error:
            text = f"{type(owner).__qualname__} {describe(value)} cannot be used from here: {error}"
            raise InvalidArgument(text) from error

    def _from_dlpack(self, owner: Any, value: OnDevice) -> tuple[Array, Event]:
        device = self._device(owner.__dlpack_device__()[1])
        stream = self._guests.stream(device)
        with device.raw, stream.raw:
            # Its library makes this stream wait for whatever it has under way in this thread.
            array = self._cupy.from_dlpack(owner)
        return self._adopted(array, value), stream.record()

    def _from_interface(self, owner: Any, value: OnDevice) -> tuple[Array, Event]:
        cuda, about = self._cupy.cuda, owner.__cuda_array_interface__
        (pointer, read_only), stream = about["data"], about.get("stream")
        if read_only and value.written:
            raise InvalidArgument(f"out {describe(value)} on a device is read-only; pass a writable array")
        index = cuda.runtime.pointerGetAttributes(pointer).device
        strides = about.get("strides")
        # UnownedMemory keeps the owner alive, and frees nothing.
        memory = cuda.MemoryPointer(cuda.UnownedMemory(pointer, value.nbytes, owner, index), 0)
        array = Array(self._device(index), memory, value.shape, value.dtype, 0, strides and tuple(strides))
        device = self._device(index)
        if stream is None:  # nothing is under way, says the interface
            return array, self._guests.stream(device).record()
        with device.raw:
            event = device.new_event()
            cuda.runtime.eventRecord(event.ptr, stream)
        return array, CudaEvent(self._cupy, device.name, event)

    def _adopted(self, array: Any, value: OnDevice) -> Array:
        strides = None if array.flags.c_contiguous else tuple(array.strides)
        return Array(self._device(array.device.id), array.data, value.shape, value.dtype, 0, strides)

    def _ready(self, index: int) -> CudaEvent:
        device = self._device(index)
        with device.raw:
            event = device.new_event()
            event.record(self._cupy.cuda.get_current_stream())
        return CudaEvent(self._cupy, device.name, event)

    def _device(self, index: int) -> CudaDevice:
        """One of the store's devices, or another one that a caller's array is on."""
        for device in self.devices:
            if device.index == index:
                return device
        if index not in self._others:
            self._others[index] = CudaDevice(self._cupy, index, None)
        return self._others[index]


class _Guests(threading.local):
    """Each thread's streams that wait for its other libraries: shared, they would wait for those of other threads."""

    def __init__(self) -> None:
        self._streams: dict[int, CudaStream] = {}

    def stream(self, device: CudaDevice) -> CudaStream:
        """This thread's on a device."""
        if device.index not in self._streams:
            self._streams[device.index] = device.stream(0)
        return self._streams[device.index]
