"""The memory that a transport fills: a receive buffer, or straight the place where a payload belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from akv.errors import InvalidArgument

from .limits import BATCH, INLINE

__all__ = ["RECEIVE", "ReceiveBuffer"]

RECEIVE: Final = 256 * 1024
"""Bytes of the receive buffer: a tensor that rides in its frame comes in one recv. The system gives its pages when they
are first written to, so a connection on which only small messages come takes a few."""

_FEW: Final = 16 * 1024
"""Bytes that are received there at a time after a slice has come, until they do not suffice: what comes of a tensor
with the head before it has to be copied, and 256 KiB of that take as long as a quarter of a push of 1 MiB."""

_DIRECT: Final = 32 * 1024
"""The end of a tensor, if it is shorter, comes through the receive buffer: the next head arrives in the same recv."""

_NOTHING: Final = memoryview(b"")


class ReceiveBuffer:
    """Bytes in: `buffer[start:stop]` are received and not used yet, `left` bytes of a payload are still to come.

    Attributes:
        after: to be called when that payload is in its place; None while none is expected.
    """

    __slots__ = ("_at_first", "_direct", "_into", "_offered", "after", "buffer", "left", "start", "stop")

    def __init__(self) -> None:
        self.buffer = np.empty(RECEIVE, np.uint8).data  # a bytearray would write zeros to all of its pages
        self._at_first = self.buffer
        self._offered = _NOTHING
        self._direct = False
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.start = self.stop = self.left = 0
        self.after: Callable[[], None] | None = None
        self._into: memoryview | None = None

    # -- what the transport does ------------------------------------------------------------------------------

    def offer(self) -> memoryview:
        """Memory, never empty, for the next bytes. Raises InvalidArgument when none is free."""
        into = self._into
        if self.start < self.stop:
            self._direct = False
            self._make_room()
            offered = self.buffer[self.stop : self.stop + len(self._at_first)]
        elif into is not None and (self.left >= _DIRECT or len(into) > self.left):
            self._direct = True
            offered = into[:BATCH]
        else:
            self._direct = False
            self.start = self.stop = 0
            offered = self._at_first
        self._offered = offered
        return offered

    def filled(self, nbytes: int) -> bool:
        """The first `nbytes` of what was offered are there; False: nothing has come of them that is to be handed out.

        Raises InvalidArgument if no such number was offered.
        """
        offered = self._offered
        if not 0 < nbytes <= len(offered):
            raise InvalidArgument(f"the transport reports {nbytes} bytes in a buffer of {len(offered)}")
        self._offered = _NOTHING
        if not self._direct:
            self.stop += nbytes
            if nbytes == len(offered):
                self._at_first = self.buffer
            return True
        left = self.left
        if nbytes < left:
            self._advance(nbytes)
            return False
        self.start, self.stop = 0, nbytes - left
        self.buffer[: self.stop] = offered[left:nbytes]
        self._end()
        return not self.left

    # -- payloads ---------------------------------------------------------------------------------------------

    def expect(self, into: memoryview | None, nbytes: int, after: Callable[[], None]) -> None:
        """A payload of `nbytes` follows; it goes into this memory, or nowhere.

        Where `into` is longer, what comes after the payload may be received there, too, before it is moved away: then
        one recv brings a whole slice and the head of the next, whose place will be overwritten by what it announces.
        """
        self._into, self.left, self.after = into, nbytes, after
        if nbytes >= INLINE:
            self._at_first = self.buffer[:_FEW]

    def place(self) -> bool:
        """Move received bytes to where they belong; True when the payload was complete, and `after` has been called."""
        nbytes = min(self.left, self.stop - self.start)
        if nbytes:
            if self._into is not None:
                self._into[:nbytes] = self.buffer[self.start : self.start + nbytes]
            self.start += nbytes
        if nbytes < self.left:
            self._advance(nbytes)
            return False
        self._end()
        return True

    def let_go(self) -> None:
        """What is missing of the payload goes nowhere."""
        self._into = None

    def _advance(self, nbytes: int) -> None:
        self.left -= nbytes
        if self._into is not None:
            self._into = self._into[nbytes:]

    def _end(self) -> None:
        after, self.after = self.after, None
        self._into, self.left = None, 0
        if after is not None:
            after()

    def _make_room(self) -> None:
        if self.start and self.stop > RECEIVE // 2:
            rest = self.stop - self.start
            self.buffer[:rest] = self.buffer[self.start : self.stop]
            self.start, self.stop = 0, rest
        if self.stop == RECEIVE:
            raise InvalidArgument("the receive buffer is full: take the events first, and pause reading while blocked")
