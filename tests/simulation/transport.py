"""One end of a simulated connection: what asyncio's transports promise, and nothing beyond it."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections import deque
from typing import Any

from simulation.lane import Lane, Mark
from simulation.loop import SimLoop

__all__ = ["End"]


class End(asyncio.Transport):
    """Where a process holds a connection.

    What is written is read from the writer's memory when it leaves, as uvloop does it, and not before: a buffer that
    changes meanwhile goes out changed. With `eager` it leaves at once as far as the network takes it, as in asyncio.

    Attributes:
        lane: takes what this end writes.
        gone: the protocol has been told that the connection is lost.
    """

    lane: Lane

    def __init__(self, loop: SimLoop, context: contextvars.Context, peer: tuple[str, int], eager: bool) -> None:
        super().__init__({"peername": peer, "socket": _Socket()})
        self.context = context
        self.gone = False
        self._loop = loop
        self._eager = eager
        self._protocol: Any = None
        self._out: deque[memoryview] = deque()
        self._size = self._high = self._low = 0
        self._inbox = bytearray()
        self._eof = self._closing = self._lost = self._reset = self._told = False
        self._paused = self._waking = self._pumping = self._full = False

    def begin(self, protocol: Any, waiter: asyncio.Future[None] | None = None) -> None:
        """The connection is there."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self.gone:  # it was lost before it was accepted
            self._loop.call_soon(self._tell, ConnectionResetError("reset"), context=self.context)
        self._wake()
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- writing ----------------------------------------------------------------------------------------------

    def writelines(self, list_of_data: Any) -> None:
        """Without a copy, as uvloop does it, and asyncio from 3.12 on."""
        for data in list_of_data:
            self.write(data)

    def write(self, data: Any) -> None:
        view = memoryview(data)
        assert view.nbytes == len(view), "asyncio would send only a part of it: cast it to bytes"
        if self._lost or not view.nbytes:
            return
        self._out.append(view)
        self._size += view.nbytes
        if self._eager:
            self._pump()
        elif not self._pumping:
            self._pumping = True
            self._loop.call_soon(self.writable, context=self.context)
        if self._size > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def writable(self) -> None:
        """The network takes more."""
        self._pumping = False
        if self._lost:
            return
        self._pump()
        if self._size <= self._low and self._full:
            self._full = False
            self._protocol.resume_writing()
        if self._closing and not self._out:
            self._force(None)

    def _pump(self) -> None:
        while self._out and (piece := self.lane.piece(self._out[0])):
            self._size -= len(piece)
            if len(piece) == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][len(piece) :]
            self.lane.put(piece)

    @property
    def waits(self) -> bool:
        """More is to be sent than the network takes."""
        return bool(self._out)

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    # -- reading ----------------------------------------------------------------------------------------------

    def take(self, piece: bytes | Mark) -> bool:
        """Something has arrived; False: nobody is here any more."""
        if piece is Mark.RESET:
            self._reset = True
            self._force(ConnectionResetError("connection reset by peer"))
        elif self.gone:
            return False
        elif piece is Mark.END:
            self._eof = True
        else:
            assert isinstance(piece, bytes)
            self._inbox += piece
        self._wake()
        return True

    def is_reading(self) -> bool:
        return not (self._paused or self._closing)

    def pause_reading(self) -> None:
        assert self.is_reading()
        self._paused = True

    def resume_reading(self) -> None:
        assert self._paused or self._closing
        self._paused = False
        self._wake()

    def _wake(self) -> None:
        if not self._waking and self._protocol is not None and self.is_reading() and (self._inbox or self._eof):
            self._waking = True
            self._loop.call_soon(self._read, context=self.context)

    def _read(self) -> None:
        self._waking = False
        if not self.is_reading():
            return
        if self._inbox:
            buffer = self._protocol.get_buffer(-1)
            count = min(len(buffer), len(self._inbox))
            assert count, "the protocol gave an empty buffer"
            buffer[:count] = self._inbox[:count]
            del self._inbox[:count]
            self.lane.back.read(count)
            self._protocol.buffer_updated(count)
        elif not self._protocol.eof_received():
            self.close()
        self._wake()

    # -- the end ----------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._out:
                self._force(None)

    def abort(self) -> None:
        self._force(None)

    def die(self) -> None:
        """The process has ended: what is out is out, and nobody here is told; see `bury`."""
        if not self.gone:
            self._lost = self._closing = True
            self._hang_up()

    def bury(self) -> None:
        """Tell a protocol whose process has ended that it has, so that it lets go of everything."""
        self.die()
        if not self._told and self._protocol is not None:
            self._loop.call_soon(self._tell, ConnectionResetError("the process has ended"), context=self.context)

    def _force(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._out.clear()
            self._size = 0
            self._loop.call_soon(self._finish, error, context=self.context)

    def _finish(self, error: Exception | None) -> None:
        if not self.gone:
            self._hang_up()
            if self._protocol is not None:
                self._tell(error)

    def _tell(self, error: Exception | None) -> None:
        if not self._told:
            self._told = True
            self._protocol.connection_lost(error)

    def _hang_up(self) -> None:
        self.gone = True
        if not self._reset:
            # Who closes without having read everything resets the connection, and what is on its way is lost.
            self.lane.put(Mark.RESET if self._inbox else Mark.END)


class _Socket:
    """What can be set, and changes nothing here."""

    family = socket.AF_INET

    def setsockopt(self, *_: Any) -> None: ...
