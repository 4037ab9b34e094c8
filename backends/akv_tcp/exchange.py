"""One request of several that an operation takes, and its answer: asked by a thread that waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from akv.errors import ProtocolError, StoreClosed
from akv.operations import Operation
from akv.values.selection import NO_KEYS

from . import wire as w

__all__ = ["Exchange"]

# Seconds between two looks whether the loop is there still that an answer is to come on.
_LOOK = 1.0


class Exchange(Operation):
    """A request for the sake of `op`, which `make` makes when it is given a number."""

    verb = "exchange"

    def __init__(self, op: Operation, make: Callable[[int], w.Request], loop: asyncio.AbstractEventLoop) -> None:
        self.make = make
        self.entries: Sequence[w.Entry] = ()
        self.data: Sequence[w.Payload] = ()
        self._op, self._loop = op, loop
        self._over = threading.Event()
        super().__init__(NO_KEYS, 0, 0)

    @property
    def pending(self) -> bool:
        """Whether it may still be under way."""
        return not self._over.is_set()

    def over(self, op: Operation) -> None:
        """It has ended."""
        self._over.set()

    def join(self) -> None:
        """Wait for its end, in another thread than the loop's. Raises StoreClosed: the loop is gone."""
        while not self._over.wait(_LOOK):
            if self._loop.is_closed():
                raise StoreClosed(f"{self}: the event loop was closed meanwhile")

    def wait(self) -> None:
        """Wait for its end, and raise the error that it ended with."""
        self.join()
        if self.error is not None:
            raise self.error

    def wait_for_bytes(self) -> memoryview:
        """Wait for its end; return the bytes that the answer has brought."""
        self.wait()
        if len(self.entries) == 1 and self.entries[0].dtype == w.DType.UINT8:
            found = self.data[0]
            if isinstance(found, (bytes, bytearray, memoryview)):
                return memoryview(found)
        raise ProtocolError(f"{self}: the server's answer brings no bytes")

    def __str__(self) -> str:
        return str(self._op)
