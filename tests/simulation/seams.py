"""What akv takes from its surroundings besides the event loop, taken from the seed instead.

Connections and timers come through the loop. The clock, too, but some modules look at the process's: they see the
loop's. Random numbers come from `random` and `secrets`, whose generators are replaced here. Threads are those of a
ThreadPool: `LoopPool` does their work on the loop, some time later.
"""

from __future__ import annotations

import functools
import random
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from akv.backend.thread_pool import ThreadPool
from simulation.loop import SimLoop

__all__ = ["LoopPool", "surroundings"]


@contextmanager
def surroundings(loop: SimLoop, chance: random.Random, slowest: float) -> Iterator[None]:
    """Have akv see the loop's time only, draw its random numbers from the seed, and have no threads."""

    def hire(name: str, size: int | None = None) -> LoopPool:
        return LoopPool(loop, chance, slowest, size)

    state = random.getstate()
    random.seed(chance.random())
    with ExitStack() as stack:
        stack.callback(random.setstate, state)
        stack.enter_context(patch.object(secrets, "token_bytes", lambda nbytes=32: chance.randbytes(nbytes)))
        for module, name in _uses(ThreadPool, time.monotonic, time.perf_counter):
            replacement = hire if name == "ThreadPool" else loop.time
            stack.enter_context(patch.object(module, name, replacement))
        yield


@functools.cache
def _uses(*objects: object) -> list[tuple[Any, str]]:
    """The modules of akv that have imported one of these, and the names by which they know it."""
    modules = [module for name, module in sorted(sys.modules.items()) if re.match(r"akv\b|akv_", name)]
    pairs = [(module, name, value) for module in modules for name, value in vars(module).items()]
    return [(module, name) for module, name, value in pairs if any(value is each for each in objects)]


class LoopPool:
    """See akv.backend.thread_pool.ThreadPool: work takes its time, several pieces of it at once."""

    def __init__(self, loop: SimLoop, chance: random.Random, slowest: float, size: int | None) -> None:
        self.size = size or 4
        self._loop = loop
        self._chance = chance
        self._slowest = slowest
        self._last = 0.0

    def submit(self, work: Callable[[], None], copies: int = 1) -> None:
        for _ in range(copies):
            when = self._loop.time() + self._chance.random() * self._slowest
            if self.size == 1:  # what one thread does is done in order
                when = self._last = max(when, self._last + 1e-9)
            self._loop.call_at(when, work)
