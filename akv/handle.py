"""What a handle of the async face has besides the verbs: its place in the store, its loop, its beginning and end."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Iterable, Mapping
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from akv.backend.protocol import Member, Remote
from akv.backend.registry import Location, release, share
from akv.errors import AkvError, InvalidArgument
from akv.failures import Failures
from akv.loop import Flushing, Pending, Turn
from akv.operations import Flush, Operation

__all__ = ["Handle", "check_capability"]

# Named here because `type` is a property in the class below.
_ErrorClass = type[BaseException]
_PendingClass = type[Pending[Any]]


class Handle:
    """A handle on a store, on the event loop that runs while it is made."""

    def __init__(self, location: Location) -> None:
        self.engine, self._line = share(location)
        self.failures = Failures()
        self._location = location
        self._loop = asyncio.get_running_loop()
        self._turn = Turn.of(self._loop)
        self._remote = self.engine.backend.remote
        self._timeout = location.timeout

    def flush(self) -> Pending[None]:
        """Wait until everything that this handle has scheduled is done.

        Raises:
            the first error that nobody has retrieved from its awaitable, once.
        """
        return self._submit(Flush(), Flushing)

    @property
    def rank(self) -> int:
        """This worker's number, from 0 on."""
        return self.engine.backend.rank

    @property
    def num_workers(self) -> int:
        """How many workers push to this store."""
        return self.engine.backend.num_workers

    @property
    def type(self) -> str:
        """The kind of store, such as "memory"."""
        return self.engine.backend.kind

    def is_capable(self, word: str) -> bool:
        """Whether the store offers a capability.

        They are "optimizer", "rows", "tables", "snapshots", "checkpoint", "compression", "watch" and "collective".

        Raises:
            InvalidArgument: no store has such a capability.
        """
        return check_capability(self.engine.backend.capabilities, word)

    async def aclose(self) -> None:
        """Wait for everything scheduled, then close the handle; raises what `flush` raises. Closing twice is fine."""
        if self._line.closed:
            return
        try:
            await self.flush()
        finally:
            await self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: _ErrorClass | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._line.closed:
            return await self.aclose()
        self.engine.withdraw_all(self._line)
        if isinstance(self.engine.backend, Member):
            self.engine.backend.lose()  # it has not done its part, as the others would think of one that leaves
        try:
            # What has started still uses the caller's arrays.
            await self._submit(Flush())
        except AkvError:
            pass  # a time-out, say; it must not hide the error on its way out
        finally:
            await self._leave()

    def __del__(self) -> None:
        # What lives on a loop goes on beating there; a store in this process needs no good-bye.
        if "_line" in self.__dict__ and not self._line.closed and self.engine.backend.remote:
            text = f"unclosed {self!r}: use `async with`, or await aclose()"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(release, self._location, self.engine, self._line)

    def __repr__(self) -> str:
        return f"<akv.KVStore {self._location.text} rank {self.rank} of {self.num_workers}>"

    # -- how it is done ---------------------------------------------------------------------------------------

    def _submit(self, op: Operation, kind: _PendingClass = Pending) -> Pending[Any]:
        turn, engine = self._turn, self.engine
        op.line = self._line
        if self._remote:
            turn.check_loop()
            late, done = True, engine.queue(op)  # its answers come through the loop anyhow
        else:
            late = perf_counter() >= turn.until and not turn.begin()
            done = engine.attempt(op) or engine.queue(op)
        pending = kind(loop=self._loop)
        pending.op, pending.store = op, self
        if not done:
            self._follow(op, pending)
        elif late or kind is Flushing:
            self._loop.call_soon(pending.settle)
        elif op.error is None:
            pending.set_result(op.result)
        else:
            pending.settle()
        try:
            return pending
        finally:
            # The traceback of an error leads back to this frame, and the awaitable to the error: no cycle of that.
            del pending

    def _follow(self, op: Operation, pending: Pending[Any]) -> None:
        if not self.engine.listen(op, pending):
            self._loop.call_soon(pending.settle)
        elif self._timeout is not None:
            timer = self._loop.call_later(self._timeout, self.engine.expire, op, self._timeout)
            pending.add_done_callback(lambda _: timer.cancel())

    async def _leave(self) -> None:
        self._close()
        if isinstance(self.engine.backend, Remote):
            await self.engine.backend.wait_closed()

    def _close(self) -> None:
        """Close the handle without waiting for anything."""
        release(self._location, self.engine, self._line)
        self.failures.forget()


def check_capability(capabilities: Mapping[str, bool], word: object) -> bool:
    """Look a capability up, as MXNet does in any case.

    Raises:
        InvalidArgument: no store has such a capability.
    """
    known = capabilities.get(word.lower()) if isinstance(word, str) else None
    if known is None:
        raise InvalidArgument(f"unknown capability {word!r}; known are {_listed(capabilities)}")
    return known


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
