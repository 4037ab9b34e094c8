"""Timing on a noisy machine: contenders take turns, and the best turn of each counts."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import NamedTuple

from akv.optim import blocks, compiled

__all__ = ["Row", "best", "engines", "ratio", "turns"]

Step = Callable[[], Awaitable[object]]


class Row(NamedTuple):
    """A line of the table: what was measured, the number with its unit, the goal ("" for a report), and what it is."""

    name: str
    number: str
    goal: str = ""
    detail: str = ""


def best(step: Callable[[], object], repeats: int) -> float:
    """The shortest of some runs, in seconds."""
    return min(_timed(step) for _ in range(repeats))


async def turns(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Run the steps in turn, some times; return the shortest run of each, in seconds."""
    shortest = dict.fromkeys(steps, float("inf"))
    for _ in range(repeats):
        for name, step in steps.items():
            start = perf_counter()
            await step()
            shortest[name] = min(shortest[name], perf_counter() - start)
    return shortest


def engines() -> Iterator[str]:
    """Has akv calculate with numpy alone, then with numba, for what the caller does between."""
    before = os.environ.get("AKV_NUMBA")
    names = ("numpy", "numba") if importlib.util.find_spec("numba") else ("numpy",)
    try:
        for name in names:
            _switch("1" if name == "numba" else "0")
            yield name
    finally:
        _switch(before)


def _switch(value: str | None) -> None:
    os.environ.pop("AKV_NUMBA", None) if value is None else os.environ.update(AKV_NUMBA=value)
    for known in (compiled.compiled, compiled.numba_module, blocks.fastest):
        known.cache_clear()


def ratio(name: str, ours: float, peer: float, goal: float, what: str) -> Row:
    """A row that compares: `what` says what the peer is."""
    return Row(name, f"{ours / peer:.2f} x", f"<= {goal} x", f"{_human(ours)} against {_human(peer)} for {what}")


def _timed(step: Callable[[], object]) -> float:
    start = perf_counter()
    step()
    return perf_counter() - start


def _human(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.2f} us"
