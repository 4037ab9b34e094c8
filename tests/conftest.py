"""For all tests: both event loops, AKV_DEBUG, and nothing left running."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib.util
import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

# How long an example takes says nothing on a machine that others use.
hypothesis.settings.register_profile("akv", deadline=None)
hypothesis.settings.load_profile("akv")
# A pushed array is read-only until its awaitable is done. Set before akv is imported.
os.environ["AKV_DEBUG"] = "1"
# A hundred processes that tests start would each compile akv for themselves: 0.4 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What a shell starts in the background ignores Ctrl-C, and so would what the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test class may say which combinations of its parameters show nothing that the others do not."""
    items[:] = [item for item in items if not is_repetition(item)]


def is_repetition(item: pytest.Item) -> bool:
    repeats = getattr(getattr(item, "cls", None), "repeats", None)
    return repeats is not None and hasattr(item, "callspec") and repeats(item)


@pytest.fixture(scope="module", autouse=True)
def _what_is_there_stays() -> None:
    """And need not be looked at again: a collection takes 0.01 s, and after half of the tests would take 0.4."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    # The threads of a store end by themselves a second after their last work.
    for thread in threading.enumerate():
        if thread.name.startswith("akv"):
            thread.join(10)
            assert not thread.is_alive(), f"{thread} still runs"
