"""The server: it puts stores on the network. One port; each client names the job that it is for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from akv.engine import Engine
from akv.errors import BackendUnavailable, InvalidArgument, ProtocolError, SessionExpired, StoreClosed
from akv.job import Settings
from akv.job.local import LocalJob
from akv.job.worker import Worker

from . import wire as w
from .agreed import rules
from .channel import VERSION
from .jobs import Jobs, MakeEngine, MakeRounds
from .memory_budget import MemoryBudget
from .peer import Peer
from .session import Session
from .terms import Terms

__all__ = ["Server"]


class Server:
    """Accepts connections and serves jobs. See peer.Acceptor.

    Args:
        make_engine: called with a job's name when its first client comes; what it returns stays until the server ends.
        terms: what clients are granted.
        make_rounds: the same as `make_engine`, for jobs whose first client says how many workers make a round.
    """

    new_session: Callable[[str, bytes, Engine], Session] = Session

    def __init__(
        self, make_engine: MakeEngine, terms: Terms | None = None, make_rounds: MakeRounds | None = None
    ) -> None:
        self.terms = terms or Terms()
        self.budget = MemoryBudget(self.terms.held)
        self.jobs = Jobs(make_engine, make_rounds or _no_rounds, self.terms)
        self._sessions: dict[tuple[str, bytes], Session] = {}
        self._peers: dict[Peer, None] = {}
        self._store = secrets.token_bytes(16)
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._swept = self._awake = 0.0  # when that was done last; how long this loop has run, without standstills
        self._stopping = False

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address, with the port that was chosen for 0.

        Raises:
            OSError: the address cannot be bound.
        """
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(lambda: Peer(self).connection, host, port, backlog=1024)
        self._sweep()
        bound = self._server.sockets[0].getsockname()
        return bound[0], bound[1]

    async def stop(self, patience: float = 10.0) -> None:
        """Take no more requests, finish those at work (for `patience` seconds), tell the clients, and close."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        farewell = StoreClosed("the server was stopped")
        for session in self._sessions.values():
            session.stop(farewell)
        self.jobs.stop(farewell)
        deadline = self._loop.time() + patience
        while any(session.busy for session in self._sessions.values()) and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)  # what was answered last is on its way
        for peer in list(self._peers):
            peer.connection.say_goodbye(farewell)
        while self._peers and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        await self._end()

    async def _end(self) -> None:
        for peer in list(self._peers):
            peer.connection.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for session in list(self._sessions.values()):
            self.forget(session)
        self.jobs.close()
        while self._peers:  # a turn of the loop or two
            await asyncio.sleep(0)

    # -- clients ----------------------------------------------------------------------------------------------

    def join(self, peer: Peer) -> bool:
        """Count a connection in; False: there are too many."""
        self._peers[peer] = None
        return len(self._peers) <= self.terms.connections and not self._stopping

    def leave(self, peer: Peer) -> None:
        """Count a connection out."""
        self._peers.pop(peer, None)

    def admit(self, hello: w.Hello) -> Session:
        """Find or make the session of a client.

        Raises:
            StoreClosed, ProtocolError, SessionExpired, BackendUnavailable: it cannot be served.
            InvalidArgument: its wishes are not what holds in the job, or its rank is taken.
        """
        if self._stopping:
            raise StoreClosed("the server was stopped")
        if VERSION not in hello.versions:
            raise ProtocolError(f"this server speaks version {VERSION}, the client {list(hello.versions)}")
        session = self._sessions.get((hello.job, hello.client))
        if session is not None:
            return session
        if hello.resume:
            raise SessionExpired(
                f"the server does not know this client: it was started anew, or the client was away for more than "
                f"{self.terms.lease:g} s; what was under way may have been done or not, so connect anew and pull first"
            )
        return self._open(hello)

    def _open(self, hello: w.Hello) -> Session:
        if len(self._sessions) >= 2 * self.terms.connections:
            self._forget_oldest()
        engine = self.jobs.join(hello)
        session = self.new_session(hello.job, hello.client, engine)
        if isinstance(worker := engine.backend, Worker):
            worker.silence, worker.attached, worker.held = session.silence, session.attached, session.held
        else:
            session.reads_only = hello.role is w.Role.READER
        self._sessions[session.place] = session
        return session

    def welcome(self, session: Session, hello: w.Hello) -> w.Welcome:
        """What the client is told."""
        backend, settled, heartbeat = session.engine.backend, w.Settings(), self.terms.heartbeat
        if isinstance(backend, Worker):
            settled = rules(backend.job.settings)
            heartbeat = min(heartbeat, backend.job.settings.worker_timeout / 4)
        return w.Welcome(
            VERSION,
            self._store,
            0,
            None if hello.role is w.Role.READER else backend.rank,
            backend.num_workers,
            w.Limits(entries=1 << 16, message=self.terms.held, window=self.terms.window),
            heartbeat,
            settled,
            hello.resume,
        )

    def forget(self, session: Session, *, left: bool = True) -> None:
        """A client has left for good, or (not `left`) was away for too long."""
        if self._sessions.pop(session.place, None) is not None:
            session.close()
            self.jobs.part(session.place[0], session.engine, left=left)

    def _forget_oldest(self) -> None:
        away = [session for session in self._sessions.values() if session.responder is None]
        if not away:
            raise BackendUnavailable("the server has all the sessions that it takes; try later")
        self.forget(min(away, key=lambda session: session.away_since), left=False)

    def _lease(self, session: Session) -> float:
        worker = session.engine.backend
        if not isinstance(worker, Worker):
            return self.terms.lease
        return max(self.terms.lease, worker.job.settings.worker_timeout)

    def _sweep(self) -> None:
        now = self._loop.time()
        self._awake += min(now - self._swept, self.terms.heartbeat)
        self._swept = now
        for peer in list(self._peers):
            peer.check(self._awake)
        for session in list(self._sessions.values()):
            if session.responder is None and now - session.away_since > self._lease(session):
                self.forget(session, left=False)
        self._sweeping = self._loop.call_later(self.terms.heartbeat / 2, self._sweep)


def _no_rounds(job: str, settings: Settings) -> LocalJob:
    raise InvalidArgument(f"workers={settings.workers}: this server has no rounds")
