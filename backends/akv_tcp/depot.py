"""What all clients together may have under way to save and to load whole stores."""

from __future__ import annotations

from akv.errors import QueueFull

__all__ = ["Depot"]

# A cut keeps what is pushed to meanwhile a second time; each of them that of another moment.
_STREAMS = 16


class Depot:
    """Counts streams, and the bytes that are staged.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = self.streams = 0

    def open(self) -> None:
        """A stream begins. Raises QueueFull: there are too many."""
        if self.streams >= _STREAMS:
            raise QueueFull(f"{self.streams} saves and loads are under way on this server; try again later")
        self.streams += 1

    def take(self, nbytes: int) -> None:
        """Take memory. Raises QueueFull: there is not that much."""
        if self.held + nbytes > self.total:
            raise QueueFull(
                f"a load needs {nbytes} bytes beside what is stored; all loads on this server together get "
                f"{self.total}, and {self.held} are taken"
            )
        self.held += nbytes

    def close(self, nbytes: int) -> None:
        """A stream ends, for which so many bytes were taken."""
        self.streams -= 1
        self.held -= nbytes
