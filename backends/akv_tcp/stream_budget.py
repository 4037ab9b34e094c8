"""What all clients together may have under way to save and to load whole stores."""

from __future__ import annotations

from typing import Protocol

from akv.errors import QueueFull

__all__ = ["Stream", "StreamBudget"]

# A cut keeps what is pushed to meanwhile a second time; each of them that of another moment.
_STREAMS = 16


class Stream(Protocol):
    """One client's save or load."""

    def attached(self) -> bool:
        """Whether the client has a connection."""
        ...

    def make_way(self) -> None:
        """Close: the client is away, and another one needs the place."""
        ...


class StreamBudget:
    """Counts streams, and the bytes that are staged. Those of clients that are away make way for others.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self._taken: dict[Stream, int] = {}  # by each stream, the oldest first

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._taken)

    def open(self, stream: Stream) -> None:
        """A stream begins. Raises QueueFull: there are too many."""
        if self.streams >= _STREAMS:
            if not (away := self._away(stream)):
                raise QueueFull(f"{self.streams} saves and loads are under way on this server; try again later")
            away[0].make_way()
        self._taken[stream] = 0

    def take(self, stream: Stream, nbytes: int) -> None:
        """Take memory. Raises QueueFull: there is not that much."""
        away = self._away(stream)
        if self.held + nbytes - sum(self._taken[one] for one in away) > self.total:
            raise QueueFull(
                f"a load needs {nbytes} bytes beside what is stored; all loads on this server together get "
                f"{self.total}, and {self.held} are taken"
            )
        for one in away:
            if self.held + nbytes > self.total:
                one.make_way()
        self.held += nbytes
        self._taken[stream] += nbytes

    def close(self, stream: Stream) -> None:
        """A stream ends; nothing where it is not open."""
        self.held -= self._taken.pop(stream, 0)

    def _away(self, call: Stream) -> list[Stream]:
        return [stream for stream in self._taken if stream is not call and not stream.attached()]
