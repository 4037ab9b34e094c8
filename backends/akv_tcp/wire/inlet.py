"""The memory that a transport fills: one small receive buffer, or straight the place where a payload belongs."""

from __future__ import annotations

from typing import Final

import numpy as np

from akv.errors import InvalidArgument

from .limits import BATCH

__all__ = ["RECEIVE", "Inlet"]

RECEIVE: Final = 256 * 1024
"""Bytes of the receive buffer: a tensor that rides in its frame comes in one recv. The system gives its pages when they
are first written to, so a connection on which only small messages come takes a few."""

AMID: Final = 64 * 1024
"""Bytes that are received so while slices come: at most that much of a slice is copied (1.6 us)."""

DIRECT: Final = 32 * 1024
"""A payload lacking less than this comes through the receive buffer, so that the next head arrives in the same recv."""


class Inlet:
    """Bytes in: `buffer[start:stop]` are received and not used yet, `left` bytes of a payload are still to come."""

    __slots__ = ("_direct", "_into", "_offered", "buffer", "left", "start", "stop")

    def __init__(self) -> None:
        self.buffer = np.empty(RECEIVE, np.uint8).data  # a bytearray would write zeros to all of its pages
        self.start = self.stop = self.left = self._offered = 0
        self._into: memoryview | None = None
        self._direct = False

    def offer(self, amid: bool) -> memoryview:
        """Memory, never empty, for the next bytes; `amid`: slices come. Raises InvalidArgument when none is free."""
        self._direct = self._into is not None and self.left >= DIRECT
        if self._into is not None and self._direct:
            offered = self._into[:BATCH]
        elif self.start == self.stop and not amid:  # as it nearly always is
            self.start = self.stop = 0
            offered = self.buffer
        else:
            self._make_room()
            offered = self.buffer[self.stop : self.stop + AMID if amid else RECEIVE]
        self._offered = len(offered)
        return offered

    def filled(self, nbytes: int) -> None:
        """The first `nbytes` of what was offered are there. Raises InvalidArgument if no such number was offered."""
        if not 0 < nbytes <= self._offered:
            raise InvalidArgument(f"the transport reports {nbytes} bytes in a buffer of {self._offered}")
        self._offered = 0
        if self._direct:
            self._placed(nbytes)
        else:
            self.stop += nbytes

    def expect(self, into: memoryview | None, nbytes: int) -> None:
        """A payload of `nbytes` follows; it goes into this memory, or nowhere."""
        self._into = into
        self.left = nbytes

    def place(self) -> bool:
        """Move received bytes to where they belong; True when the payload is complete."""
        nbytes = min(self.left, self.stop - self.start)
        if nbytes:
            if self._into is not None:
                self._into[:nbytes] = self.buffer[self.start : self.start + nbytes]
            self.start += nbytes
            self._placed(nbytes)
        return not self.left

    def let_go(self) -> None:
        """What is missing of the payload goes nowhere."""
        self._into = None

    def clear(self) -> None:
        """Forget everything."""
        self.start = self.stop = self.left = 0
        self._into = None

    def _placed(self, nbytes: int) -> None:
        self.left -= nbytes
        if self._into is not None:
            self._into = self._into[nbytes:] if self.left else None

    def _make_room(self) -> None:
        if self.start == self.stop:
            self.start = self.stop = 0
        elif self.start and self.stop > RECEIVE // 2:
            rest = self.stop - self.start
            self.buffer[:rest] = self.buffer[self.start : self.stop]
            self.start, self.stop = 0, rest
        if self.stop == RECEIVE:
            raise InvalidArgument("the receive buffer is full: take the events first, and pause reading while blocked")
