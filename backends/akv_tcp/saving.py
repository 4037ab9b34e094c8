"""`save` by a client: the store's contents and arrays come from the server, the files are the client's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from akv import operations as ops
from akv.checkpoint import Contents, open_writer
from akv.checkpoint.layout import Tensor
from akv.errors import ProtocolError

from . import wire as w
from .exchange import Exchange

__all__ = ["PIECE", "Requester", "save"]

# Two of them are in memory at a time: one is written while the next one comes. At 8 MiB a round trip of 1 ms costs a
# link of 10 Gbit/s an eighth.
PIECE = 8 << 20


class Requester(Protocol):
    """Who sends requests for a thread. `stream`: the number that they name, see wire.transfers."""

    stream: int

    def ask(self, make: Callable[[int], w.Request]) -> Exchange:
        """Send a request, which `make` makes when it is given a number."""
        ...


def save(task: Requester, op: ops.Save) -> None:
    """Write a checkpoint.

    Raises:
        AkvError: the checkpoint that was there is there still.
    """
    with open_writer(op.verb, op.path, op.values, op.step) as writer:
        stream, values = task.stream, op.values
        text = task.ask(lambda number: w.Capture(number, 0, None, stream, values)).wait_for_bytes()
        contents = Contents.decode(bytes(text))
        if contents.values is not values:
            raise ProtocolError(f"{op}: the server gives other contents than were asked for")
        _, nbytes = contents.tensors()
        op.expect(nbytes)
        writer.commit(contents.updater, [writer.write_arrays(contents.records, _Inflow(task, nbytes).read)])


class _Inflow:
    """The bytes of all arrays, in their order."""

    def __init__(self, task: Requester, nbytes: int) -> None:
        self._task, self._nbytes = task, nbytes
        self._came = 0
        self._left = memoryview(b"")
        self._coming = self._ask()

    def read(self, tensor: Tensor) -> Iterator[memoryview]:
        """Those of the next array."""
        missing = tensor.nbytes
        while missing:
            if not self._left:
                self._left = self._next()
            piece, self._left = self._left[:missing], self._left[missing:]
            missing -= len(piece)
            yield piece

    def _next(self) -> memoryview:
        assert self._coming is not None
        data = self._coming.wait_for_bytes()
        self._came += len(data)
        if not 0 < len(data) <= PIECE or self._came > self._nbytes:
            raise ProtocolError(f"the server gave {len(data)} bytes; {self._came} of {self._nbytes} have come")
        self._coming = self._ask()
        return data

    def _ask(self) -> Exchange | None:
        if self._came == self._nbytes:
            return None
        stream, offset = self._task.stream, self._came
        return self._task.ask(lambda number: w.Fetch(number, 0, None, stream, offset, PIECE))
