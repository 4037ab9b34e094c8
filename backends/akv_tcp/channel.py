"""A client's channel to one server: the handshake, heartbeats, and a new connection when one broke."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from typing import Protocol

from akv.errors import AkvError, AuthError, BackendUnavailable, ConnectionLost, ProtocolError, StoreClosed

from . import wire as w
from .connection import Connection
from .farewell import Farewell
from .keepalive import KeepAlive

__all__ = ["VERSION", "Channel", "ChannelUser"]

VERSION = 1
# Seconds between two attempts to connect again: doubled from the first to the last, and shortened at random.
FIRST_PAUSE, LAST_PAUSE = 0.05, 2.0
# Seconds for one attempt.
ATTEMPT = 10.0
# The answer to a question for the names of all keys has as many entries as there are keys.
_LIMITS = w.Limits(entries=w.MOST_ENTRIES)


class ChannelUser(Protocol):
    """Who wants the channel; all calls come on its loop."""

    def landing(self, message: w.Message, index: int, nbytes: int) -> w.Buffer:
        """See wire.Landing."""
        ...

    def received(self, event: w.Event) -> None:
        """An answer, or another event about one."""
        ...

    def released(self, messages: list[w.Message]) -> None:
        """The memory of these requests is no longer read."""
        ...

    def cut_off(self) -> None:
        """The connection broke, and is being made again."""
        ...

    def restored(self) -> None:
        """It is there again; what has no answer has to be asked again."""
        ...

    def lost(self, error: AkvError) -> None:
        """It will not come back; the error says why, and names the server. Called once, unless by `close`."""
        ...


class Channel:
    """Made for one server and one user, on a loop.

    Attributes:
        connection: the one that requests may be sent on; None while there is none.
    """

    def __init__(
        self, address: tuple[str, int], hello: Callable[[bool], w.Hello], patience: float, user: ChannelUser
    ) -> None:
        host, port = address
        self.where = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        self.connection: Connection | None = None
        self._address = address
        self._hello = hello
        self._patience = patience
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._welcome: asyncio.Future[w.Welcome] | None = None  # what an attempt to connect waits for
        self._attempt: Connection | None = None
        self._keepalive: KeepAlive | None = None
        self._restoring: asyncio.Task[None] | None = None
        # A connection that breaks before anything came of it is one more failed attempt: the pauses go on growing.
        self._pause = self._broke = 0.0
        self._over = self._leaving = False
        self._farewell: Farewell | None = None
        self._ended = self._loop.create_future()

    async def open(self, timeout: float | None) -> w.Welcome:
        """Connect for the first time. If that comes to nothing, or is cancelled, the server forgets this client again.

        Args:
            timeout: the most seconds to wait for the server; None: as many as usual.

        Raises:
            BackendUnavailable: nobody answers there. AuthError, ProtocolError, ...: the server refuses.
        """
        try:
            return await self._connect(False, ATTEMPT if timeout is None else min(ATTEMPT, timeout))
        except AkvError:  # of which some are OSErrors, too
            raise
        except OSError as error:
            reason = f"{self.where} does not answer ({_reason(error)})"
            # Where a name has several addresses, the error is of no kind: it only lists the texts.
            if f"[Errno {errno.ECONNREFUSED}]" in str(error):
                reason += f"; start: akv serve --bind {self.where.removeprefix('tcp://')}"
            raise BackendUnavailable(reason) from error

    def leave(self) -> None:
        """The server is told to forget this client: if the connection breaks before the answer, that was it."""
        self._leaving = True

    def close(self, error: AkvError | None = None) -> None:
        """Say good-bye, and be done; see `wait_closed`."""
        self._over = True
        if self._restoring is not None:
            self._restoring.cancel()
        if self._farewell is not None:
            return  # see _take_leave
        if self.connection is None:
            self._end()
        else:
            self.connection.say_goodbye(error or StoreClosed("the handle was closed"))

    def abort(self) -> None:
        """Be done at once."""
        self.close()
        if self.connection is not None:
            self.connection.abort()

    async def wait_closed(self) -> None:
        """Wait until nothing is left: no connection, no timer, no task."""
        await asyncio.shield(self._ended)
        if self._restoring is not None:
            await asyncio.wait([self._restoring])

    @property
    def silence(self) -> float:
        """Seconds since the server was last heard of."""
        return 0.0 if self.connection is None else self._loop.time() - self.connection.heard

    # -- connecting -------------------------------------------------------------------------------------------

    async def _connect(self, resume: bool, seconds: float) -> w.Welcome:
        self._resume = resume
        welcome: asyncio.Future[w.Welcome] = self._loop.create_future()
        self._welcome = welcome
        missing, limit = "no connection was made", asyncio.timeout(seconds)
        try:
            async with limit:
                host, port = self._address
                transport, _ = await self._loop.create_connection(self._make_connection, host, port)
                # Kept for the next time: looking a name up needs a thread, which an exiting process cannot start.
                if peer := transport.get_extra_info("peername"):
                    self._address = (peer[0], peer[1])
                missing = "somebody listens there, but has sent no welcome"
                return await welcome
        except BaseException as error:
            if not welcome.cancel() and not welcome.cancelled():
                welcome.exception()  # seen
            if (attempt := self._attempt) is not None:
                try:
                    if not resume:
                        await self._take_leave(attempt)
                finally:
                    attempt.abort()
            if type(error) is TimeoutError and limit.expired():
                raise TimeoutError(f"{missing} within {seconds:.3g} s") from None
            raise

    async def _take_leave(self, connection: Connection) -> None:
        """Give up the place that this client may have by now: in a job nobody else could be that worker."""
        self._leaving = True
        self._farewell = Farewell(connection)
        try:
            await self._farewell.say()
        finally:
            self._farewell = None
            if self._over:
                self.close()

    def _make_connection(self) -> Connection:
        self._attempt = Connection(w.Side.CLIENT, self, self._user.landing, _no_limit, _LIMITS)
        return self._attempt

    async def _restore(self, error: BaseException) -> None:
        """Connect again, until it works or there is no hope."""
        try:
            while self.connection is None:
                if self._pause:
                    if self._loop.time() + self._pause > self._broke + self._patience:
                        return self._give_up(ConnectionLost(self._lost_text(error)))
                    await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
                self._pause = min(2 * self._pause or FIRST_PAUSE, LAST_PAUSE)
                error = await self._connect_again() or error
        except AkvError as refused:
            self._give_up(refused)
        finally:
            self._restoring = None

    async def _connect_again(self) -> BaseException | None:
        """Try once; return what to try again for. Raises an AkvError where that makes no sense."""
        left = self._broke + self._patience - self._loop.time()
        try:
            await self._connect(True, max(0.0, min(ATTEMPT, left)))
        except BackendUnavailable as error:  # the server has too many connections
            return error
        except AkvError:
            raise
        except Exception as error:
            return error
        return None

    def _lost_text(self, error: BaseException) -> str:
        waited = self._loop.time() - self._broke
        return f"the connection to {self.where} broke and could not be restored in {waited:.1f} s ({_reason(error)})"

    def _give_up(self, error: AkvError) -> None:
        if self._over:
            return
        self._over = True
        if self.connection is not None:
            self.connection.abort()
        else:
            self._end()
        self._user.lost(error)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # -- what the connection says; see connection.Owner -------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """Greet the server."""
        connection.send(self._hello(self._resume), w.URGENT)

    def received(self, connection: Connection, event: w.Event) -> None:
        """Take what the server sends."""
        if self._farewell is not None:
            self._farewell.received(event)
            return
        if type(event) is w.SmallMessage or type(event) is w.Result:
            self._pause = 0.0
            self._user.received(event)
            return
        match event:
            case w.Heartbeat():
                self._pause = 0.0
                if self._keepalive is not None:
                    self._keepalive.heard(event)
            case w.Welcome():
                self._welcomed(connection, event)
            case w.Refuse(code, text):
                raise w.error_from(code, text)
            case w.Goodbye(code, text):
                self._give_up(w.error_from(code, f"{self.where} has closed the connection: {text}"))
            case w.Challenge():
                raise AuthError("the server wants credentials, and this version of akv has none to give")
            case _:
                self._pause = 0.0
                self._user.received(event)

    def released(self, connection: Connection, messages: list[w.Message]) -> None:
        """The memory of requests is free."""
        self._user.released(messages)

    def lost(self, connection: Connection, error: AkvError | OSError | None) -> None:
        """The connection broke, or was never there, or has come to its end."""
        if isinstance(error, AkvError):
            error = type(error)(f"{self.where}: {error}")
        if self._attempt is connection and self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(error or ConnectionResetError("the server closed the connection"))
        if self._attempt is connection:
            self._attempt = None
            if self._farewell is not None:
                self._farewell.lost()
        if self.connection is connection:
            if connection.decoder.reserved:  # a part of a message had come
                self._pause = 0.0
            self._break_off(error)

    def _break_off(self, error: AkvError | OSError | None) -> None:
        self.connection = None
        if self._keepalive is not None:
            self._keepalive.stop()
        self._user.cut_off()
        if self._leaving:
            error = StoreClosed("the handle was closed")
        if isinstance(error, AkvError):
            self._give_up(error)
        if self._over:
            self._end()
        elif self._restoring is None:
            if not self._pause:
                self._broke = self._loop.time()
            self._restoring = self._loop.create_task(self._restore(error or ConnectionResetError("it was closed")))

    def _welcomed(self, connection: Connection, welcome: w.Welcome) -> None:
        if welcome.heartbeat <= 0:
            raise ProtocolError(f"the server wants a heartbeat every {welcome.heartbeat:g} s")
        connection.sender.limits = welcome.limits
        self.connection = connection
        self._keepalive = KeepAlive(connection, welcome.heartbeat)
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_result(welcome)
        if self._resume:
            self._user.restored()


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _no_limit(nbytes: int) -> bool:
    return True
