"""One TCP connection of akv, client's or server's: bytes from and to a transport, messages from and to an owner."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from time import monotonic
from typing import Protocol, cast

from akv.errors import AkvError, InvalidArgument

from . import wire as w

__all__ = ["Connection", "Owner"]

# Seconds in which a good-bye has to get through.
_PARTING = 1.0
# Bytes of small frames that leave before the turn of the loop is over: more would be a long run of copies.
_WEIGHT = 256 * 1024
# Seconds in which what has come is handed out without a pause: 256 KiB of small requests, or of keys, take 30-200 ms.
_TURN = 0.005
# Seconds in which what is queued is written without a pause: to a peer that keeps up 256 MiB went in one run of 100 ms.
# During such a push one small pull in a hundred waits for 10 ms so, where it is 25 with 5 ms.
_RUN = 0.001


class Owner(Protocol):
    """Whoever a connection belongs to; all calls come on its loop."""

    def connected(self, connection: Connection) -> None:
        """The connection is there."""
        ...

    def received(self, connection: Connection, event: w.Event) -> None:
        """A message, or one of the decoder's other events. An AkvError ends the connection."""
        ...

    def released(self, connection: Connection, messages: list[w.Message]) -> None:
        """The memory of these messages is no longer read. While `hold` lasts, also said when none has any."""
        ...

    def lost(self, connection: Connection, error: AkvError | OSError | None) -> None:
        """The connection has ended; nothing of it is read or written any more. Called once."""
        ...


