"""A message that is arriving: what is still due of it, and whether what comes is what was announced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from akv.errors import InvalidArgument

from .buffers import Buffer, Payload, byte_view
from .frames import slice_lead
from .limits import ALIGN, SLICE
from .listing import Listing
from .message import Message
from .riding import Gathered
from .row import Row
from .versions import Entries

__all__ = ["Incoming"]

_NOTHING: Final = memoryview(b"")


class Incoming:
    """A message of which not everything is here. Its methods raise ValueError for what was not announced.

    `message` exists once all entries are here, and its `data` fills up. `charge`: bytes reserved for it. `refused`:
    the application does not want it, and what still comes is counted and dropped. `lead`: what the frame of the next
    slice begins with if the sender goes on as it has begun, with `size` bytes in it; empty where none is due.
    """

    __slots__ = (
        "_bulks",
        "_data",
        "_due",
        "_entries",
        "_fields",
        "_gathered",
        "_memory",
        "_missing",
        "_offset",
        "_unclaimed",
        "_usual",
        "charge",
        "lead",
        "message",
        "refused",
        "request",
        "row",
        "size",
    )

    def __init__(self, row: Row, request: int, fields: tuple[object, ...], count: int, total: int, charge: int) -> None:
        self.row = row
        self.request = request
        self.charge = charge
        self.message: Message | None = None
        self.refused = False
        self._fields = fields
        self._entries: Entries = Listing()
        self._gathered = Gathered()
        self._data: list[Payload] = []
        self._bulks: list[int] = []
        self._missing = count
        self._unclaimed = self._due = total
        self._offset = 0
        self._memory = _NOTHING
        self._usual = SLICE
        self.lead, self.size = b"", 0

    @property
    def done(self) -> bool:
        """Everything announced has arrived."""
        return not self._missing and not self._due

    def refuse(self) -> None:
        """Let go of the memory, and drop what still comes."""
        self.refused = True
        self.message = None
        self._data, self._gathered, self._memory, self.lead = [], Gathered(), _NOTHING, b""

    def claim(self, entries: Entries, payload: int) -> None:
        """More entries came; `payload` bytes ride with them, for which no memory was allocated yet."""
        self._missing -= len(entries)
        self._unclaimed -= entries.nbytes
        if not entries or self._missing < 0 or self._unclaimed < 0 or (not self._missing and self._unclaimed):
            raise ValueError("the entries are not as many, or do not bring as many bytes, as were announced")
        if entries.riding != payload:
            raise ValueError(f"{payload} bytes ride where the entries announce {entries.riding}")

    def add(self, entries: Entries, memory: bytearray, payload: int) -> None:
        """The bytes that ride with these entries are here: in `memory`, unless the message is refused."""
        self._due -= payload
        if self.refused:
            return
        self._bulks += self._gathered.add(entries, memoryview(memory).toreadonly())
        if not self._missing:
            self._bulks.reverse()
            self._complete()

    def _complete(self) -> None:
        """All entries are here."""
        self._entries, data = self._gathered.together()
        self._gathered = Gathered()
        if isinstance(data, list):
            self._data = data  # whatever is still to come goes there
        self.message = self.row.make(self.request, *self._fields, self._entries, data)

    def check_slice(self, position: tuple[object, ...], size: int) -> None:
        """Check that a slice may come: [entry index, offset]. In a refused message only its size is looked at."""
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
        if stop < nbytes:
            self._usual = size

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

    def window(self, size: int, pack: Callable[[object], bytes]) -> memoryview:
        """Where the slice goes that begins, and as much more of its tensor as the `lead` of the next is long."""
        start, memory = self._offset, self._memory
        self._offset += size
        if self._offset == len(memory):
            self._bulks.pop()
            self._offset, self._memory = 0, _NOTHING
        self.look_ahead(pack)
        return memory[start : start + size + len(self.lead)]

    def look_ahead(self, pack: Callable[[object], bytes]) -> None:
        """Work out `lead`, of which all is right that `check_slice` would look at. All entries must be here."""
        self.lead = b""
        if self._bulks:
            index = self._bulks[-1]
            self.size = min(self._usual, self._entries[index].nbytes - self._offset)
            self.lead = slice_lead(pack, self.request, index, self._offset, self.size)

    def end_slice(self, size: int) -> None:
        """A slice is here, or was dropped."""
        self._due -= size
