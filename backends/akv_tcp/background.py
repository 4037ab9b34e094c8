"""What takes a client many requests and a disk: saves and loads, each in a thread of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from typing import Protocol

from akv import operations as ops
from akv.backend.thread_pool import ThreadPool
from akv.errors import AkvError
from akv.operations import Operation

from . import wire as w
from .exchange import Exchange
from .loading import load
from .saving import save

__all__ = ["BackgroundTask", "BackgroundTasks", "Client"]

Done = Callable[[Operation], None]


class Client(Protocol):
    """Who has the connection; from any thread."""

    def start(self, op: Operation, done: Done) -> None:
        """Send a request; `done` is called on the loop."""
        ...

    def cancel(self, op: Operation) -> None:
        """`op.cancelled` is set: have it end soon."""
        ...

    def tell(self, message: w.Message) -> None:
        """Send a message that has no answer, or drop it where there is no connection."""
        ...


class BackgroundTask:
    """One of them; see saving.Requester."""

    def __init__(self, client: Client, op: ops.Save | ops.Load, stream: int, loop: asyncio.AbstractEventLoop) -> None:
        self.stream = stream
        self._client, self._op, self._loop = client, op, loop
        self._exchanges: list[Exchange] = []

    def ask(self, make: Callable[[int], w.Request]) -> Exchange:
        """Send a request, which `make` makes when it is given a number; from the task's thread."""
        exchange = Exchange(self._op, make, self._loop)
        self._exchanges = [*self._pending(), exchange]
        exchange.cancelled = self._op.cancelled  # after that: whoever sets it now finds the exchange in the list
        self._client.start(exchange, exchange.over)
        return exchange

    def cut_short(self, error: AkvError) -> None:
        """End soon; from any thread."""
        for exchange in self._pending():
            exchange.cancelled = error
            self._client.cancel(exchange)

    def run(self, done: Done) -> None:
        """Do it, in the task's thread."""
        op = self._op
        try:
            if isinstance(op, ops.Save):
                save(self, op)
            else:
                load(self, op)
        except BaseException as error:
            # Of any kind: whoever awaits the operation has to hear of it.
            op.error = error
            self._give_up()
        self._client.tell(w.Release(self.stream))
        done(op)

    def _pending(self) -> list[Exchange]:
        return [exchange for exchange in self._exchanges if exchange.pending]

    def _give_up(self) -> None:
        """Nothing may be sent any more when the operation is over."""
        self.cut_short(AkvError(f"{self._op} has failed"))
        for exchange in self._pending():
            exchange.join()


class BackgroundTasks:
    """All of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pool = ThreadPool("akv-tcp-task", 1)  # more there are not at a time: both are fences
        self._streams = itertools.count(1)
        self._open: dict[Operation, BackgroundTask] = {}

    def begin(self, op: ops.Save | ops.Load, done: Done, loop: asyncio.AbstractEventLoop) -> None:
        """Do `op`, and call `done` in another thread."""
        task = self._open[op] = BackgroundTask(self._client, op, next(self._streams), loop)
        self._pool.submit(partial(task.run, partial(self._end, done)))

    def cancel(self, op: Operation) -> None:
        """`op.cancelled` was set; nothing where it is none of these, or is over."""
        task = self._open.get(op)
        if task is not None and op.cancelled is not None:
            task.cut_short(op.cancelled)

    def _end(self, done: Done, op: Operation) -> None:
        del self._open[op]
        done(op)