class Connection(asyncio.BufferedProtocol):
    """Moves bytes. Payloads are received where they belong, and sent from where they are.

    Small frames of one turn of the loop leave in one write; large ones in batches of 1 MiB, the next when the one
    before is out, so that an urgent message waits for no more than that.

    Attributes:
        heard: the loop's time at which the last bytes came.
        count: how many bytes have come.
        sent: how many were given to the transport.
    """

    def __init__(
        self, side: w.Side, owner: Owner, landing: w.Landing, reserve: w.Reserve, limits: w.Limits | None = None
    ) -> None:
        self.link = w.Link(side)
        self.decoder = w.Decoder(self.link, landing, reserve, limits, small=True)
        self._received, self._arrivals = self.decoder.received, self.decoder.arrivals
        self.sender = w.Sender(self.link)
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._error: AkvError | OSError | None = None
        self._ended = False
        self._posted: list[bytes] = []  # whole small frames that leave before all that waits in the sender
        self._ranks: list[int] = []  # their priorities
        self._weight = 0  # their bytes
        self._reads = True  # as far as the transport was told
        self._gathers = False  # the transport writes several buffers with one system call, and copies none
        self._writing = False  # a flush is scheduled, or follows what is being taken
        self._taking = False
        self._left = _TURN  # over several calls: a loop may read often in one turn
        self._full = False
        self._holds = 0
        self.heard = self._loop.time()
        self.count = self.sent = 0

    @property
    def open(self) -> bool:
        """Whether requests and answers may be sent."""
        return self.link.phase is w.Phase.OPEN and not self._ended

    # -- sending ----------------------------------------------------------------------------------------------

    def send(self, message: w.Message | w.Outgoing, priority: int = 0) -> bool:
        """Queue a message; it leaves at the end of this turn of the loop, or when it is the most urgent.

        Returns whether its memory is lent until `Owner.released` names it.

        Raises:
            InvalidArgument: the protocol, or the peer's limits, do not allow it.
        """
        lent = self.sender.put(message, priority)
        self.wake()
        return lent

    def post(self, frame: bytes, request: int, priority: int) -> bool:
        """Send a message that a FrameTemplate has made, with the others of this turn; False: it has to queue."""
        if self._full or self.sender.backlog:
            self.sender.put_frame(frame, request, priority)
            self.wake()
            return False
        self._posted.append(frame)
        self._ranks.append(priority)
        self._weight += len(frame)
        if self._weight > _WEIGHT:
            self._flush()
        elif not self._writing:
            self.wake()
        return True

    def withdraw(self, request: int) -> w.Withdrawn:
        """Stop sending a request, or an answer."""
        how = self.sender.withdraw(request)
        if how is w.Withdrawn.CUT:
            self.wake()
        return how

    @property
    def unsent(self) -> int:
        """The bytes that the transport holds."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def wake(self) -> None:
        """More of what is queued may be sent than before."""
        if not (self._writing or self._full):
            self._writing = True
            if not self._taking:
                self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._writing = False
        transport = self._transport
        if transport is None or self._ended or transport.is_closing():
            return  # where the peer is gone, each further write would be a line in the log
        if self._posted:
            self._write_posted(transport)
        if self.sender.backlog:
            self._write_queued(transport)
        if self.link.phase is w.Phase.CLOSED and not self.sender.backlog:
            # When it has sent everything. Not at once: within resume_writing, asyncio's transport would end twice.
            self._loop.call_soon(transport.close)

    def _write_queued(self, transport: asyncio.Transport) -> None:
        until = monotonic() + _RUN
        while not self._full and self.sender.backlog and (buffers := self.sender.next_batch()):
            self.sent += sum(map(len, buffers))
            if self._gathers and len(buffers) > 1:
                transport.writelines(buffers)
            else:
                for buffer in buffers:
                    transport.write(buffer)
            if transport.is_closing():  # the peer is gone; each further write would be a line in the log
                return
            if not transport.get_write_buffer_size():
                self._release()
            if monotonic() > until:  # a peer that takes it as fast would have all of it, while others want a turn
                self.wake()
                return

    def _write_posted(self, transport: asyncio.Transport) -> None:
        posted, ranks = self._posted, self._ranks
        if ranks.count(ranks[0]) < len(ranks):
            posted = [posted[place] for place in sorted(range(len(ranks)), key=ranks.__getitem__, reverse=True)]
        data = posted[0] if len(posted) == 1 else b"".join(posted)
        self._posted.clear()
        ranks.clear()
        self._weight = 0
        self.sent += len(data)
        transport.write(data)

    def pause_writing(self) -> None:
        """The transport holds bytes: the next batch has to wait."""
        self._full = True

    def resume_writing(self) -> None:
        """The transport is empty."""
        self._full = False
        self._release()
        self._flush()

    def _release(self) -> None:
        if (messages := self.sender.drained()) or self._holds:
            self._owner.released(self, messages)

    # -- receiving --------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Memory for the next bytes."""
        return self._received.offer()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        self.heard = self._loop.time()
        self.count += nbytes
        # Most of what comes of a tensor is no event. Who holds the connection has to be heeded all the same.
        if self._received.filled(nbytes) or self._holds:
            self.take_events()

    def take_events(self) -> None:
        """Hand out what has arrived; called by the owner when what the decoder is blocked by, or `hold`, is over."""
        self._taking = True
        now = monotonic()
        until = now + self._left
        try:
            while not (self._holds or self._ended) and (event := self.decoder.next_event()) is not None:
                self._owner.received(self, event)
                now = monotonic()
                if now > until:  # others want a turn, too
                    self.hold()
                    self._loop.call_soon(self.go_on)
        except AkvError as error:
            self.fail(error)
        finally:
            self._taking = False
            self._left = until - now if now <= until else _TURN
            if self._writing:  # the answers to all that came at once leave at once, without a turn of the loop
                self._flush()
        if self._holds or self._arrivals.blocked or not self._reads:
            self._mind()

    def _mind(self) -> None:
        """Have the transport read, or not, as is due."""
        transport = self._transport
        if transport is not None and not transport.is_closing() and self._reads is not self.listening:
            self._reads = self.listening
            (transport.resume_reading if self._reads else transport.pause_reading)()

    @property
    def listening(self) -> bool:
        """Whether bytes are read. While they are not, the peer's silence means nothing."""
        return not (self._holds or self.decoder.blocked)

    def hold(self) -> None:
        """Read nothing more until `go_on` was called as often as this."""
        self._holds += 1

    def go_on(self) -> None:
        """One reason less not to read; with the last one gone, reading goes on from the next turn of the loop."""
        self._holds -= 1
        if not self._holds:
            self._loop.call_soon(self.take_events)

    # -- beginning and end ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is there."""
        # A cast, not a check: uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        if self._ended:  # in a crowd, the time for the greeting may be over by now
            transport.abort()
            return
        # asyncio's of 3.11 joins them; those of 3.12.0-8 and 3.13.0-1 forget to say that they are full (gh-127655).
        self._gathers = not type(transport).__module__.startswith("asyncio")
        # Zero: "full" then means that the transport holds something, and "empty" that our memory is free again.
        transport.set_write_buffer_limits(high=0)
        tune(transport.get_extra_info("socket"))
        self._owner.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._ended = True
        self._transport = None
        self.sender.clear()
        self._owner.lost(self, self._error or (exc if isinstance(exc, OSError) else None))

    def eof_received(self) -> bool:
        """The peer sends no more: akv's connections are never half open."""
        return False

    def fail(self, error: AkvError) -> None:
        """End the connection because of the peer's fault, or ours; tell the peer why, if it still listens."""
        self._error = self._error or error
        self.say_goodbye(error)

    def say_goodbye(self, error: AkvError) -> None:
        """Drop what waits to be sent, send why the connection ends, then close it."""
        code, text = w.code_of(error), w.fitting_text(str(error))
        self.sender.clear()
        self.decoder.close()
        try:
            self.send(w.Goodbye(code, text) if self.link.phase is w.Phase.OPEN else w.Refuse(code, text))
        except InvalidArgument:  # it was said before, by one side or the other; or this client is not welcome yet
            self.abort()
        else:
            self._loop.call_later(_PARTING, self.abort)

    def abort(self) -> None:
        """Drop the connection at once: nothing that has come is handed out any more."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()


def tune(sock: socket.socket | None) -> None:
    """Send small frames at once; and not with BBR, which takes 1.2-1.4 times as long on loopback and LAN."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    congestion = getattr(socket, "TCP_CONGESTION", None)
    if congestion is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, congestion, b"reno")
