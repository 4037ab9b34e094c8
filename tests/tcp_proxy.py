"""A network that fails: a TCP proxy with a fate for each connection."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["CALM", "Fate", "Proxy", "fates"]


@dataclass(frozen=True)
class Fate:
    """What happens to one connection, once `after` bytes have gone `up` (to the server) or down (to the client).

    `cut` ends it at once, `half-close` ends one direction, `swallow` lets what comes then vanish. All bytes take
    `delay` seconds. With `twin` the server gets the client's bytes on a second connection, too, `lag` seconds later.
    """

    what: Literal["nothing", "cut", "half-close", "swallow"] = "nothing"
    up: bool = True
    after: int = 0
    delay: float = 0.0
    twin: bool = False
    lag: float = 0.0


CALM = Fate()


def fates(seed: int, nbytes: int) -> Iterator[Fate]:
    """Any of them, about `nbytes` bytes of the client's after the connection was made; answers are shorter."""
    chance = random.Random(seed)
    while True:
        up = chance.random() < 0.5
        yield Fate(
            chance.choice(["cut"] * 6 + ["half-close"] * 3 + ["swallow"]),  # type: ignore[arg-type]
            up,
            after=chance.randint(0, 2 * nbytes if up else nbytes // 50),
            delay=chance.choice([0.0, 0.0, 0.002]),
            twin=chance.random() < 0.3,
            lag=chance.choice([0.0, 0.03]),
        )


class Proxy:
    """Attributes: count: the connections that were made; struck: what fate did to them; twins: how many had one."""

    def __init__(self, port: int, fates: Iterator[Fate]) -> None:
        self._port = port
        self._fates = fates
        self.count = self.twins = 0
        self.struck: Counter[str] = Counter()
        self.links: set[_Link] = set()

    @property
    def cuts(self) -> int:
        """How many came to their end by fate."""
        return self.struck.total()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        """Yields its URL, without a job."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for link in list(self.links):
                link.abort()
            while self.links:
                await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        self.count += 1
        return _Link(self, next(self._fates), self._port).client


class _Link:
    """A client's connection, and those to the server."""

    def __init__(self, proxy: Proxy, fate: Fate, port: int) -> None:
        self._proxy, self._fate, self._port = proxy, fate, port
        self._passed = 0
        self._struck = False
        self.client = _End(self, self.up)
        self.server = _End(self, self.down, fate.delay)
        self.twin = _End(self, lambda data: None, fate.delay + fate.lag)
        self._opening: asyncio.Task[None] | None = None
        proxy.links.add(self)

    def opened(self, end: _End) -> None:
        if end is self.client:
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.server, "127.0.0.1", self._port)
            if self._fate.twin:
                self._proxy.twins += 1
                await loop.create_connection(lambda: self.twin, "127.0.0.1", self._port)
        except OSError:
            self.abort()

    def up(self, data: bytes) -> None:
        data = self._strike(True, data)
        self.server.write(data)
        if self._fate.twin:
            self.twin.write(data)

    def down(self, data: bytes) -> None:
        self.client.write(self._strike(False, data))

    def _strike(self, up: bool, data: bytes) -> bytes:
        """What of `data` passes, before fate does its work."""
        fate = self._fate
        if fate.what == "nothing" or up is not fate.up:
            return data
        if self._struck:
            return b""
        self._passed += len(data)
        if self._passed <= fate.after:
            return data
        self._struck = True
        self._proxy.struck[fate.what] += 1
        loop, end = asyncio.get_running_loop(), self.server if up else self.client
        if fate.what == "cut":
            loop.call_later(fate.delay, self.abort)
        elif fate.what == "half-close":
            loop.call_later(fate.delay, end.finish)
        return data[: len(data) - (self._passed - fate.after)]

    def closed(self, end: _End) -> None:
        if end is not self.twin:
            self.client.close()
            self.server.close()
            # The twin lives until its bytes are through: a lost connection's packets may come late.
            asyncio.get_running_loop().call_later(2 * self._fate.lag, self.twin.close)
        if all(each.gone for each in (self.client, self.server, self.twin)):
            self._proxy.links.discard(self)

    def abort(self) -> None:
        for end in (self.client, self.server, self.twin):
            end.abort()


class _End(asyncio.Protocol):
    """One end of a connection; what is written before it is open is kept."""

    def __init__(self, link: _Link, received: Callable[[bytes], None], delay: float = 0.0) -> None:
        self._link, self._received, self._delay = link, received, delay
        self._transport: asyncio.Transport | None = None
        self._late: deque[bytes] = deque()
        self._waiting: list[bytes] = []
        self._over = False

    @property
    def gone(self) -> bool:
        return self._over and self._transport is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if self._over:
            transport.abort()  # type: ignore[attr-defined]
            return
        for data in self._waiting:
            self.write(data)
        self._link.opened(self)

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def write(self, data: bytes) -> None:
        if not data or self._over:
            return
        if self._transport is None:
            self._waiting.append(data)
        elif self._delay:
            self._late.append(data)
            asyncio.get_running_loop().call_later(self._delay, self._write_late)
        else:
            self._transport.write(data)

    def _write_late(self) -> None:
        data = self._late.popleft()
        if self._transport is not None and not self._over:
            self._transport.write(data)

    def finish(self) -> None:
        """Send no more."""
        self._over = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._end()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            if self._transport is None:
                self._link.closed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over, self._transport = True, None
        self._link.closed(self)
