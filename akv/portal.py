"""An event loop in a thread of its own, for the blocking face of stores that need one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from akv.errors import WrongLoop
from akv.loop import run

__all__ = ["Portal"]

T = TypeVar("T")


class Portal:
    """One owned thread that runs one loop, from the construction to `close`."""

    def __init__(self, name: str) -> None:
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name=name, daemon=True)
        self._thread.start()
        self._loop = ready.result()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for it. Raises what it raises, and what `check` does."""
        try:
            self.check()
        except WrongLoop:
            main.close()
            raise
        future = asyncio.run_coroutine_threadsafe(main, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def check(self) -> None:
        """Refuse to wait in the portal's own thread: what is waited for could never happen.

        Raises:
            WrongLoop: this is that thread.
        """
        if threading.current_thread() is self._thread:
            raise WrongLoop(
                "a blocking call on the event loop that carries it out would wait for ever; "
                "use akv.connect in coroutines, and call akv.sync from another thread"
            )

    def close(self) -> None:
        """Stop the loop, cancel what still runs on it, and wait for the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def close_after(self, main: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine, then stop the loop, without waiting for anything: for a finalizer, which runs anywhere."""
        asyncio.run_coroutine_threadsafe(main, self._loop).add_done_callback(lambda _: self._stop.set())

    def _serve(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        try:
            run(self._wait(ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _wait(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        self._stop = asyncio.Event()
        ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
