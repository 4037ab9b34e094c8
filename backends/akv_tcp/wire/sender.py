"""The outgoing queue of one connection: what to write next, most urgent first. No I/O.

Whole frames go out, so a large tensor gives way after each slice, and only there. Among messages of one priority those
without slices go first, since a pull of 64 bytes must not wait for a push of 256 MiB, but while both wait the slices
get half of the bytes. Messages with slices go one after the other, which completes the first of them soonest.
"""

from __future__ import annotations

from enum import Enum
from heapq import heappop, heappush
from typing import Final, TypeAlias

from akv.errors import InvalidArgument

from .answers import Abort, Goodbye
from .buffers import Buffer
from .encoder import Encoder
from .frames import cork
from .limits import ALIGN, BATCH, SLICE, Limits
from .link import Link
from .message import Message
from .outgoing import Outgoing
from .requests import Cancel
from .row import Phase

__all__ = ["URGENT", "Sender", "Withdrawn"]

URGENT: Final = 2**63
"""Above every priority that a request can have: for heartbeats, cancels and the handshake."""

_LAST: Final = -URGENT - 1

_ANY: Final = 2**64

_ABOUT_ANOTHER: Final = (Abort, Cancel)

_FILLED: Final = Message()
"""Stands for all messages that came as a frame: nobody asks what they said."""

_Heap: TypeAlias = list[tuple[int, int, Outgoing]]


class Withdrawn(Enum):
    """What was left of a message when it was withdrawn."""

    UNSENT = "unsent"
    """All of it: nothing goes out, its memory is free now."""
    CUT = "cut"
    """Some: ABORT goes out instead of the rest; the memory is free when `Sender.drained` names the message."""
    SENT = "sent"
    """Nothing: it is out already, or never was queued. A request can still be withdrawn by a Cancel."""


