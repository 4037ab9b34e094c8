"""A real device, through CuPy, which is handed in.

CuPy's current device and stream belong to a thread, so each method sets them, and none is a coroutine.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from akv.errors import BackendUnavailable
from akv_cupy.device import Array, Event, Kernel, Stream, failed

__all__ = ["CudaDevice", "CudaEvent", "CudaStream"]

# CUDA clamps what is beyond the card's range, so this is the most urgent that there is. All else has the priority that
# streams have by default: a store must not hold up its user's own kernels.
_URGENT, _NORMAL = -5, 0


@contextmanager
def _errors(cupy: Any, device: str) -> Generator[None]:
    """Turn what CUDA and CuPy raise into BackendUnavailable."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise BackendUnavailable(f"{device}: {error}; free some of it, or raise memory_limit in the URL") from error
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise failed(device, error.status, str(error)) from error
    except (cupy.cuda.driver.CUDADriverError, cupy.cuda.compiler.CompileException) as error:
        raise BackendUnavailable(f"{device}: a kernel cannot be run: {error}") from error


class CudaEvent:
    """See akv_cupy.device.Event."""

    __slots__ = ("_cupy", "device", "raw")

    def __init__(self, cupy: Any, device: str, raw: Any) -> None:
        self._cupy, self.device, self.raw = cupy, device, raw

    def query(self) -> int:
        # Not Event.done, which takes an error for "not yet", and so would be asked for ever.
        code: int = self._cupy.cuda.runtime.eventQuery(self.raw.ptr)
        return code

    def synchronize(self) -> None:
        with _errors(self._cupy, self.device):
            self.raw.synchronize()


class CudaStream:
    """See akv_cupy.device.Stream."""

    __slots__ = ("_cupy", "_device", "raw")

    def __init__(self, device: CudaDevice, raw: Any) -> None:
        self._device, self._cupy, self.raw = device, device.cupy, raw

    def record(self) -> CudaEvent:
        device = self._device
        with _errors(self._cupy, device.name), device.raw:
            event = device.new_event()
            event.record(self.raw)
        return CudaEvent(self._cupy, device.name, event)

    def wait(self, event: Event) -> None:
        assert isinstance(event, CudaEvent)
        with _errors(self._cupy, self._device.name):
            self.raw.wait_event(event.raw)


class CudaDevice:
    """See akv_cupy.device.Device."""

    def __init__(self, cupy: Any, index: int, limit: int | None) -> None:
        self.cupy, self.index, self.name = cupy, index, f"cuda:{index}"
        self._kernels: dict[Kernel, Any] = {}
        with _errors(cupy, self.name), self.raw:
            # Private, so that neither the limit nor what it holds back concerns others in this process.
            self._pool = cupy.cuda.MemoryPool()
            self._pinned = cupy.cuda.PinnedMemoryPool()
            if limit is not None:
                self._pool.set_limit(size=limit)
            # CuPy's pool keeps freed memory for the stream it was taken on. One for all, since what is given back here
            # has no work on any stream any more.
            self._owner = cupy.cuda.Stream(non_blocking=True)
        self._limit = limit

    @property
    def raw(self) -> Any:
        """CuPy's device, to be entered; one for each use, since it remembers where it was entered from."""
        return self.cupy.cuda.Device(self.index)

    def new_event(self) -> Any:
        """An event that is waited for without spinning; with this device current."""
        return self.cupy.cuda.Event(block=True, disable_timing=True)

    def stream(self, level: int) -> CudaStream:
        with _errors(self.cupy, self.name), self.raw:
            priority = _URGENT if level > 0 else _NORMAL
            return CudaStream(self, self.cupy.cuda.Stream(non_blocking=True, priority=priority))

    def allocate(self, nbytes: int) -> Any:
        with _errors(self.cupy, self.name), self.raw, self._owner:
            return self._pool.malloc(max(nbytes, 1))

    def pinned(self, nbytes: int) -> np.ndarray:
        with _errors(self.cupy, self.name), self.raw:
            return np.frombuffer(self._pinned.malloc(nbytes), np.uint8, nbytes)

    def upload(self, host: np.ndarray, to: Array, stream: Stream) -> None:
        self._copy(address(to), host.ctypes.data, to.nbytes, stream)

    def download(self, array: Array, host: np.ndarray, stream: Stream) -> None:
        self._copy(host.ctypes.data, address(array), array.nbytes, stream)

    def copy(self, source: Array, target: Array, stream: Stream) -> None:
        if source.device.index == self.index:
            self._copy(address(target), address(source), target.nbytes, stream)
            return
        with _errors(self.cupy, self.name), self.raw:
            # From card to card where the two can, else the driver goes by the host.
            self.cupy.cuda.runtime.memcpyPeerAsync(
                address(target), self.index, address(source), source.device.index, target.nbytes, _raw(stream).ptr
            )

    def _copy(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        runtime = self.cupy.cuda.runtime
        with _errors(self.cupy, self.name), self.raw:
            runtime.memcpyAsync(target, source, nbytes, runtime.memcpyDefault, _raw(stream).ptr)

    def address(self, array: Array) -> int:
        return address(array)

    def clear(self, array: Array, stream: Stream) -> None:
        with _errors(self.cupy, self.name), self.raw:
            self.cupy.cuda.runtime.memsetAsync(address(array), 0, array.nbytes, _raw(stream).ptr)

    def launch(
        self, kernel: Kernel, size: int, *arguments: object, stream: Stream, beside: Sequence[tuple[Array, bool]] = ()
    ) -> None:
        source: Any = getattr(kernel, "source", None)
        with _errors(self.cupy, self.name), self.raw, _raw(stream):
            if source is None:
                with self.cupy.cuda.using_allocator(self._pool.malloc):
                    kernel.reference(*[self._array(each) if isinstance(each, Array) else each for each in arguments])
                return
            self._launch(kernel, size, arguments)

    def _launch(self, kernel: Any, size: int, arguments: Sequence[object]) -> None:
        compiled = self._kernels.get(kernel)
        if compiled is None:
            compiled = self._kernels[kernel] = self.compiled(kernel)
        blocks, threads = kernel.grid(size)
        passed = [_argument(*pair) for pair in zip(kernel.params, arguments, strict=True)]
        compiled((blocks,), (threads,), (np.int64(size), *passed))

    def compiled(self, kernel: Any) -> Any:
        """What is called with grid, block and arguments; NVRTC compiles it at the first call on each device."""
        return self.cupy.RawKernel(kernel.source, kernel.name, options=kernel.options)

    def _array(self, array: Array) -> Any:
        return self.cupy.ndarray(array.shape, array.dtype, array.memory + array.offset, strides=array.strides)

    def memory(self) -> tuple[int, int | None]:
        with _errors(self.cupy, self.name), self.raw:
            return self._pool.used_bytes(), self._limit

    def close(self) -> None:
        with _errors(self.cupy, self.name), self.raw:
            self._pool.free_all_blocks()
            self._pinned.free_all_blocks()


def address(array: Array) -> int:
    """Of its first element."""
    found: int = array.memory.ptr + array.offset
    return found


def _raw(stream: Stream) -> Any:
    assert isinstance(stream, CudaStream)
    return stream.raw


def _argument(param: Any, value: object) -> object:
    return address(value) if isinstance(value, Array) else param.dtype.type(value)
