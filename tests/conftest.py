"""For all tests: both event loops, AKV_DEBUG, and nothing left running."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# A pushed array is read-only until its awaitable is done. Set before akv is imported.
os.environ["AKV_DEBUG"] = "1"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Every async test runs on asyncio and, where there is one, on uvloop."""
    factories: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop"):
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    # A test class may be content with one of them.
    loops = getattr(getattr(item, "cls", None), "loops", tuple(factories))
    return {name: factory for name, factory in factories.items() if name in loops}


# Less than pytest's own time-out, which ends the whole run.
PATIENCE = 75.0


def pytest_itemcollected(item: pytest.Item) -> None:
    """A coroutine that hangs is one failed test: uvloop swallows what a signal handler raises, and would wait on."""
    test = getattr(item, "obj", None)
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(test):
        item.obj = bounded(test)


def bounded(test: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(test)
    async def within_patience(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            await test(*args, **kwargs)

    return within_patience


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    # The threads of a store end by themselves a second after their last work.
    for thread in threading.enumerate():
        if thread.name.startswith("akv"):
            thread.join(10)
            assert not thread.is_alive(), f"{thread} still runs"
