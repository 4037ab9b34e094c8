"""The good-bye of a client that has asked to be let in, and will not come: its place is for others."""

from __future__ import annotations

import asyncio
import contextlib

from . import wire as w
from .connection import Connection

__all__ = ["Farewell"]

# Seconds that it may take: the server may be the reason why the client will not come.
_MOST = 1.0


class Farewell:
    """Made when the Hello is out; the owner of the connection hands on what happens from then on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._over = asyncio.get_running_loop().create_future()

    async def say(self) -> None:
        """Have the server forget the client: now, or as soon as it says that it has let it in."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MOST):
                if self._connection.open:
                    self._connection.send(w.Bye(1))
                await self._over

    def received(self, event: w.Event) -> None:
        """Answer a Welcome; all else, but for heartbeats, says that the server has no place for the client."""
        if isinstance(event, w.Welcome):
            self._connection.send(w.Bye(1))
        elif not isinstance(event, w.Heartbeat):
            self.lost()

    def lost(self) -> None:
        """Nothing will come any more."""
        if not self._over.done():
            self._over.set_result(None)
