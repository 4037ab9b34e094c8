"""A client's connection, from the server's side."""

from __future__ import annotations

import asyncio
from typing import Protocol

from akv.errors import AkvError, BackendUnavailable, ProtocolError

from . import wire as w
from .connection import Connection
from .keepalive import KeepAlive
from .memory_budget import MemoryBudget, Share
from .payloads import staging
from .session import Session
from .stall import StallDetector
from .terms import Terms
from .work import charge_of

__all__ = ["Acceptor", "Peer"]

# Bytes of answers on their way to one client that nobody counts.
_FREE = 64 * 1024
# Answers that wait to be sent, and requests that are being carried out; an honest client has half as many.
_CROWD = 2048


class Acceptor(Protocol):
    """Where clients are taken in."""

    terms: Terms
    budget: MemoryBudget

    def join(self, peer: Peer) -> bool:
        """Count a connection in; False: there are too many."""
        ...

    def leave(self, peer: Peer) -> None:
        """Count a connection out."""
        ...

    def admit(self, hello: w.Hello) -> Session:
        """Find or make the session of a client. Raises AkvError: it cannot be served."""
        ...

    def welcome(self, session: Session, hello: w.Hello) -> w.Welcome:
        """What the client is told."""
        ...

    def forget(self, session: Session) -> None:
        """A client has left for good."""
        ...


