"""As much of CuPy as akv_cupy.cuda uses, on host memory and done at once, with kernels compiled by gcc.

It shows that the calls fit together and the addresses are right; nothing of streams, which the simulated devices show.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
from cupy_c import Compiled

from akv_cupy.kernels import Kernel

__all__ = ["Fake", "compiled"]


class _Context(threading.local):
    device = 0
    stream: Any = None


class Fake:
    """The module. `log` has what was called, with the device and stream that were current."""

    __version__ = "14.2.0"

    def __init__(self, count: int = 2) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.context = _Context()
        self.codes: list[int] = []
        self.ndarray = _array_class(self)
        self.cuda = types.SimpleNamespace(
            Device=lambda index: _Device(self, index),
            Stream=lambda **options: _Stream(self, **options),
            Event=lambda **options: _Event(self, **options),
            MemoryPool=lambda: _Pool(self),
            PinnedMemoryPool=lambda: types.SimpleNamespace(malloc=bytearray, free_all_blocks=lambda: None),
            MemoryPointer=_Pointer,
            UnownedMemory=_Unowned,
            using_allocator=lambda allocator: _Nothing(),
            get_current_stream=lambda: self.context.stream or _Stream(self),
            memory=types.SimpleNamespace(OutOfMemoryError=_OutOfMemory),
            driver=types.SimpleNamespace(CUDADriverError=_DriverError),
            compiler=types.SimpleNamespace(CompileException=_CompileError),
            runtime=types.SimpleNamespace(
                CUDARuntimeError=_RuntimeError,
                memcpyDefault=4,
                memcpyAsync=self._memcpy,
                memcpyPeerAsync=self._memcpy_peer,
                memsetAsync=lambda pointer, value, nbytes, stream: ctypes.memset(pointer, value, nbytes),
                eventQuery=lambda pointer: self.codes.pop() if self.codes else 0,
                eventRecord=lambda event, stream: self.log.append(("eventRecord", stream)),
                pointerGetAttributes=lambda pointer: types.SimpleNamespace(device=0),
            ),
        )

    def from_dlpack(self, owner: Any) -> Any:
        """A view of what an owner shows, on this thread's stream."""
        self.log.append(("from_dlpack", self.context.device, self.context.stream))
        shown = owner.shown
        return self.ndarray(shown.shape, shown.dtype, _Pointer(_Unowned(shown.ctypes.data, shown.nbytes, shown), 0))

    def _memcpy(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        self.log.append(("memcpy", self.context.device, stream))
        ctypes.memmove(target, source, nbytes)

    def _memcpy_peer(self, target: int, to: int, source: int, of: int, nbytes: int, stream: int) -> None:
        self.log.append(("peer", of, to, stream))
        ctypes.memmove(target, source, nbytes)


class _RuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError {status}")
        self.status = status


class _OutOfMemory(MemoryError):
    pass


class _DriverError(RuntimeError):
    pass


class _CompileError(Exception):
    pass


class _Nothing:
    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing."""


class _Device:
    def __init__(self, fake: Fake, index: int) -> None:
        self._fake, self.id = fake, index
        self._before: list[int] = []

    def __enter__(self) -> None:
        self._before.append(self._fake.context.device)
        self._fake.context.device = self.id

    def __exit__(self, *_: object) -> None:
        self._fake.context.device = self._before.pop()


class _Stream:
    _numbers = itertools.count(100)

    def __init__(self, fake: Fake, non_blocking: bool = False, priority: int = 0) -> None:
        self._fake, self.ptr = fake, next(self._numbers)
        self.priority, self.device = priority, fake.context.device

    def __enter__(self) -> None:
        self._fake.context.stream = self

    def __exit__(self, *_: object) -> None:
        self._fake.context.stream = None

    def wait_event(self, event: _Event) -> None:
        self._fake.log.append(("wait", self.ptr, event.ptr))


class _Event:
    _numbers = itertools.count(1000)

    def __init__(self, fake: Fake, block: bool, disable_timing: bool) -> None:
        assert block
        assert disable_timing
        self._fake, self.ptr, self._device = fake, next(self._numbers), fake.context.device

    def record(self, stream: _Stream) -> None:
        assert stream.device == self._device == self._fake.context.device, "CUDA refuses an event of another device"
        self._fake.log.append(("record", stream.ptr, self.ptr))

    def synchronize(self) -> None:
        if self._fake.codes and self._fake.codes[-1] not in (0, 600):
            raise _RuntimeError(self._fake.codes.pop())


class _Unowned:
    def __init__(self, pointer: int, size: int, owner: object, device_id: int = -1) -> None:
        self.ptr, self.owner = pointer, owner


class _Pointer:
    def __init__(self, memory: _Unowned, offset: int) -> None:
        self.mem, self.ptr = memory, memory.ptr + offset

    def __add__(self, offset: int) -> _Pointer:
        return _Pointer(_Unowned(self.ptr, 0, self), offset)


class _Pool:
    def __init__(self, fake: Fake) -> None:
        self._fake, self.used, self.limit = fake, 0, None

    def set_limit(self, size: int) -> None:
        self.limit = size

    def malloc(self, nbytes: int) -> _Pointer:
        if self.limit is not None and self.used + nbytes > self.limit:
            raise _OutOfMemory(f"out of memory allocating {nbytes} bytes")
        self.used += nbytes
        data = np.full(nbytes, 0xFF, np.uint8)
        return _Pointer(_Unowned(data.ctypes.data, nbytes, data), 0)

    def used_bytes(self) -> int:
        return self.used

    def free_all_blocks(self) -> None:
        self.used = 0


def _array_class(fake: Fake) -> Any:
    class NDArray(np.ndarray):
        def __new__(cls, shape: Any, dtype: Any, memory: _Pointer, strides: Any = None) -> Any:
            nbytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
            if strides is not None:
                nbytes = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + np.dtype(dtype).itemsize
            buffer = (ctypes.c_char * nbytes).from_address(memory.ptr)
            array = np.ndarray.__new__(cls, shape, dtype, buffer, strides=strides)
            array.pointer, array.index = memory, fake.context.device  # type: ignore[attr-defined]
            return array

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        @property
        def device(self) -> Any:
            return types.SimpleNamespace(id=self.index)  # type: ignore[attr-defined]

        @property
        def data(self) -> Any:  # type: ignore[override]
            return self.pointer  # type: ignore[attr-defined]

    return NDArray


def compiled(folder: Path) -> Any:
    """In the place of CudaDevice.compiled: kernels that gcc has compiled."""

    def make(device: Any, kernel: Kernel) -> Any:
        place = folder / kernel.name
        place.mkdir()
        made = Compiled([kernel], place)._library
        function = getattr(made, f"run_{kernel.name}")

        def run(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            fake = device.cupy
            assert fake.context.device == device.index
            assert fake.context.stream is not None
            fake.log.append(("launch", kernel.name, fake.context.stream.ptr))
            function(ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), *map(_passed, arguments))

        return run

    return make


def _passed(value: Any) -> Any:
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_longlong(int(value))
