"""From bytes to messages, without I/O: the transport fills memory, the application takes events.

The transport asks for `get_buffer`, fills it, says `buffer_updated`, and takes `next_event` until None, which is what
`asyncio.BufferedProtocol` does. Tensors below `INLINE` come as read-only views of memory of their own; the bytes of
larger ones go where the application wants them: copied is only what came in one recv with the head of the first slice.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from akv.errors import AkvError, ProtocolError

from .answers import Abort
from .arrivals import Arrivals
from .events import Event, Landing, Reserve
from .head import HEAD_SIZE, read_head
from .header import unpack
from .limits import GREETING_HEADER, Limits
from .link import Link
from .receive_buffer import ReceiveBuffer
from .row import Phase, Row
from .small import coming_to, next_small
from .table import DATA, MORE

__all__ = ["Decoder"]


class Decoder:
    """The receiving half of one connection.

    `link` is shared with the sending half; `limits`: what this side accepts; `small`: whether small messages may come
    as a SmallMessage. `received`: where bytes come in, and `arrivals`: what is made of them, for who cannot afford the
    calls between. After a ProtocolError, and once the link
    is closed, whatever comes is dropped. What `reserve` granted for a message that is an event is the application's to
    release: see `cost_of`.
    """

    __slots__ = ("_again", "_coming", "_dead", "_events", "_last", "_link", "arrivals", "received")

    def __init__(
        self, link: Link, landing: Landing, reserve: Reserve, limits: Limits | None = None, *, small: bool = False
    ) -> None:
        self._link = link
        self.received = ReceiveBuffer()
        self._events: deque[Event] = deque()
        self.arrivals = Arrivals(self.received, self._events, landing, reserve, limits or Limits())
        self._dead = self._again = False
        self._last = 0  # where the last SmallMessage began
        self._coming = coming_to(link.side) if small else {}

    @property
    def blocked(self) -> bool:
        """The budget is used up: pause reading, and take events again when some of it is free."""
        return self.arrivals.blocked

    @property
    def unread(self) -> int:
        """Bytes of a frame that has not come whole."""
        return self.received.stop - self.received.start

    @property
    def reserved(self) -> int:
        """Bytes reserved for messages that are not complete; when the connection ends, they are to be released."""
        return self.arrivals.reserved

    def get_buffer(self, hint: int = -1) -> memoryview:
        """Writable memory, never empty, for the next bytes; valid until `buffer_updated`. `hint` is not used.

        Raises InvalidArgument when the receive buffer is full: the events were not taken, or reading went on though
        the decoder is `blocked`.
        """
        return self.received.offer()

    def buffer_updated(self, nbytes: int) -> None:
        """The transport filled that many bytes of the last buffer. Raises InvalidArgument for an impossible number."""
        self.received.filled(nbytes)

    def close(self) -> None:
        """Read nothing more: whatever comes is dropped."""
        self._dead = True
        self._let_go()

    def next_event(self) -> Event | None:
        """The next message, SmallMessage, Part, Aborted or Refused; None: more is needed, or the decoder is `blocked`.

        Raises ProtocolError once, for bytes that are not this protocol or exceed its limits: end the connection then.
        Raises InvalidArgument when `landing` gave memory that does not fit.
        """
        arrivals, link, received = self.arrivals, self._link, self.received
        while not self._events:
            if (
                received.start == received.stop
                and received.after is None
                and not self._dead
                and link.phase is Phase.OPEN
            ):
                return None  # as after nearly every message
            if self._dead or link.phase is Phase.CLOSED:
                self._let_go()
                return None
            amid = received.after is not None
            # What was refused by the budget has to ask again.
            if not amid and self._coming and not (arrivals.blocked or self._again) and link.phase is Phase.OPEN:
                self._last = received.start
                small = next_small(received, self._coming, arrivals.open)
                if small is not None:
                    return small or None
            self._again = False
            try:
                if not (received.place() if amid else self._frame()):
                    return None
            except AkvError:
                self.close()
                raise
            except ValueError as error:
                code, request, *_ = read_head(self.received.buffer, self.received.start)
                self.close()
                raise ProtocolError(f"bad frame of type {code}, request {request}: {error}") from error
        return self._events.popleft()

    def put_back(self) -> None:
        """The last event, a SmallMessage, is not taken: it comes again as an object, which asks for budget."""
        self.received.start, self._again = self._last, True

    def discard(self, request: int) -> int:
        """The application does not want this message any more: let go of its memory now, drop what still comes.

        Returns the bytes to release; 0 if no such message is arriving. No event will tell of its end.
        """
        return self.arrivals.discard(request)

    def _frame(self) -> bool:
        received = self.received
        if self.arrivals.follow():
            return True
        body = received.start + HEAD_SIZE
        if received.stop < body:
            return False
        code, request, size, payload = read_head(received.buffer, received.start)
        row = self._row(code, request, size, payload)
        end = body + size
        if received.stop < end:
            return False
        header = received.buffer[body:end]
        if code == DATA:
            self.arrivals.slice(request, unpack(header), payload, end)
        elif code == MORE:
            self.arrivals.more(request, bytes(header), payload, end)
        elif row.kinds is None:
            self._plain(row, request, unpack(header), end)
        else:
            return self.arrivals.first(row, request, bytes(header), payload, end)
        return True

    def _row(self, code: int, request: int, size: int, payload: int) -> Row:
        """What the head alone tells of a frame, before anything more of it is waited for."""
        if code in _CONTINUED:
            return self.arrivals.row(code, request)
        row = self._link.receiving(code)
        if (request > 0) is not row.addressed or (payload and row.kinds is None):
            raise ValueError(f"{row.name} came for request {request} with {payload} bytes of payload")
        if size > GREETING_HEADER and self._link.phase is not Phase.OPEN:
            raise ValueError(f"a header of {size} bytes came before WELCOME; the most is {GREETING_HEADER}")
        return row

    def _plain(self, row: Row, request: int, values: tuple[object, ...], end: int) -> None:
        fields = row.check_fields(values)
        message = row.make(request, *fields) if row.addressed else row.make(*fields)
        if isinstance(message, Abort):
            self.arrivals.abort(message.request)
        else:
            self._events.append(message)
        self._link.move(row)
        self.received.start = end

    def _let_go(self) -> None:
        self.received.clear()
        self.arrivals.forget()


_CONTINUED: Final = (MORE, DATA)
