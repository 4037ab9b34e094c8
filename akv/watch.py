"""Following a key: the versions as they come, the newest first when the reader is slow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from akv.values.keys import Key, check_key

if TYPE_CHECKING:
    from akv.loop import Pending
    from akv.store import KVStore

__all__ = ["Watch"]


class Watch:
    """An async iterator of the versions of one key, starting with the current one.

    Attributes:
        skipped: how many versions lay between the last two that were given out: a slow reader gets only the newest.
    """

    def __init__(self, store: KVStore, key: Key) -> None:
        self.skipped = 0
        self._store = store
        self._key = check_key(key)
        self._last = 0
        self._waiting: Pending[int] | None = None
        self._closed = False

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> int:
        """The next version.

        Raises:
            StoreClosed: the handle was closed. AkvTimeout: the store's `timeout` passed without a new version.
        """
        if self._closed:
            raise StopAsyncIteration
        self._waiting = waiting = self._store.wait_version(self._key, self._last + 1)
        try:
            version = await waiting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise StopAsyncIteration from None
            raise
        self.skipped = version - self._last - 1 if self._last else 0
        self._last = version
        return version

    async def aclose(self) -> None:
        """End the iteration, also for a task that waits in it."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()
