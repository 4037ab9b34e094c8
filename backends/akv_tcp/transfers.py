"""A client's one stream: a cut of the store on its way out, or what is to be loaded on its way in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from akv import operations as ops
from akv.errors import AkvError, AkvTimeout, InvalidArgument, ProtocolError, QueueFull

from . import wire as w
from .exports import Cut, Export, ExportStates, FetchPiece
from .imports import Check, Import, ImportStates, StagePiece, Staging
from .stream_budget import StreamBudget

__all__ = ["TRANSFERS", "Transfers"]

TRANSFERS = frozenset((w.Capture, w.Fetch, w.Announce, w.Stage, w.Restore))

# Seconds without a request after which a stream is let go. A client may write to a slow disk meanwhile.
IDLE = 300.0
# What JSON takes in memory for each of its bytes; measured: 43 for lists of lists, the worst there is, 8 for contents.
_UNFOLDED = 48

C_ = TypeVar("C_", Cut, Staging)


class Transfers:
    """See wire.transfers, and stream_budget.Stream. All but the operations is for the server's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stream = 0
        self._content: Cut | Staging | None = None
        # Of the stream that is open, and no longer: a cycle with the session would wait for the garbage collector.
        self._stream_budget: StreamBudget | None = None
        self._attached: Callable[[], bool] | None = None
        self._used = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._gone = (-1, AkvError())  # the last stream that was let go of, and why; none has that number

    def operation(self, request: w.Request, stream_budget: StreamBudget, attached: Callable[[], bool]) -> ops.Operation:
        """The operation that a request asks for; `attached` says whether the client has a connection.

        Raises:
            AkvError: it makes no sense, or there is no room for it.
        """
        self._used = self._loop.time()
        match request:
            case w.Capture():
                self._open(request.stream, stream_budget, attached, 0)
                return Export() if request.values else ExportStates()
            case w.Fetch():
                return FetchPiece(self._find(request.stream, Cut), request.offset, request.nbytes)
            case w.Announce():
                stream, _, text = _piece(request)
                self._open(stream, stream_budget, attached, _UNFOLDED * len(text))
                return Check(text)
            case w.Stage():
                stream, offset, data = _piece(request)
                return StagePiece(self._find(stream, Staging), offset, data)
            case w.Restore():
                staging = self._find(request.stream, Staging)
                return (Import if staging.contents.values else ImportStates)(staging)
            case _:
                raise ProtocolError(f"{type(request).__name__} has nothing to do with streams")

    def answer(self, request: w.Request, op: ops.Operation) -> w.Result:
        """The answer to a request whose operation has ended. Raises what it has ended with."""
        wanted = _stream_of(request) == self._stream  # else it was released meanwhile
        if wanted:
            self._used = self._loop.time()
            if op.error is not None or isinstance(op, Import):
                self.close()
        if op.error is not None:
            raise op.error
        match op:
            case Export():
                self._content = op.cut if wanted else self._content
                return _result(request, (memoryview(op.cut.contents),))
            case FetchPiece():
                return _result(request, op.runs)
            case Check() if wanted:
                self._take(op.staging.nbytes)
                self._content = op.staging
            case _:
                pass
        return w.Result(request.request)

    def release(self, stream: int) -> None:
        """The client does not want this stream any more."""
        if stream == self._stream:
            self.close()

    def attached(self) -> bool:
        """Whether the client has a connection."""
        return self._attached is not None and self._attached()

    def make_way(self) -> None:
        """Another client needs the place of this one, which is away."""
        self._let_go(QueueFull("the client had no connection, and others saved or loaded; do it again"))

    def close(self) -> None:
        """Let go of everything."""
        if self._timer is not None:
            self._timer.cancel()
        if self._stream_budget is not None:
            self._stream_budget.close(self)
        self._timer = self._stream_budget = self._content = self._attached = None
        self._stream = 0

    # -- how it is done ---------------------------------------------------------------------------------------

    def _open(self, stream: int, stream_budget: StreamBudget, attached: Callable[[], bool], nbytes: int) -> None:
        if not stream:  # which stands for none
            raise ProtocolError("the streams of a client are numbered from 1 on")
        self.close()
        stream_budget.open(self)
        self._stream_budget, self._stream, self._attached = stream_budget, stream, attached
        self._take(nbytes)
        self._timer = self._loop.call_later(IDLE, self._look)

    def _take(self, nbytes: int) -> None:
        assert self._stream_budget is not None
        try:
            self._stream_budget.take(self, nbytes)
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        left = self._used + IDLE - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._let_go(AkvTimeout(f"nothing was asked of it for {IDLE:g} s"))

    def _let_go(self, error: AkvError) -> None:
        self._gone = self._stream, error
        self.close()

    def _find(self, stream: int, kind: type[C_]) -> C_:
        if stream == self._stream and isinstance(self._content, kind):
            return self._content
        gone, error = self._gone
        if stream == gone:
            raise type(error)(f"the server has let go of stream {stream}: {error}")
        raise InvalidArgument(f"there is no stream {stream} of that kind; the one that is open is {self._stream}")


def _piece(request: w.Batch) -> tuple[int, int, memoryview]:
    """The stream, the place in it, and the bytes. Raises ProtocolError."""
    if len(request.entries) == 1:
        entry, data = request.entries[0], request.data[0]
        plain = entry.dtype == w.DType.UINT8 and isinstance(data, (bytes, bytearray, memoryview))
        if plain and isinstance(entry.key, int) and entry.key > 0:
            return entry.key, entry.number, memoryview(data)  # type: ignore[arg-type]
    raise ProtocolError(f"{type(request).__name__} brings one entry of bytes, whose key is the stream's number")


def _stream_of(request: w.Request) -> object:
    return request.entries[0].key if isinstance(request, w.Batch) else getattr(request, "stream", 0)


def _result(request: w.Request, runs: tuple[memoryview, ...]) -> w.Result:
    nbytes = sum(map(len, runs))
    entry = w.Entry(None, w.Kind.DENSE, int(w.DType.UINT8), (nbytes,), 0, nbytes)
    return w.Result(request.request, (entry,), (runs if len(runs) != 1 else runs[0],))
