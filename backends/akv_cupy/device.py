"""What akv needs of a GPU: memory, streams, events, copies and launches. See `cuda` for the real one.

Work is put on streams and done later, in the order of each stream; an event is a point on a stream. Nothing here waits
for the GPU but `Event.synchronize`, and nothing may be read before an event behind it has fired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from akv.errors import BackendUnavailable
from akv.values.device import OnDevice
from akv.values.dtypes import DType

__all__ = ["DONE", "NOT_READY", "Array", "Device", "Event", "Kernel", "Machine", "Stream", "has_fired"]

# What cudaEventQuery returns: cudaSuccess, and cudaErrorNotReady. All else is an error of work that came before; an
# error that is taken for "not ready" would be waited for for ever.
DONE, NOT_READY = 0, 600


class Array:
    """Elements in a device's memory, in C order. It keeps the memory alive, and says nothing of who may use it when.

    Attributes:
        memory: what the device handed out, or a caller's.
        offset: of the first element, in bytes.
        strides: in bytes, for a caller's array that is not C-contiguous; else None.
    """

    __slots__ = ("device", "dtype", "memory", "nbytes", "offset", "shape", "size", "strides")

    def __init__(
        self,
        device: Device,
        memory: Any,
        shape: tuple[int, ...],
        dtype: DType,
        offset: int = 0,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        self.device, self.memory, self.shape, self.dtype = device, memory, shape, dtype
        self.offset, self.strides = offset, strides
        self.size = math.prod(shape)
        self.nbytes = self.size * dtype.itemsize

    def as_bytes(self, start: int, stop: int) -> Array:
        """Some of the bytes of a C-contiguous array."""
        return Array(self.device, self.memory, (stop - start,), np.dtype(np.uint8), self.offset + start)

    def as_bits(self) -> Array:
        """The same elements as unsigned integers, where there are such: to be moved, in dtypes that CuPy has not."""
        size = self.dtype.itemsize
        dtype = np.dtype(f"u{size}") if size <= 8 else self.dtype
        return Array(self.device, self.memory, self.shape, dtype, self.offset, self.strides)

    def seen_as(self, dtype: DType) -> Array:
        """The same bytes of a C-contiguous array as elements of another dtype, in one row."""
        return Array(self.device, self.memory, (self.nbytes // dtype.itemsize,), dtype, self.offset)

    def __repr__(self) -> str:
        return f"<Array {self.dtype} {self.shape} on {self.device.name}>"


class Kernel(Protocol):
    """What can be launched.

    Attributes:
        name: of its formula, for errors.
        reference: the same on numpy arrays: called with the arguments of the launch.
        writes: the places among the arguments of the arrays that it changes.
    """

    @property
    def name(self) -> str: ...
    @property
    def reference(self) -> Callable[..., object]: ...
    @property
    def writes(self) -> Sequence[int]: ...


class Event(Protocol):
    """A point on a stream of the device with this name."""

    device: str

    def query(self) -> int:
        """DONE when all before it is, NOT_READY, or the code of an error. Never waits."""
        ...

    def synchronize(self) -> None:
        """Wait, without the GIL.

        Raises:
            BackendUnavailable: the device has failed.
        """
        ...


class Stream(Protocol):
    """A queue of work on one device."""

    def record(self) -> Event:
        """The point after all that was put on this stream so far."""
        ...

    def wait(self, event: Event) -> None:
        """What is put on this stream from now on begins after `event`, of any stream of any device."""
        ...


class Device(Protocol):
    """One GPU, and a private pool of its memory. All methods may be called from any thread.

    Attributes:
        index: its number.
        name: for texts, such as "cuda:0".
    """

    index: int
    name: str

    def stream(self, level: int) -> Stream:
        """A new stream of a priority: 1 goes before 0 goes before -1."""
        ...

    def allocate(self, nbytes: int) -> Any:
        """Memory with unknown contents, given back when nothing refers to it any more: keep it until an event says so.

        Raises:
            BackendUnavailable: there is none left.
        """
        ...

    def pinned(self, nbytes: int) -> np.ndarray:
        """A row of bytes of page-locked host memory."""
        ...

    def upload(self, host: np.ndarray, to: Array, stream: Stream) -> None:
        """Copy `to.nbytes` bytes; `host` is pinned, contiguous, and stays as it is until they are copied."""
        ...

    def download(self, array: Array, host: np.ndarray, stream: Stream) -> None:
        """Copy `array.nbytes` bytes; `host` is pinned, contiguous, and not looked at until they are copied."""
        ...

    def copy(self, source: Array, target: Array, stream: Stream) -> None:
        """Copy the bytes of a C-contiguous array, from whatever device, to one on this device."""
        ...

    def clear(self, array: Array, stream: Stream) -> None:
        """Set all bytes of a C-contiguous array to 0."""
        ...

    def launch(
        self, kernel: Kernel, size: int, *arguments: object, stream: Stream, beside: Sequence[tuple[Array, bool]] = ()
    ) -> None:
        """Run a kernel over `size` elements; `arguments` are Arrays on this device, or numbers.

        `beside`: Arrays that it reaches by addresses in the arguments, and whether it changes them.
        """
        ...

    def address(self, array: Array) -> int:
        """Of the first element, for kernels that are given tables of them."""
        ...

    def memory(self) -> tuple[int, int | None]:
        """Bytes handed out by the pool, and the most that it may hold."""
        ...

    def close(self) -> None:
        """Give back what the pool holds."""
        ...


class Machine(Protocol):
    """The devices of one store."""

    @property
    def devices(self) -> Sequence[Device]: ...

    def adopt(self, value: OnDevice) -> tuple[Array, Event]:
        """A caller's array, and the point from which on it may be used: after what its thread has put on streams.

        Raises:
            InvalidArgument: it cannot be reached.
        """
        ...


def has_fired(event: Event) -> bool:
    """Whether all before the event is done.

    Raises:
        BackendUnavailable: the device has failed.
    """
    code = event.query()
    if code == DONE:
        return True
    if code == NOT_READY:
        return False
    raise failed(event.device, code)


def failed(device: str, code: int, text: str = "") -> BackendUnavailable:
    """The error for a code of CUDA's."""
    return BackendUnavailable(
        f"{device} has failed with CUDA error {code}{text and ': '}{text}; what is stored there may be lost, "
        "and CUDA works again only in a new process"
    )
