"""The store under test: opening handles, looking behind its back, and what must not be left over."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import akv
from akv import sync
from akv.testing.faces import Blocking, Face
from akv.testing.samples import same
from akv.values.keys import Key

if TYPE_CHECKING:
    from akv.testing.harness import Hooks

__all__ = ["Subject"]


class Subject:
    """One store, the face it is reached through, and the handles that a test has opened on it."""

    def __init__(self, url: str, face: Face, hooks: Hooks) -> None:
        self.url, self.face = url, face
        self.patience = hooks.patience
        self._hooks = hooks
        self._handles: list[akv.KVStore | sync.KVStore] = []
        self._complaints: list[dict[str, Any]] = []

    async def open(self, **options: object) -> akv.KVStore:
        """A new handle, through this test's face."""
        if self.face.blocking:
            return cast("akv.KVStore", Blocking(self.open_blocking(**options)))
        return await self.open_async(**options)

    async def open_async(self, **options: object) -> akv.KVStore:
        """A new handle of the async face."""
        handle = await akv.connect(self.url, inline=self.face.inline, **options)
        self._handles.append(handle)
        return handle

    def open_blocking(self, **options: object) -> sync.KVStore:
        """A new handle of the blocking face."""
        handle = sync.connect(self.url, inline=self.face.inline, **options)
        self._handles.append(handle)
        return handle

    async def close(self) -> None:
        """Close all handles."""
        handles, self._handles = self._handles, []
        for handle in handles:
            if isinstance(handle, sync.KVStore):
                handle.close()
            else:
                await handle.aclose()

    async def settled(self, *pending: asyncio.Future[Any]) -> None:
        """Wait until these are done, whatever became of them.

        Not by asyncio.timeout: that cancels them, and what was cancelled is waited for until it lets go.
        """
        _, lost = await asyncio.wait(pending, timeout=self.patience)
        assert not lost, f"not done after {self.patience} s: {lost}"

    # -- what is stored -----------------------------------------------------------------------------------------

    def peek(self, key: Key) -> np.ndarray:
        """What is stored, read behind the store's back."""
        return self._hooks.peek(self.url, key)

    def poke(self, key: Key, array: np.ndarray) -> None:
        """Change what is stored, behind the store's back; skips the test where that cannot be done."""
        self._hooks.poke(self.url, key, array)

    async def check(self, key: Key, value: np.ndarray, version: int | None = None) -> None:
        """Both ways of looking have to see this value; and this version, if one is given."""
        handle = await self.open()
        same(await handle.pull(key), value)
        same(self.peek(key), value)
        if version is not None:
            assert (await handle.info(key)).version == version
        await handle.aclose()

    # -- before and after a test --------------------------------------------------------------------------------

    async def __aenter__(self) -> Subject:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self._complaints.append(context))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with asyncio.timeout(self.patience):
            await self.close()
        for thread in threading.enumerate():
            if thread.name == "akv-testing":
                thread.join(self.patience)
                assert not thread.is_alive(), "a blocking call still waits although its handle is closed"
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, f"these tasks were left over: {others}"
        assert not self._complaints, f"the event loop had to report {self._complaints}"
