"""A network between nodes, with the harm that can be done to it."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from typing import Any

from simulation.lane import Lane, Pace
from simulation.loop import NODE, Node, SimLoop
from simulation.plan import Plan
from simulation.trace import Trace
from simulation.transport import End

__all__ = ["Cable", "Network"]


class Cable:
    """A connection of a client: `up` leads to the server, `down` to the client."""

    def __init__(self, name: str, node: Node, up: Lane, down: Lane, client: End, server: End) -> None:
        self.name, self.node, self.up, self.down = name, node, up, down
        self.ends = (client, server)
        for lane, back, source, target in ((up, down, client, server), (down, up, server, client)):
            lane.back, lane.source, lane.target = back, source, target
            source.lane = lane

    @property
    def open(self) -> bool:
        return not all(end.gone for end in self.ends)

    def cut(self, lane: Lane, after: int) -> None:
        """Both ends lose the connection when so many more bytes have passed; with 0 now."""
        if after:
            lane.left = after
        else:
            self.up.sever()
            self.down.sever()

    def stall(self, until: float) -> None:
        """Nothing more arrives before that."""
        self.up.late = max(self.up.late, until)
        self.down.late = max(self.down.late, until)


class Network:
    """See SimLoop: it asks this one for connections."""

    def __init__(self, loop: SimLoop, chance: random.Random, trace: Trace, pace: Pace, plan: Plan) -> None:
        loop.network = self
        self.pace = pace
        self.unreachable: dict[Node, float] = {}  # who gets no new connection before when
        self._loop = loop
        self._chance = chance
        self._trace = trace
        self._plan = plan
        self._cables: list[Cable] = []
        self._listener: _Listener | None = None
        self.connections = 0  # so far

    @property
    def cables(self) -> list[Cable]:
        """Those that at least one end holds."""
        self._cables = [cable for cable in self._cables if cable.open]
        return self._cables

    def of(self, node: Node) -> list[Cable]:
        return [cable for cable in self.cables if cable.node is node]

    def listen(self, factory: Callable[[], Any], host: str, port: int) -> _Listener:
        self._listener = _Listener((host, port or 7070), factory)
        return self._listener

    async def connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple[End, Any]:
        node = NODE.get()
        assert node is not None
        await asyncio.sleep(self.pace() + self.pace())
        if self._loop.time() < self.unreachable.get(node, 0.0):
            await self._fail()
        listener = self._listener
        if listener is None or not listener.serving:
            raise ConnectionRefusedError("nobody listens there")
        cable = self._lay(node, listener)
        protocol, waiter = factory(), self._loop.create_future()
        client, server = cable.ends
        self._loop.call_soon(client.begin, protocol, waiter)
        self._loop.call_later(self.pace(), listener.accept, server, context=listener.context)
        try:
            await waiter
        except BaseException:
            client.close()
            raise
        return client, protocol

    async def _fail(self) -> None:
        if self._chance.random() < 0.5:
            raise ConnectionRefusedError("the network is down")
        await self._loop.create_future()  # until the caller loses patience

    def _lay(self, node: Node, listener: _Listener) -> Cable:
        self.connections += 1
        name = f"{node}#{self.connections}"
        self._trace.note(f"{name} connects")
        window = self._chance.choice(self._plan.windows)
        loop, chance, choppy = self._loop, self._chance, self._plan.choppy
        up, down = (Lane(loop, chance, self.pace, self._trace, name + arrow, window, choppy) for arrow in "^v")
        eager = chance.random() < 0.5
        # The context that the protocol's callbacks run in, as asyncio has it: the one in which it was made.
        client = End(loop, contextvars.copy_context(), listener.address, eager)
        server = End(loop, listener.context, (node.name, self.connections), chance.random() < 0.5)
        cable = Cable(name, node, up, down, client, server)
        self._cables.append(cable)
        return cable


class _Listener(asyncio.AbstractServer):
    def __init__(self, address: tuple[str, int], factory: Callable[[], Any]) -> None:
        self.address = address
        self.context = contextvars.copy_context()
        self.serving = True
        self.sockets = [self]
        self._factory = factory

    def accept(self, end: End) -> None:
        if self.serving:
            end.begin(self._factory())
        else:
            end.abort()

    def getsockname(self) -> tuple[str, int]:
        return self.address

    def close(self) -> None:
        self.serving = False

    async def wait_closed(self) -> None: ...
