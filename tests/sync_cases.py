"""What the tests of the blocking face share: calls in threads, and a store whose threads are all busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
from store_cases import PATIENCE, Gate, ones

from akv import sync

BIG = 1 << 20  # float32: 4 MiB, twice what is done in the caller


def begin(call: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
    """Call in a thread; `result(PATIENCE)` of the answer waits for it."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    last = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.001)


def parked(kv: sync.KVStore) -> int:
    return len(kv._engine._waits.parked)


def waits(kv: sync.KVStore, key: str) -> bool:
    """Whether a thread waits for an operation of this handle on `key`."""
    ops = [*kv._line.open, *kv._line.held, *kv._engine._waits.parked]
    return any(op.listener is not None and key in op.awaited for op in ops)


def queued(kv: sync.KVStore) -> int:
    return kv._engine._scheduler.queued


@contextmanager
def jammed(url: str = "memory://", **options: Any) -> Iterator[tuple[sync.KVStore, Gate]]:
    """A store with the keys "gate", "a", "b", "c", all of whose threads stand at a gate each until those are opened."""
    kv = sync.connect(url, inline=False, **options)
    gate = Gate(kv._engine.backend.budget.operations)
    names = [*gate.gates, "gate", *"abc"]
    kv.init(names, [np.zeros(4, np.float32)] * len(names))
    kv.set_updater(gate)
    try:
        for key in gate.gates:
            begin(kv.push, key, ones())
        until(lambda: gate.arrived.issuperset(gate.gates))
        yield kv, gate
        gate.open()
        kv.flush(timeout=PATIENCE)
    finally:
        gate.open(*names)
        kv.close()
