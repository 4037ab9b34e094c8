"""The messages with entries that are arriving over one connection: their budget, their memory, and how they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from akv.errors import AkvError

from .events import Aborted, Event, Landing, Part, Refused, Reserve
from .header import new_pack, pack_once, unpack
from .incoming import Incoming
from .limits import Limits, cost
from .listing import Listing, listing_of_one
from .memo import MEMO, Announced
from .message import Message
from .receive_buffer import ReceiveBuffer
from .riding import ridden
from .row import Row
from .stems import pack_version, stem_of
from .versions import EMPTY, Entries, told

__all__ = ["Arrivals"]


class Arrivals:
    """What comes of the frames of messages with entries. Its methods raise ValueError for what was not announced.

    They take the frame that begins at `received.start`, whose header ends at `end` and whose payload has `payload`
    bytes, and queue what becomes of it in `events`. `blocked`: the budget did not allow the last frame. `reserved`:
    bytes reserved for messages that are not complete. `open`: the messages of which something is still to come, by
    request.
    """

    __slots__ = (
        "_current",
        "_events",
        "_landing",
        "_limits",
        "_pack",
        "_received",
        "_reserve",
        "blocked",
        "open",
        "reserved",
    )

    def __init__(
        self, received: ReceiveBuffer, events: deque[Event], landing: Landing, reserve: Reserve, limits: Limits
    ) -> None:
        self.blocked = False
        self.reserved = 0
        self._received = received
        self._events = events
        self._landing = landing
        self._reserve = reserve
        self._limits = limits
        self._pack = new_pack()
        self.open: dict[int, Incoming] = {}
        self._current: Incoming | None = None  # of the payload that is coming, or came last, if more is to come

    def row(self, code: int, request: int) -> Row:
        """The row of the message that a frame of this type continues."""
        incoming = self.open.get(request)
        if incoming is None:
            raise ValueError(f"a frame of type {code} continues request {request}, of which nothing is open")
        return incoming.row

    def abort(self, request: int) -> None:
        """The peer withdrew a message."""
        incoming = self.open.pop(request, None)
        if incoming is None:
            raise ValueError(f"ABORT came for request {request}, of which nothing is open")
        if not incoming.refused:
            self._events.append(Aborted(request, self._drop(incoming)))

    def discard(self, request: int) -> int:
        """The application does not want a message; returns the bytes to release."""
        incoming = self.open.get(request)
        return self._drop(incoming) if incoming is not None else 0

    def forget(self) -> None:
        """Let go of everything: nothing more is read. What is `reserved` stays so until somebody releases it."""
        self.open.clear()
        self._current = None

    def first(self, row: Row, request: int, header: bytes, payload: int, end: int) -> bool:
        """The first frame of a message; False: the budget does not allow it now."""
        fields, count, total, entries = self._announced(row, header)
        if request in self.open:
            raise ValueError(f"{row.name} came for request {request}, which is open")
        charge = cost(count, total)
        refusal = None
        try:
            self.blocked = charge > 0 and not self._reserve(charge)
        except AkvError as error:
            self.blocked, charge, refusal = False, 0, error
        if self.blocked:
            return False
        self.reserved += charge
        if refusal is None and len(entries) == count and payload == total <= self._received.stop - end:
            self._whole(row, request, fields, entries, total, end)
            self.reserved -= charge
            return True
        incoming = self.open[request] = Incoming(row, request, fields, count, total, charge)
        incoming.claim(entries, payload)
        if refusal is not None:
            self._refuse(incoming, refusal)
        self._ride(incoming, entries, payload, end)
        return True

    def _announced(self, row: Row, header: bytes) -> Announced:
        known = MEMO.meaning(row.code, header)
        if known is not None:
            fields, entry = known
            announced: Announced = fields, 1, entry.nbytes, listing_of_one(entry)
        else:
            announced = MEMO.lists.get((row.code, True, header)) or self._read(row, header)
        limits = self._limits
        if announced[1] > limits.entries or announced[2] > limits.message:
            raise ValueError(
                f"{row.name} announces {announced[1]} entries with {announced[2]} bytes, "
                f"more than {limits.entries} entries or {limits.message} bytes"
            )
        return announced

    def _read(self, row: Row, header: bytes) -> Announced:
        told_last = None if row.checks else told(header)
        values = unpack(header if told_last is None else told_last[0])
        own = len(row.checks)
        if len(values) != own + 3:
            raise ValueError(f"{row.name} has {len(values)} header fields where {own + 3} were due")
        count, total = values[own : own + 2]
        if type(count) is not int or count < 0 or type(total) is not int or total < 0:
            raise ValueError(f"{row.name} does not say how many entries and bytes it brings")
        fields, entries = row.check_fields(values[:own]), Listing(row.check_entries(values[-1]))
        if told_last is not None:
            return fields, count, total, told_last[1]
        announced = fields, count, total, entries
        if len(entries) > 1:
            MEMO.lists.learn((row.code, True, header), announced)
        elif entries and count == 1:
            (entry,) = entries
            stem = stem_of(pack_once, values[:-1], entry)
            if total == entry.nbytes and header == stem + pack_version(entry.version):
                MEMO.learn(row.code, stem, fields, entry)
        return announced

    def _whole(
        self, row: Row, request: int, fields: tuple[object, ...], entries: Entries, total: int, end: int
    ) -> None:
        """A message that is here in one piece, as nearly all are."""
        received = self._received
        data, later = ridden(entries, memoryview(bytes(received.buffer[end : end + total])))
        if later:
            raise ValueError(f"{row.name} announces {total} bytes; its entries bring more")
        received.start = end + total
        self._events.append(row.make(request, *fields, entries, data))

    def more(self, request: int, header: bytes, payload: int, end: int) -> None:
        """A frame with more entries."""
        incoming = self.open[request]
        row = incoming.row
        known = MEMO.lists.get((row.code, False, header))
        told_alone = None if row.checks or known is not None else told(header)
        if told_alone is not None and told_alone[0] == EMPTY:
            entries: Entries = told_alone[1]
        elif known is None:
            entries = Listing(row.check_entries(unpack(header)))
            MEMO.lists.learn((row.code, False, header), ((), 0, 0, entries))
        else:
            entries = known[-1]
        incoming.claim(entries, payload)
        self._ride(incoming, entries, payload, end)

    def _ride(self, incoming: Incoming, entries: Entries, payload: int, end: int) -> None:
        memory = bytearray(0 if incoming.refused else payload)
        self._received.start = end
        after = partial(self._rode, incoming, entries, memory, payload)
        self._receive(incoming, None if incoming.refused else memoryview(memory), payload, after)

    def _rode(self, incoming: Incoming, entries: Entries, memory: bytearray, payload: int) -> None:
        incoming.add(entries, memory, payload)
        if incoming.message is not None:
            incoming.look_ahead(self._pack)
        elif not incoming.refused:
            self._events.append(Part(incoming.request))
        self._finish(incoming)

    def slice(self, request: int, values: tuple[object, ...], size: int, end: int) -> None:
        """A frame with a slice of a tensor."""
        incoming = self.open[request]
        incoming.check_slice(values, size)
        self._received.start = end
        if not incoming.refused:
            self._events.append(Part(request))
        self._begin(incoming, size)

    def follow(self) -> bool:
        """Go on with the slice that is due, if its frame is what has come; else nothing has happened.

        It is known by its bytes, which say nothing that has not been checked. So nothing is unpacked, nor told of it.
        """
        received, incoming = self._received, self._current
        if incoming is None or not (lead := incoming.lead):
            return False
        end = received.start + len(lead)
        if end > received.stop or bytes(received.buffer[received.start : end]) != lead:
            return False
        received.start = end
        self._begin(incoming, incoming.size)
        return True

    def _begin(self, incoming: Incoming, size: int) -> None:
        wanted = incoming.wanted()
        if wanted is not None:
            self._land(incoming, *wanted)
        into = None if incoming.refused else incoming.window(size, self._pack)
        self._receive(incoming, into, size, partial(self._landed, incoming, size))

    def _land(self, incoming: Incoming, message: Message, index: int, nbytes: int) -> None:
        try:
            memory = self._landing(message, index, nbytes)
        except AkvError as error:
            self._refuse(incoming, error)
            return
        if not incoming.refused:
            incoming.land(memory)

    def _landed(self, incoming: Incoming, size: int) -> None:
        incoming.end_slice(size)
        if not self.follow():
            self._finish(incoming)

    def _receive(self, incoming: Incoming, into: memoryview | None, size: int, after: Callable[[], None]) -> None:
        self._received.expect(into, size, after)
        self._current = incoming

    def _finish(self, incoming: Incoming) -> None:
        if not incoming.done:
            return
        self._current = None
        del self.open[incoming.request]
        if incoming.message is not None:
            self.reserved -= incoming.charge
            self._events.append(incoming.message)

    def _refuse(self, incoming: Incoming, error: AkvError) -> None:
        self._events.append(Refused(incoming.request, error, self._drop(incoming)))

    def _drop(self, incoming: Incoming) -> int:
        """Let go of a message's memory; what was reserved for it goes over to the application."""
        if incoming is self._current:
            self._received.let_go()
        charge, incoming.charge = incoming.charge, 0
        incoming.refuse()
        self.reserved -= charge
        return charge
