"""Simulated device memory: who has touched which bytes, and whether that was in any order."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["Access", "Block", "Clock", "Pool", "Race"]

# By stream: how many of its tasks have certainly been done.
Clock = dict[int, int]

_GRAIN = 512


class Race(AssertionError):
    """Two accesses to the same memory that nothing orders."""


class Access(NamedTuple):
    """Some bytes, used by a task: number `sequence` of stream `stream`."""

    stream: int
    sequence: int
    start: int
    stop: int
    writes: bool
    what: str


class Memory:
    """Bytes that outlive those who had them, and all accesses that may still go on."""

    __slots__ = ("data", "history")

    def __init__(self, nbytes: int) -> None:
        self.data = np.empty(nbytes, np.uint8)
        self.history: list[Access] = []

    def check(self, new: Access, clock: Mapping[int, int], known: Mapping[int, int]) -> None:
        """Take in an access by a task that comes after `clock`. Raises Race."""
        self.history = [old for old in self.history if known.get(old.stream, 0) < old.sequence]
        for old in self.history:
            apart = old.stop <= new.start or new.stop <= old.start or old.stream == new.stream
            if not apart and (old.writes or new.writes) and clock.get(old.stream, 0) < old.sequence:
                raise Race(f"{new} is not ordered after {old}")
        self.history.append(new)


class Block:
    """An allocation; its memory goes back to the pool when nothing refers to it any more."""

    __slots__ = ("__weakref__", "_pool", "memory", "nbytes")

    def __init__(self, pool: Pool, memory: Memory, nbytes: int) -> None:
        self._pool, self.memory, self.nbytes = pool, memory, nbytes

    def __del__(self) -> None:
        self._pool.give_back(self.memory)


class Pool:
    """Gives freed memory out again as soon as it can, as CuPy's does."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.used = 0
        # An RLock: a garbage collection may free a block at any point of `take`.
        self._lock = threading.RLock()
        self._free: dict[int, list[Memory]] = {}

    def take(self, nbytes: int) -> Block | None:
        """Memory full of ones, which are NaN and -1; None where the limit forbids it."""
        size = -(-max(nbytes, 1) // _GRAIN) * _GRAIN
        with self._lock:
            if self.limit is not None and self.used + size > self.limit:
                return None
            free = self._free.get(size)
            memory = free.pop() if free else Memory(size)
            self.used += size
        memory.data.fill(0xFF)
        return Block(self, memory, nbytes)

    def give_back(self, memory: Memory) -> None:
        """A block is gone."""
        with self._lock:
            self.used -= len(memory.data)
            self._free.setdefault(len(memory.data), []).append(memory)