class Sender:
    """The sending half of one connection.

    `link` is shared with the decoder. `slice_nbytes`: the most bytes of a tensor in one frame, a positive multiple of
    64 (InvalidArgument for another).

    Attributes:
        backlog: bytes that wait for `next_batch`, without the heads of slices; to be read only.
    """

    __slots__ = (
        "_bulky",
        "_encoder",
        "_link",
        "_overtaken",
        "_queued",
        "_released",
        "_sequence",
        "_slice",
        "_small",
        "backlog",
    )

    def __init__(self, link: Link, slice_nbytes: int = SLICE) -> None:
        if slice_nbytes < 1 or slice_nbytes % ALIGN:
            raise InvalidArgument(f"a slice of {slice_nbytes} bytes is no positive multiple of {ALIGN}")
        self._link = link
        self._encoder = Encoder(link)
        self._slice = slice_nbytes
        self._small: _Heap = []
        self._bulky: _Heap = []
        self._queued: dict[int, Outgoing] = {}
        self._released: list[Message] = []
        self._sequence = 0
        self._overtaken = 0
        self.backlog = 0

    @property
    def limits(self) -> Limits:
        """What the peer accepts; to be set to what its WELCOME says."""
        return self._encoder.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._encoder.limits = limits

    @property
    def queued(self) -> int:
        """How many requests, or answers, are not out."""
        return len(self._queued)

    def is_queued(self, request: int) -> bool:
        """Whether a message of this request is among them."""
        return request in self._queued

    @property
    def waiting(self) -> bool:
        """`next_batch` has something to write."""
        return bool(self._small or self._bulky) and self._urgent() is not None

    def put(self, message: Message | Outgoing, priority: int = 0) -> bool:
        """Queue a message, or what `encode_answer` made of one; higher priorities go first, equal ones in order.

        GOODBYE goes when all else is out.

        Returns whether the memory of its `data` must stay as it is until `drained` names the message, or `withdraw`
        says UNSENT; small payloads are copied at once.

        Raises InvalidArgument for what the protocol, the phase or the peer's limits do not allow, and for a request
        that is queued already; nothing has changed then.
        """
        if not -URGENT <= priority <= URGENT:
            raise InvalidArgument(f"priority {priority} is not in -2**63..2**63")
        outgoing = message if isinstance(message, Outgoing) else self._encoder.encode(message)
        request = outgoing.request
        if request and type(message) not in _ABOUT_ANOTHER:
            if request in self._queued:
                raise InvalidArgument(f"a message of request {request} is queued already; take another number")
            self._queued[request] = outgoing
        self._queue(outgoing, _LAST if type(message) is Goodbye else priority)
        return outgoing.holds

    def put_frame(self, frame: bytes, request: int, priority: int) -> None:
        """Queue the whole frame of a message, which a FrameTemplate has made.

        Raises InvalidArgument for a request that is queued already.
        """
        if request in self._queued:
            raise InvalidArgument(f"a message of request {request} is queued already; take another number")
        outgoing = self._queued[request] = Outgoing(_FILLED, request, [[frame]], [], False)
        self._queue(outgoing, priority)

    def _queue(self, outgoing: Outgoing, priority: int) -> None:
        self._sequence += 1
        self.backlog += outgoing.left
        heappush(self._bulky if outgoing.bulks else self._small, (-priority, self._sequence, outgoing))

    def next_batch(self, budget: int = BATCH) -> list[Buffer]:
        """Buffers to hand to the transport now, in this order; empty: nothing waits.

        They hold at most `budget` bytes, or one frame if that is longer. Large ones are views of the messages' memory,
        which the transport may read until it has drained; call `drained` then.
        """
        buffers: list[Buffer] = []
        room, pack = _ANY, self._encoder.pack
        while (heap := self._urgent()) is not None:
            outgoing = heap[0][2]
            left = outgoing.left
            nbytes = outgoing.move(buffers, pack, self._slice, room)
            if not nbytes:
                break
            room = (budget if room == _ANY else room) - nbytes
            self.backlog -= left - outgoing.left
            if heap is self._bulky:
                self._overtaken = 0
            elif self._bulky and self._bulky[0][0] == heap[0][0]:
                self._overtaken += nbytes
            if not outgoing.frames and not outgoing.bulks:
                self._out(heap, outgoing)
        return cork(buffers)

    def drained(self) -> list[Message]:
        """The transport holds no buffer any more: the messages whose memory is free since the last call.

        Messages without payloads, which have no memory, are not among them.
        """
        if not (released := self._released):
            return released
        self._released = []
        return released

    def withdraw(self, request: int) -> Withdrawn:
        """Stop sending the message of this request."""
        outgoing = self._queued.pop(request, None)
        if outgoing is None or outgoing.message is None:
            return Withdrawn.SENT
        message = outgoing.message
        self.backlog -= outgoing.left
        outgoing.drop()
        if not outgoing.started:
            return Withdrawn.UNSENT
        self._released.append(message)
        if self._link.phase is Phase.OPEN:
            self.put(Abort(request), URGENT)
        return Withdrawn.CUT

    def clear(self) -> None:
        """Forget everything queued, without an ABORT: the connection is lost, or only GOODBYE is still to go."""
        self._small.clear()
        self._bulky.clear()
        self._queued.clear()
        self.backlog = 0

    def _out(self, heap: _Heap, outgoing: Outgoing) -> None:
        heappop(heap)
        if self._queued.get(outgoing.request) is outgoing:
            del self._queued[outgoing.request]
        if outgoing.holds and outgoing.message is not None:
            self._released.append(outgoing.message)

    def _urgent(self) -> _Heap | None:
        """The heap whose first message is to go on now."""
        small, bulky = self._small, self._bulky
        while small and small[0][2].message is None:
            heappop(small)
        while bulky and bulky[0][2].message is None:
            heappop(bulky)
        if not small or not bulky:
            return small or bulky or None
        if small[0][0] != bulky[0][0]:
            return min(small, bulky)
        return bulky if self._overtaken >= self._slice else small
