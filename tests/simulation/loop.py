"""An event loop without a selector: when nothing is left to do, its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.network import Network

__all__ = ["NODE", "Node", "SimLoop", "Stuck"]

NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("node", default=None)

# Virtual seconds that one turn of the loop takes: whoever polls without a pause gets somewhere.
TURN = 1e-6
# Far more than any run takes.
MOST_TURNS = 200_000


class Stuck(AssertionError):
    """Nothing will ever happen again, or it never ends; or what the loop has called has raised."""


class Node:
    """A process of the simulation. What it does runs in its context, so that the loop knows whose work is whose."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.context = contextvars.Context()
        self.context.run(NODE.set, self)
        self.frozen = False
        self.held: deque[asyncio.Handle] = deque()

    def __repr__(self) -> str:
        return self.name


class SimLoop(asyncio.BaseEventLoop):
    """One loop for all nodes; it holds back the callbacks of those that are frozen."""

    network: Network

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self.turns = 0
        self.complaint: dict[str, Any] | None = None
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self._now

    def freeze(self, node: Node) -> None:
        """As SIGSTOP does: nothing of this node runs, its timers expire unseen, what comes for it waits."""
        node.frozen = True

    def thaw(self, node: Node) -> None:
        """It goes on where it was."""
        node.frozen = False
        self._ready.extend(node.held)
        node.held.clear()

    @property
    def agenda(self) -> list[asyncio.Handle]:
        """What is still to come."""
        handles = [*self._ready, *self._scheduled]
        return [handle for handle in handles if not handle.cancelled()]

    # -- what BaseEventLoop leaves open -----------------------------------------------------------------------

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.network.connect(protocol_factory, host, port)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return self.network.listen(protocol_factory, host, port)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise AssertionError("a thread would decide what happens next")

    def _process_events(self, event_list: Any) -> None: ...

    def _write_to_self(self) -> None:
        assert self._thread_id in (None, threading.get_ident()), "a thread decides what happens next"

    def _run_once(self) -> None:
        self.turns += 1
        if self.complaint is not None:
            raise Stuck(f"{self.complaint['message']}: {self.complaint!r}") from self.complaint.get("exception")
        if self.turns > MOST_TURNS:
            raise Stuck(f"{self.turns} turns of the loop by {self._now:.3f} s, and no end")
        self._ring()
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            node = handle._context.get(NODE)
            if node is not None and node.frozen:
                node.held.append(handle)
            else:
                handle._run()
        self._now += TURN

    def _ring(self) -> None:
        """Timers that are due; if nothing else is to be done, the next ones are due now."""
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            self._pop(timers)
        if not self._ready and not self._stopping:
            if not timers:
                raise Stuck(f"at {self._now:.3f} s nothing is left that could happen")
            self._now = max(self._now, timers[0].when())
        while timers and timers[0].when() <= self._now:
            self._ready.append(self._pop(timers))

    def _pop(self, timers: list[asyncio.TimerHandle]) -> asyncio.TimerHandle:
        handle = heapq.heappop(timers)
        handle._scheduled = False
        return handle

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complaint = self.complaint or context
