"""A message on its way out: whole frames, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .buffers import Buffer, Growing, cut
from .frames import Frame, slice_lead
from .limits import ALIGN
from .message import Message

__all__ = ["Bulk", "Outgoing"]

_SLICE_HEAD: Final = 40
"""More than the head and header of a DATA frame."""


class Bulk(NamedTuple):
    """The bytes of entry number `entry` that travel in slices: views of the memory in the message's `data`."""

    entry: int
    pieces: tuple[memoryview, ...]
    nbytes: int
    growing: Growing | None = None

    def ready(self, start: int, most: int) -> int:
        """How many bytes from `start` on may go out in one slice."""
        if self.growing is None:
            return min(most, self.nbytes - start)
        nbytes = min(most, self.growing.filled - start)
        return nbytes if start + nbytes == self.nbytes else nbytes // ALIGN * ALIGN

    def cut(self, start: int, stop: int) -> list[memoryview]:
        """The bytes [start, stop)."""
        return [self.pieces[0][start:stop]] if len(self.pieces) == 1 else cut(self.pieces, start, stop)


class Outgoing:
    """What is left to send of one message.

    `request`: 0 for none. `message`: None once it was withdrawn. `frames`: what it starts with; `bulks`: what follows
    in slices; both with the next one last. `holds`: it refers to somebody's memory. `started`: some of it is
    out. `left`: bytes that are not, without the heads of slices.
    """

    __slots__ = ("_offset", "bulks", "frames", "holds", "left", "message", "request", "started")

    def __init__(self, message: Message, request: int, frames: list[Frame], bulks: list[Bulk], holds: bool) -> None:
        self.message: Message | None = message
        self.request = request
        self.frames = frames
        self.bulks = bulks
        self.holds = holds
        self.started = False
        left = 0
        for frame in frames:
            for buffer in frame:
                left += len(buffer)
        for bulk in bulks:
            left += bulk.nbytes
        self.left = left
        self._offset = 0

    def move(self, buffers: list[Buffer], pack: Callable[[object], bytes], most: int, room: int) -> int:
        """Append the next frame, with at most `most` bytes of a tensor, to the buffers.

        Returns its bytes (for a slice a few more); 0 if it needs more than `room`, or is not there yet, and then
        nothing has changed.
        """
        if self.frames:
            return self._move_frame(buffers, room)
        bulk, start = self.bulks[-1], self._offset
        nbytes = bulk.ready(start, most)
        if not nbytes or nbytes + _SLICE_HEAD > room:
            return 0
        self.left -= nbytes
        stop = self._offset = start + nbytes
        if stop == bulk.nbytes:
            self.bulks.pop()
            self._offset = 0
        buffers.append(slice_lead(pack, self.request, bulk.entry, start, nbytes))
        buffers += bulk.cut(start, stop)
        return nbytes + _SLICE_HEAD

    def _move_frame(self, buffers: list[Buffer], room: int) -> int:
        frame = self.frames[-1]
        nbytes = len(frame[0]) if len(frame) == 1 else sum(map(len, frame))
        if nbytes > room:
            return 0
        self.started = True
        self.left -= nbytes
        self.frames.pop()
        buffers += frame
        return nbytes

    def drop(self) -> None:
        """Let go of everything."""
        self.message = None
        self.frames, self.bulks = [], []
