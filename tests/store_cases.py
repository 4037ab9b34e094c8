"""What the tests of the two faces share: an updater that waits at a gate, counted loop turns, cancelling anywhere."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np

import akv

# Far longer than anything here takes: it only turns a hang into a failure.
PATIENCE = 10.0


_numbers = itertools.count()


def named() -> str:
    """The URL of a store that no other test knows: those with a name live as long as the process."""
    return f"memory://test-{next(_numbers)}"


def ones(value: float = 1.0) -> np.ndarray:
    return np.full(4, value, np.float32)


async def turns(count: int) -> None:
    """Let the event loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop go round until `condition` holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


@contextmanager
def no_collection() -> Iterator[None]:
    """Garbage is not collected here, so that only what is in no cycle is freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Gate:
    """An updater that adds, and keeps a record; at keys that begin with "gate" it waits until that gate is opened."""

    def __init__(self, count: int = 0) -> None:
        self.gates = [f"gate{number}" for number in range(count)]
        self.seen: list[Any] = []  # the keys, in the order in which the updater got to them
        self.arrived: set[Any] = set()
        self._opened: dict[Any, threading.Event] = {}
        self._lock = threading.Lock()

    def __call__(self, key: Any, pushed: Any, stored: np.ndarray) -> None:
        self.seen.append(key)
        if str(key).startswith("gate"):
            self.arrived.add(key)
            assert self._event(key).wait(PATIENCE), f"nobody opened {key}"
        stored += pushed.todense() if isinstance(pushed, akv.RowSparse) else pushed

    def open(self, *keys: Any) -> None:
        for key in keys or self.gates:
            self._event(key).set()

    def _event(self, key: Any) -> threading.Event:
        with self._lock:
            return self._opened.setdefault(key, threading.Event())


@asynccontextmanager
async def jammed(url: str = "memory://", keys: str = "abc", **options: Any) -> AsyncIterator[tuple[akv.KVStore, Gate]]:
    """A store all of whose threads stand at a gate each, so that whatever comes is queued until the gates are opened.

    The letters of `keys` are keys, and "gate" is one; each holds four zeros.
    """
    kv = await akv.connect(url, inline=False, **options)
    gate = Gate(kv.engine.backend.budget.operations)
    names = [*gate.gates, "gate", *keys]
    await kv.init(names, [np.zeros(4, np.float32)] * len(names))
    await kv.set_updater(gate)
    try:
        for key in gate.gates:
            kv.push(key, ones())
        await until(lambda: gate.arrived.issuperset(gate.gates))
        gate.seen.clear()
        yield kv, gate
    finally:
        gate.open(*names)
        await kv.aclose()


class CancelledAt:
    """Awaits a coroutine, and cancels the task around it when that suspends for the n-th time, as Task.cancel does."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], suspension: int) -> None:
        self.coroutine = coroutine
        self.suspension = suspension
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.coroutine.__await__()
        count, error = 0, None
        while True:
            try:
                waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            count += 1
            if count == self.suspension:
                self.reached = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield waits_for
                error = None
            except BaseException as thrown:
                error = thrown


async def cancel_everywhere(
    scenario: Callable[[], Coroutine[Any, Any, Any]], after: Callable[[], Awaitable[None]]
) -> int:
    """Run `scenario` again and again, cancelled at its first, second, ... suspension, `after` each; return how many."""
    for suspension in range(1, 100):
        cancelled = CancelledAt(scenario(), suspension)
        task = asyncio.ensure_future(_awaited(cancelled))
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([task])
        assert task.cancelled() is cancelled.reached
        if not cancelled.reached:
            task.result()
            return suspension - 1
        await after()
    raise AssertionError("it never comes to its end")


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
