"""Messages of one small tensor, as nearly all are: made and read without an object for each of their parts.

Their bytes are those of any message; only the way to them is shorter. What such messages say, they say again and again:
on the way out a `FrameTemplate` has everything in place but request, version and payload, and on the way in a header
that was checked before is known by its bytes (see `memo`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final, NamedTuple

from .answers import Keyed
from .buffers import Buffer
from .entries import Entry
from .head import HEAD, HEAD_SIZE, MAGIC, VERSION, pack_head
from .header import pack_once
from .limits import INLINE
from .memo import MEMO
from .message import Message
from .receive_buffer import ReceiveBuffer
from .row import Row, Side
from .stems import UINT64, VERSION_NBYTES, VERSION_STRUCT, VERSION_TYPE, stem_of
from .table import TABLE

__all__ = ["FrameTemplate", "SmallMessage", "coming_to", "next_small"]

_SMALL: Final = ("Push", "Pull", "Result")
_ROWS: Final = {row.name: row for row in TABLE if row.name in _SMALL}


class FrameTemplate:
    """The bytes of a message of one entry whose payload rides along, but for request, version and payload.

    Args:
        message: one like those that are to be sent; its request, version and data do not matter.

    Raises:
        ValueError: the protocol does not allow it.
    """

    __slots__ = ("_before", "_between")

    def __init__(self, message: Keyed) -> None:
        row = _ROWS[type(message).__name__]
        fields, (entry,) = row.check_fields(row.values(message)), row.check_entries(message.entries)
        stem = stem_of(pack_once, (*fields, 1, entry.nbytes), entry)
        head = pack_head(row.code, 0, len(stem) + VERSION_NBYTES, entry.nbytes)
        self._before, self._between = head[:4], head[8:] + stem + VERSION_TYPE

    def fill(self, request: int, version: int = 0, payload: Buffer = b"") -> bytes:
        """The frame. The payload is copied; it has the bytes that the entry announces."""
        number = request.to_bytes(4, "little")
        return b"".join((self._before, number, self._between, version.to_bytes(8, "big"), payload))


class SmallMessage(NamedTuple):
    """A message of one entry that has come whole, with a header like one that was checked before.

    `fields` and `entry` (without its version) are those of the message; `data` is the decoder's memory, valid until
    more is received. Nothing was reserved for it.
    """

    row: Row
    request: int
    fields: tuple[Any, ...]
    entry: tuple[Any, ...]
    version: int
    data: memoryview

    def message(self) -> Message:
        """The same as an object, with memory of its own."""
        entry: Entry = tuple.__new__(Entry, (*self.entry, self.version))
        payload = memoryview(bytes(self.data)) if entry.kind else None
        return self.row.make(self.request, *self.fields, (entry,), [payload])


def next_small(
    received: ReceiveBuffer, coming: Mapping[int, Row], busy: Container[int]
) -> SmallMessage | tuple[()] | None:
    """Take the next message, if it is small, and of no request that is `busy`; nothing has happened where it is not.

    Returns the message, or () if more of it has to come, or None if it is not small, or not right: the long way tells.

    Args:
        coming: what `coming_to` says of this side.
    """
    start, stop, buffer = received.start, received.stop, received.buffer
    if stop - start < HEAD_SIZE:
        return ()
    magic, version, code, request, size, payload = HEAD.unpack_from(buffer, start)
    end = start + HEAD_SIZE + size
    if code not in coming or magic != MAGIC or version != VERSION or size < VERSION_NBYTES or payload >= INLINE:
        return None
    if end + payload > stop:
        return () if end <= stop else None
    mark, number = VERSION_STRUCT.unpack_from(buffer, end - VERSION_NBYTES)
    known = MEMO.meanings.get((code, bytes(buffer[start + HEAD_SIZE : end - VERSION_NBYTES])))
    if known is None or mark != UINT64 or not request or request in busy:
        return None
    fields, entry = known
    if entry[5] != payload:
        return None
    received.start = end + payload
    small: SmallMessage = tuple.__new__(
        SmallMessage, (coming[code], request, fields, entry, number, buffer[end : end + payload])
    )
    return small


def coming_to(side: Side) -> Mapping[int, Row]:
    """The messages that may be small and come to this side, by number."""
    return {row.code: row for row in _ROWS.values() if row.sender is not side}
