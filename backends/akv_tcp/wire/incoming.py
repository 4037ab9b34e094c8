"""A message that is arriving: what is still due of it, and whether what comes is what was announced."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from akv.errors import InvalidArgument

from .buffers import Buffer, Payload, byte_view
from .entries import Entry
from .limits import ALIGN, INLINE
from .message import Message
from .row import Row

__all__ = ["Incoming", "ridden"]


_NOTHING: Final = memoryview(b"")
_kind = attrgetter("kind")


def ridden(entries: tuple[Entry, ...], view: memoryview) -> tuple[list[Payload], list[int]]:
    """The bytes of each entry in the payload of its frame, and which entries have theirs still to come, in slices.

    Raises ValueError if more or fewer bytes ride than the entries announce.
    """
    if not (len(view) or any(map(_kind, entries))):
        return [None] * len(entries), []
    data: list[Payload] = []
    later: list[int] = []
    start = 0
    for entry in entries:
        nbytes = entry.nbytes
        if nbytes >= INLINE:
            later.append(len(data))
            data.append(None)
        else:
            data.append(view[start : start + nbytes] if entry.kind else None)
            start += nbytes
    if start != len(view):
        raise ValueError(f"{len(view)} bytes ride where the entries announce {start}")
    return data, later


class Incoming:
    """A message of which not everything is here. Its methods raise ValueError for what was not announced.

    `message` exists once all entries are here, and its `data` fills up. `charge`: bytes reserved for it. `refused`:
    the application does not want it, and what still comes is counted and dropped.
    """

    __slots__ = (
        "_bulks",
        "_data",
        "_due",
        "_entries",
        "_fields",
        "_memory",
        "_missing",
        "_offset",
        "_unclaimed",
        "charge",
        "message",
        "refused",
        "request",
        "row",
    )

    def __init__(self, row: Row, request: int, fields: tuple[object, ...], count: int, total: int, charge: int) -> None:
        self.row = row
        self.request = request
        self.charge = charge
        self.message: Message | None = None
        self.refused = False
        self._fields = fields
        self._entries: list[Entry] = []
        self._data: list[Payload] = []
        self._bulks: list[int] = []
        self._missing = count
        self._unclaimed = self._due = total
        self._offset = 0
        self._memory = _NOTHING

    @property
    def done(self) -> bool:
        """Everything announced has arrived."""
        return not self._missing and not self._due

    def refuse(self) -> None:
        """Let go of the memory, and drop what still comes."""
        self.refused = True
        self.message = None
        self._data, self._entries, self._memory = [], [], _NOTHING

    def claim(self, entries: tuple[Entry, ...], payload: int) -> None:
        """More entries came; `payload` bytes ride with them, for which no memory was allocated yet."""
        self._missing -= len(entries)
        self._unclaimed -= sum([entry.nbytes for entry in entries])
        if not entries or self._missing < 0 or self._unclaimed < 0 or (not self._missing and self._unclaimed):
            raise ValueError("the entries are not as many, or do not bring as many bytes, as were announced")
        riding = sum([entry.nbytes for entry in entries if entry.nbytes < INLINE])
        if riding != payload:
            raise ValueError(f"{payload} bytes ride where the entries announce {riding}")

    def add(self, entries: tuple[Entry, ...], memory: bytearray, payload: int) -> None:
        """The bytes that ride with these entries are here: in `memory`, unless the message is refused."""
        self._due -= payload
        if self.refused:
            return
        first = len(self._entries)
        data, later = ridden(entries, memoryview(memory).toreadonly())
        self._entries += entries
        self._data += data
        self._bulks += [first + index for index in later]
        if not self._missing:
            self._bulks.reverse()
            self.message = self.row.make(self.request, *self._fields, tuple(self._entries), self._data)

    def begin_slice(self, position: tuple[object, ...], size: int) -> None:
        """A slice is about to come: [entry index, offset]. In a refused message only its size is looked at."""
        if self._missing:
            raise ValueError(f"a slice came while {self._missing} entries were missing")
        if size < 1 or size > self._due:
            raise ValueError(f"a slice of {size} bytes where {self._due} were due")
        if self.refused:
            return
        index, stop = self._bulks[-1], self._offset + size
        # 0 == False and 1 == 1.0, so the types count, too.
        if position != (index, self._offset) or set(map(type, position)) != {int}:
            raise ValueError(f"a slice of another place came where entry {index} at {self._offset} was due")
        nbytes = self._entries[index].nbytes
        if stop > nbytes or (stop % ALIGN and stop != nbytes):
            raise ValueError(f"a slice ends at {stop}, neither a multiple of {ALIGN} nor the end at {nbytes}")

    def wanted(self) -> tuple[Message, int, int] | None:
        """What to ask `landing` for, now that a slice begins: message, entry index, bytes; None: nothing."""
        if self._offset or self.message is None:
            return None
        index = self._bulks[-1]
        return self.message, index, self._entries[index].nbytes

    def land(self, memory: Buffer) -> None:
        """The application supplied memory for the entry that begins. Raises InvalidArgument where it does not fit."""
        view, index = byte_view(memory), self._bulks[-1]
        nbytes = self._entries[index].nbytes
        if view.readonly or len(view) != nbytes:
            raise InvalidArgument(
                f"landing gave {len(view)} bytes, read-only: {view.readonly};"
                f" entry {index} of request {self.request} takes {nbytes} bytes that can be written"
            )
        self._memory = self._data[index] = view

    def window(self, size: int) -> memoryview:
        """Where the slice goes that begins."""
        return self._memory[self._offset : self._offset + size]

    def end_slice(self, size: int) -> tuple[Message, int, int, int] | None:
        """A slice is here: message, entry index, start and stop of the bytes; None where it was dropped."""
        self._due -= size
        if self.message is None:
            return None
        index, start = self._bulks[-1], self._offset
        self._offset += size
        if self._offset == self._entries[index].nbytes:
            self._bulks.pop()
            self._offset, self._memory = 0, _NOTHING
        return self.message, index, start, start + size
