"""Whether what is on its way in one direction of a connection moves."""

from __future__ import annotations

__all__ = ["StallDetector"]

# Bytes that have to move at a time: a client that sends or takes them singly would hold its memory for ever.
_STEP = 512 * 1024


class StallDetector:
    """Sets goals, each `_STEP` bytes or all there is, and counts the time since the last one was reached."""

    def __init__(self) -> None:
        self._goal = 0
        self._since = 0.0

    def standstill(self, now: float, moved: int, left: int) -> float:
        """The seconds since the last goal was reached.

        Args:
            now: in seconds.
            moved: bytes since the beginning.
            left: bytes that are still to move; with none, nothing stands still.
        """
        if not left or moved >= self._goal:
            self._goal = moved + min(_STEP, left)
            self._since = now
        return now - self._since
