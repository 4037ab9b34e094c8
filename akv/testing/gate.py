"""Holding a store at a known point, so that what comes after has to queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import numpy as np

import akv
from akv.testing.samples import array
from akv.testing.subject import Subject
from akv.values.keys import Key

__all__ = ["Gate", "held", "many_held"]


class Gate:
    """An updater that assigns, and for some keys waits before.

    Attributes:
        calls: the keys, in the order in which it was called.
    """

    def __init__(self, patience: float) -> None:
        self.calls: list[Key] = []
        self._patience = patience
        self._entered = threading.Semaphore(0)
        self._closed: dict[Key, threading.Event] = {}

    def close(self, key: Key) -> None:
        """From now on the updates of this key wait."""
        self._closed[key] = threading.Event()

    def open(self, key: Key) -> None:
        """They may go on."""
        self._closed[key].set()

    async def entered(self) -> None:
        """Wait until one more update waits."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=self._patience), "the update did not begin"

    def __call__(self, key: Key, pushed: np.ndarray, stored: np.ndarray) -> None:
        self.calls.append(key)
        if (gate := self._closed.get(key)) is not None and not gate.is_set():
            self._entered.release()
            assert gate.wait(self._patience), "nobody opened the gate"
        stored[...] = pushed


@asynccontextmanager
async def held(subject: Subject, kv: akv.KVStore, key: Key = "gate") -> AsyncGenerator[Gate]:
    """While this lasts, a push of `key` by another handle has begun and does not end. For queued faces."""
    async with many_held(subject, kv, [key]) as gate:
        yield gate


@asynccontextmanager
async def many_held(subject: Subject, kv: akv.KVStore, keys: list[Key]) -> AsyncGenerator[Gate]:
    """The same, with a push for each of some keys; `Gate.open` lets one go."""
    gate = Gate(subject.patience)
    await kv.init([key for key in keys if key not in await kv.keys()], [array()] * len(keys))
    await kv.set_updater(gate)
    other = await subject.open_async()
    for key in keys:
        gate.close(key)
    pushes = [other.push(key, array(seed=9)) for key in keys]
    try:
        for _ in keys:
            await gate.entered()
        yield gate
    finally:
        for key in keys:
            gate.open(key)
    await asyncio.gather(*pushes)
