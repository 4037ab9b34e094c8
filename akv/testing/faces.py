"""One way to call both faces, so that each test is written once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from akv import sync

__all__ = ["ASYNC", "ASYNC_QUEUED", "BLOCKING", "BLOCKING_QUEUED", "Blocking", "Face", "in_thread"]

T = TypeVar("T")


class Face(NamedTuple):
    """How a test reaches the store."""

    blocking: bool
    inline: bool

    def __str__(self) -> str:
        return ("blocking" if self.blocking else "async") + ("" if self.inline else "-queued")


ASYNC, ASYNC_QUEUED = Face(False, True), Face(False, False)
BLOCKING, BLOCKING_QUEUED = Face(True, True), Face(True, False)


class Blocking:
    """A handle of akv.sync whose calls can be awaited.

    A call is carried out when it is made, in the caller's thread. Only what may have to wait for another call (for a
    version) gets a thread of its own, since nothing else could be done meanwhile.
    """

    def __init__(self, store: sync.KVStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if name in ("rank", "num_workers", "type", "is_capable"):
            return found
        return lambda *args, **options: _done(found(*args, **options))

    def pull(self, *args: Any, **options: Any) -> asyncio.Future[Any]:
        if options.get("min_version") is None:
            return _done(self.store.pull(*args, **options))
        return in_thread(lambda: self.store.pull(*args, **options))

    def wait_version(self, *args: Any, **options: Any) -> asyncio.Future[Any]:
        return in_thread(lambda: self.store.wait_version(*args, **options))

    def watch(self, *args: Any, **options: Any) -> BlockingWatch:
        return BlockingWatch(self.store.watch(*args, **options))

    async def aclose(self) -> None:
        self.store.close()


class BlockingWatch:
    """A watch of akv.sync as an async iterator."""

    def __init__(self, watch: sync.Watch) -> None:
        self._watch: Iterator[int] = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watch, name)

    def __aiter__(self) -> BlockingWatch:
        return self

    def __anext__(self) -> asyncio.Future[int]:
        return in_thread(lambda: next(self._watch))


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Have a thread of its own make the call."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            result = call()
        except BaseException as error:
            loop.call_soon_threadsafe(_settle, future, None, error)
        else:
            loop.call_soon_threadsafe(_settle, future, result, None)

    threading.Thread(target=work, name="akv-testing", daemon=True).start()
    return future


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _done(result: T) -> asyncio.Future[T]:
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future
