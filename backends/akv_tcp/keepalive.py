"""Heartbeats: each end of a connection sends its own, and ends a connection on which the other has fallen silent."""

from __future__ import annotations

import asyncio

from . import wire as w
from .connection import Connection

__all__ = ["MISSED", "KeepAlive"]

MISSED = 3
"""Heartbeats of silence after which a peer counts as dead."""


class KeepAlive:
    """Beats on an open connection until `stop`.

    Args:
        interval: seconds between two heartbeats.
    """

    def __init__(self, connection: Connection, interval: float) -> None:
        self._connection = connection
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._pings = self._pong = 0
        self._wait(interval)

    def heard(self, heartbeat: w.Heartbeat) -> None:
        """The peer's came; the next of ours says so."""
        self._pong = heartbeat.ping

    def stop(self) -> None:
        """Beat no more."""
        self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._beat)

    def _beat(self) -> None:
        connection, now = self._connection, self._loop.time()
        if not connection.open:
            return
        silence = now - connection.heard if connection.listening else 0.0
        if now - self._due > self._interval / 2:
            # It was this loop that stood still, or the whole process: what the peer sent meanwhile is still unread.
            silence = 0.0
        left = MISSED * self._interval - silence
        if left <= 0:
            connection.abort()
            return
        self._pings += 1
        connection.send(w.Heartbeat(self._pings, self._pong), w.URGENT)
        self._wait(min(self._interval, left))
