"""What the tests of servers share: one on the test's loop, in a thread, in a process; a client that says anything."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import numpy as np

from akv.backend.local import LocalBackend
from akv.backend.registry import resolve
from akv.engine import Engine
from akv.job import Settings
from akv.job.local import LocalJob
from akv.portal import Portal
from akv.values.keys import Key
from akv_memory.storage import MemoryStorage
from akv_tcp import wire as w
from akv_tcp.server import Server
from akv_tcp.session import Session
from akv_tcp.terms import Terms

# Far longer than anything here takes: it only turns a hang into a failure.
PATIENCE = 20.0
# Beats so quickly that a test can wait for silence.
QUICK = Terms(heartbeat=0.1, greeting=0.3, stall=0.4)

_SERVE = """
import sys
from akv_tcp.serve import serve
sys.exit(serve("127.0.0.1:0", None, "memory://"))
"""


# What is not finite is a value like others to the contract of a backend.
TAKES_ALL = _SERVE.replace("memory://", "memory://?on_nonfinite=allow")


@contextmanager
def process(code: str = _SERVE) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own: its URL without a job. It has to end well when it is told to."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1], server
            if server.poll() is None:
                server.terminate()
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()


def engine(job: str) -> Engine:
    """A store in memory that carries everything out in its threads: the server's loop must wait for no updater."""
    location = resolve("memory://", {})
    return Engine(location.provider.open("", location.options), inline=False)


def rounds(job: str, settings: Settings) -> LocalJob:
    """The same, for a job with workers."""
    location = resolve("memory://", {})
    backend = location.provider.open("", location.options)
    assert isinstance(backend, LocalBackend)
    return LocalJob(backend, settings, "reject", inline=False, winds=False)


def stored(server: Server, job: str, key: Key) -> np.ndarray:
    """A copy of what is stored, read behind the store's back."""
    storage = server.jobs.store(job).storage
    assert isinstance(storage, MemoryStorage)
    return storage._catalog.entries[key].array.copy()


class Running(Server):
    """A server, and where it is."""

    url: str
    port: int

    async def run(self, port: int = 0) -> None:
        host, self.port = await self.start("127.0.0.1", port)
        self.url = f"tcp://{host}:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._peers)

    @property
    def sessions(self) -> list[Session]:
        return list(self._sessions.values())


@asynccontextmanager
async def serving(
    terms: Terms | None = None,
    port: int = 0,
    make_engine: Callable[[str], Engine] = engine,
    new_session: Callable[[str, bytes, Engine], Session] = Session,
) -> AsyncIterator[Running]:
    """A server on this loop."""
    server = Running(make_engine, terms, rounds)
    server.new_session = new_session
    await server.run(port)
    try:
        yield server
    finally:
        async with asyncio.timeout(PATIENCE):
            await server.stop()
    await until(lambda: server.budget.held == 0)


class Here:
    """A server in a thread of this process."""

    def __init__(self, terms: Terms | None = None) -> None:
        self._portal = Portal("akv-server")
        self.server = Running(engine, terms, rounds)
        self._portal.run(self.server.run())
        self.url = self.server.url

    def close(self) -> None:
        self._portal.run(self.server.stop())
        self._portal.close()


class Stranger:
    """A client that says what a test wants it to say, and reads when it is told to."""

    def __init__(self, server: Running) -> None:
        self.link = w.Link(w.Side.CLIENT)
        self.sender = w.Sender(self.link)
        self.decoder = w.Decoder(self.link, lambda message, index, nbytes: bytearray(nbytes), lambda nbytes: True)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self._place = ("127.0.0.1", server.port)

    async def __aenter__(self) -> Stranger:
        await asyncio.get_running_loop().sock_connect(self.socket, self._place)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def send(self, *messages: w.Message) -> None:
        for message in messages:
            self.sender.put(message)
        while buffers := self.sender.next_batch():
            await self.send_bytes(b"".join(buffers))
        self.sender.drained()

    async def event(self) -> w.Event | None:
        """The next message, heartbeats left out; None when the server has closed the connection."""
        while True:
            while (event := self.decoder.next_event()) is not None:
                if not isinstance(event, w.Heartbeat | w.Part):
                    return event
            try:
                async with asyncio.timeout(PATIENCE):
                    count = await asyncio.get_running_loop().sock_recv_into(self.socket, self.decoder.get_buffer())
            except ConnectionError:
                return None
            if not count:
                return None
            self.decoder.buffer_updated(count)

    async def greet(self, job: str = "job", client: bytes = bytes(16), resume: bool = False) -> w.Welcome:
        await self.send(w.Hello((1,), client, job, resume=resume))
        welcome = await self.event()
        assert isinstance(welcome, w.Welcome)
        self.sender.limits = welcome.limits
        return welcome


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop go round until `condition` holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)