class Peer:
    """See connection.Owner and session.Responder.

    States: a stranger until HELLO, for a bounded time; then with a session, until another connection displaces this
    one, the client leaves, or the connection ends.
    """

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._terms = terms = acceptor.terms
        limits = w.Limits(entries=1 << 16, message=terms.held, window=terms.window)
        self.connection = Connection(w.Side.SERVER, self, _landing, self._reserve, limits)
        self.connection.sender.limits = w.Limits(entries=w.MOST_ENTRIES)
        self._loop = asyncio.get_running_loop()
        self._share = Share(acceptor.budget, terms.window, self._wake)
        self._session: Session | None = None
        self._greeting = self._loop.call_later(terms.greeting, self.connection.abort)
        self._keepalive: KeepAlive | None = None
        self._resumed = False
        self._slowed = False  # it has to take its answers first
        self._backlog = 0  # bytes of answers that are not out, as far as the budget knows
        self._sending, self._taking = StallDetector(), StallDetector()

    # -- what comes -------------------------------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """A stranger."""
        if not self._acceptor.join(self):
            connection.say_goodbye(BackendUnavailable("the server has all the connections that it takes; try later"))

    def received(self, connection: Connection, event: w.Event) -> None:
        """A message, or what the decoder has to say."""
        if type(event) is w.SmallMessage:
            self._take_small(event)
            return
        match event:
            case w.Request():
                self._take(event)
            case w.Part():
                return
            case w.Heartbeat():
                if self._keepalive is not None:
                    self._keepalive.heard(event)
            case w.Aborted(_, reserved):
                self._share.give_back(reserved)
            case w.Refused(request, error, reserved):
                self._share.give_back(reserved)
                self.say(w.Error(request, w.code_of(error), w.fitting_text(str(error))), 0)
            case w.Hello():
                self._greet(event)
            case w.Cancel(request):
                if self._session is not None:
                    self._session.cancel(request)
            case w.Release(stream):
                if self._session is not None:
                    self._session.transfers.release(stream)
            case w.Goodbye():
                connection.abort()
            case _:
                raise ProtocolError(f"{type(event).__name__} does not belong here")

    def _greet(self, hello: w.Hello) -> None:
        self._session = session = self._acceptor.admit(hello)
        if session.responder is not None:
            session.responder.displace()
        session.responder = self
        if session.preparing:
            self.hold()
        self._resumed = hello.resume
        self._greeting.cancel()
        welcome = self._acceptor.welcome(session, hello)
        self.connection.send(welcome, w.URGENT)
        self._keepalive = KeepAlive(self.connection, welcome.heartbeat)

    def _take_small(self, small: w.SmallMessage) -> None:
        session = self._session
        answer = None if session is None else session.answer(small)
        if answer is None:
            self.connection.decoder.put_back()  # the long way, on which it takes from the budget
        elif not self.connection.post(answer, small.request, small.fields[0]):
            self._slow_down()

    def _take(self, request: w.Request) -> None:
        session = self._session
        if session is None:
            self._share.give_back(charge_of(request))
            raise ProtocolError("a request came after the client had left")
        if isinstance(request, w.Bye):
            self._session = None
            self._acceptor.forget(session)
            self.connection.send(w.Result(request.request))
        else:
            session.take(request, self._share)
            if session.crowd:  # else it was answered, or waits for a version
                self._slow_down()

    def _reserve(self, nbytes: int) -> bool:
        return self._share.take(nbytes, self.connection.decoder.reserved)

    def _wake(self) -> None:
        self._loop.call_soon(self.connection.take_events)

    # -- what goes --------------------------------------------------------------------------------------------

    def say(self, message: w.Message | w.Outgoing, priority: int) -> None:
        """Send an answer."""
        connection, request = self.connection, getattr(message, "request", 0)
        if not connection.open:
            return
        if connection.sender.is_queued(request):
            # Who came back may send again what was carried out meanwhile, before it can have seen this answer.
            if not self._resumed:
                text = f"request {request} came again while its answer is still on its way on the same connection"
                connection.fail(ProtocolError(text))
            return
        connection.send(message, priority)
        self._slow_down()

    @property
    def heard(self) -> float:
        """When the client was last heard of; now, where nobody listens."""
        connection = self.connection
        return connection.heard if connection.listening else self._loop.time()

    def withdraw(self, request: int) -> w.Withdrawn:
        """Stop sending an answer."""
        return self.connection.withdraw(request)

    def hold(self) -> None:
        """Read no more requests, until `go_on`."""
        self.connection.hold()

    def go_on(self) -> None:
        """Read the next requests."""
        self._slow_down()
        self.connection.go_on()

    def displace(self) -> None:
        """The client is on another connection now."""
        self._session = None
        self.connection.abort()

    def released(self, connection: Connection, messages: list[w.Message]) -> None:
        """Answers are out."""
        self._note_backlog()
        if self._slowed and not self._is_crowded(0.5):
            self._slowed = False
            connection.go_on()

    def _note_backlog(self) -> None:
        owed = 0 if self._session is None else self._session.owed
        backlog = self.connection.sender.backlog + owed
        self._acceptor.budget.backlog += backlog - self._backlog
        self._backlog = backlog

    def _slow_down(self) -> None:
        sender = self.connection.sender
        if self._backlog == 0 and sender.backlog < _FREE and sender.queued < _CROWD // 4 and not self._crowd:
            return  # as with nearly all answers, which are out before the next request is in
        self._note_backlog()
        if not self._slowed and self._is_crowded(1.0):
            self._slowed = True
            self.connection.hold()

    def _is_crowded(self, share: float) -> bool:
        """Whether there is more than this share of what a client may leave untaken before it asks more."""
        if self.connection.sender.queued + self._crowd > _CROWD * share:
            return True
        return self._backlog > self._acceptor.budget.backlog_of_one(self._terms.outbox) * share

    @property
    def _crowd(self) -> int:
        """How many of its requests are being carried out."""
        return 0 if self._session is None else self._session.crowd

    # -- how it ends ------------------------------------------------------------------------------------------

    def lost(self, connection: Connection, error: AkvError | OSError | None) -> None:
        """The connection has ended."""
        self._greeting.cancel()
        if self._keepalive is not None:
            self._keepalive.stop()
        self._share.give_back(connection.decoder.reserved)
        self._share.leave()
        if self._session is not None:
            self._session.responder = None
            self._session.away_since = self._loop.time()
            self._session.last_heard = connection.heard
            self._session = None
        self._note_backlog()
        self._acceptor.leave(self)

    def check(self, now: float) -> None:
        """Cut off a client that stands still; called every now and then.

        Args:
            now: in seconds, by a clock that stops while the server's loop does.
        """
        self._note_backlog()
        connection, stall = self.connection, self._terms.stall
        if not connection.open:
            return
        decoder = connection.decoder
        announced = decoder.reserved + decoder.unread if connection.listening else 0
        taken = connection.sent - connection.unsent
        left = connection.unsent + connection.sender.backlog
        if self._sending.standstill(now, connection.count, announced) > stall:
            text = f"of a message of which {announced} bytes were announced or here, too little came for {stall:g} s"
            connection.fail(ProtocolError(text))
        elif self._taking.standstill(now, taken, left) > stall:
            text = f"of {left} bytes of answers, too little was taken for {stall:g} s"
            connection.fail(ProtocolError(text))


def _landing(message: w.Message, index: int, nbytes: int) -> w.Buffer:
    return staging(nbytes)
