"""Memory for tensors: fresh, used again, or handed over."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

import numpy as np

__all__ = ["POOL", "Pool", "can_be_kept", "empty"]

# JAX takes an array over without a copy only from a multiple of 64 bytes; malloc gives 16. A copy of less is no matter.
_ALIGNMENT = 64
_WORTH_IT = 1 << 14


class Pool:
    """Memory that was used before: the kernel takes 9 times as long to hand out 64 MiB as a copy into them does.

    Arrays of 1 MiB and more come back by themselves when nothing refers to them any more, nor to a view of them. Used
    from any thread, without a lock: memory comes back wherever a last reference goes, which may be under that lock.

    Args:
        most: bytes that may lie idle.
    """

    _SMALLEST: Final = 1 << 20

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: deque[np.ndarray] = deque()

    @property
    def nbytes(self) -> int:
        """What lies idle."""
        return sum([memory.nbytes for memory in tuple(self._idle)])

    def take(self, nbytes: int) -> np.ndarray:
        """`nbytes` of uninitialised memory, aligned."""
        if nbytes < self._SMALLEST:
            return _aligned(nbytes)
        # An array made of the owner's interface refers to the owner, and its views to the array.
        return np.asarray(_Owner(self, self._find(nbytes)))

    def _find(self, nbytes: int) -> np.ndarray:
        for _ in range(len(self._idle)):
            try:
                memory = self._idle.popleft()
            except IndexError:  # another thread was faster
                break
            if memory.nbytes == nbytes:
                return memory
            self._idle.append(memory)
        return _aligned(nbytes)

    def give_back(self, memory: np.ndarray) -> None:
        """Nothing refers to this any more; what has lain idle for longest makes room for it."""
        self._idle.append(memory)
        while self.nbytes > self.most:
            try:
                self._idle.popleft()
            except IndexError:
                return

    def clear(self) -> None:
        """Give the memory that lies idle back to the system."""
        self._idle.clear()


class _Owner:
    """Memory in use."""

    def __init__(self, pool: Pool, memory: np.ndarray) -> None:
        self._pool, self._memory = pool, memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._pool.give_back(self._memory)


POOL: Final = Pool(256 << 20)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An uninitialised C-contiguous array, aligned to 64 bytes when it has 16 KiB or more."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _WORTH_IT:
        return np.empty(shape, dtype)
    return POOL.take(nbytes).view(dtype).reshape(shape)


def can_be_kept(value: object) -> bool:
    """Whether a donated value may become the stored one: an array that can later be written to in place."""
    if not isinstance(value, np.ndarray):
        return False
    flags = value.flags
    return flags.c_contiguous and flags.writeable and flags.aligned


def _aligned(nbytes: int) -> np.ndarray:
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + nbytes]
