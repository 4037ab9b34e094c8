"""The client of one server: operations become requests, answers their results, each request answered exactly once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from akv.backend.protocol import Report
from akv.errors import AkvError, StoreClosed
from akv.job import Wishes
from akv.operations import Load, Operation, Save
from akv.scheduler import Budget
from akv.values.keys import Key

from . import wire as w
from .agreed import rules
from .background import BackgroundTasks
from .calls import Calls
from .channel import VERSION, Channel
from .slots import SLOTS

__all__ = ["TcpBackend"]

# Seconds in which a server has to answer that it knows of a client's leaving.
_PARTING = 1.0

Done = Callable[[Operation], None]


class TcpBackend:
    """See akv.backend.protocol.Backend. Lives on the loop that `open` was called on.

    Args:
        address: host and port.
        job: the name of the job on the server.
        options: as the URL's options were settled.
    """

    kind = "tcp"
    remote = True
    inline_nbytes = -1
    calls_out = False

    def __init__(self, address: tuple[str, int], job: str, options: Mapping[str, Any]) -> None:
        self.capabilities = {
            "optimizer": True,
            "rows": True,
            "tables": True,
            "snapshots": True,
            "checkpoint": True,
            "compression": True,
            "watch": True,
            "collective": True,
        }
        # Requests of 256 MiB may be under way; large ones beyond that wait by priority. One slot is for the last word.
        self.budget = Budget(SLOTS - 2, 256 << 20, options["max_queued"], free=64 << 10)
        self.rank = 0
        self.num_workers = 1
        self._address, self._job = address, job
        self._wishes = rules(Wishes.among(options))
        self._role = w.Role[options["role"].upper()]
        self._rank_wish: int | None = options["rank"]
        self._patience: float = options["reconnect"]
        self._timeout: float | None = options["timeout"]
        self._client = secrets.token_bytes(16)
        self._background = BackgroundTasks(self)
        self._arrived: dict[Operation, AkvError | None] = {}

    # -- what the engine asks ---------------------------------------------------------------------------------

    def size(self, op: Operation) -> int:
        """What is known before the server answers."""
        return op.nbytes

    def has_reached(self, op: Operation) -> bool:
        """The server tells; see `look_out`."""
        return op in self._arrived

    def version(self, key: Key) -> int | None:
        """Only the server knows; somebody who waits for the key may have been told."""
        return self._calls.version(key)

    def report(self, moved: Report) -> None:
        """Whom to tell that versions have come."""
        self._moved = moved

    def look_out(self, op: Operation) -> None:
        """Have the server tell when the keys that `op` awaits have its `min_version`; from any thread."""
        self._soon(self._calls.look_out, op)

    def look_away(self, op: Operation) -> None:
        """Nobody waits for that any more; from any thread."""
        self._soon(self._calls.look_away, op)

    def status(self) -> str:
        """The server, and how it is."""
        channel = self._channel
        if channel.connection is None:
            return f"{channel.where} is not connected"
        return f"{channel.where} was last heard {channel.silence:.1f} s ago"

    def run(self, op: Operation) -> None:
        """Only a wait for a version ends here, when that has come: all else is for the server."""
        op.error = self._arrived[op]
        if op.error is None:
            op.result = op.outcome([])

    def start(self, op: Operation, done: Done) -> None:
        """Send a request for `op`; from any thread."""
        if op.fence and isinstance(op, (Save, Load)):
            self._background.begin(op, done, self._loop)
        elif asyncio._get_running_loop() is self._loop:
            self._calls.ask(op, done)
        else:
            self._soon(self._calls.ask, op, done)

    def cancel(self, op: Operation) -> None:
        """Let go of `op`'s memory, and have the server stop; from any thread."""
        self._soon(self._cancel, op)  # not at once: it would end under the engine's lock

    def close(self) -> None:
        """Say good-bye; from any thread."""
        self._on_loop(self._calls.leave)

    def lose(self) -> None:
        """Fall silent, as a killed process would, for the server to notice; from any thread."""
        if self._is_waited_for:
            self._on_loop(self._drop)

    async def open(self) -> None:
        """Connect for the first time.

        Raises:
            BackendUnavailable: nobody answers there. AuthError, ProtocolError, ...: the server refuses.
        """
        self._loop = asyncio.get_running_loop()
        self._calls = Calls(lambda calls: Channel(self._address, self._hello, self._patience, calls), self._arrive)
        self._channel = self._calls.channel
        welcome = await self._channel.open(self._timeout)
        self.rank = -1 if welcome.rank is None else welcome.rank
        self.num_workers = welcome.num_workers
        self._is_waited_for = welcome.settled.workers is not None and welcome.rank is not None

    async def wait_closed(self) -> None:
        """Wait until the connection is closed, for a second at most if the server does not play along."""
        try:
            async with asyncio.timeout(_PARTING):
                await self._channel.wait_closed()
        except TimeoutError:
            self._drop()
            await self._channel.wait_closed()

    def _drop(self) -> None:
        self._calls.lost(StoreClosed("the handle was closed"))
        self._channel.abort()

    def tell(self, message: w.Message) -> None:
        """Send a message that has no answer, if there is a connection; from any thread."""
        self._on_loop(self._calls.say, message)

    def _cancel(self, op: Operation) -> None:
        if not self._calls.cancel(op):
            self._background.cancel(op)

    def _arrive(self, op: Operation, error: AkvError | None) -> None:
        """The versions that `op` waits for are there, or will not come."""
        self._arrived[op] = error
        self._moved(op.awaited)
        del self._arrived[op]

    def _hello(self, resume: bool) -> w.Hello:
        return w.Hello(
            (VERSION,), self._client, self._job, self._role, self._rank_wish, resume=resume, wishes=self._wishes
        )

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        if asyncio._get_running_loop() is self._loop:
            call(*arguments)
            return
        self._soon(call, *arguments)

    def _soon(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return  # the loop is closed, and everything with it
