"""One direction of a simulated connection: bytes come in order, after some time, in pieces, or never."""

from __future__ import annotations

import contextvars
import random
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING
from zlib import crc32

from simulation.loop import SimLoop
from simulation.trace import Trace

if TYPE_CHECKING:
    from simulation.transport import End

__all__ = ["Lane", "Mark", "Pace"]

_NOBODY = contextvars.Context()
_LARGEST = 32 * 1024


class Mark(Enum):
    """What comes besides bytes."""

    END = "end"
    RESET = "reset"


class Pace:
    """How long things take, drawn anew each time."""

    def __init__(self, chance: random.Random, least: float, most: float) -> None:
        self._chance = chance
        self._least, self._most = least, most

    def __call__(self) -> float:
        return self._chance.uniform(self._least, self._most)


class Lane:
    """Carries what `source` writes to `target`; `back` is the other direction.

    Attributes:
        window: the most bytes that are on their way, or have arrived and were not read.
        hole: nothing arrives any more, and nobody is told.
        late: nothing arrives before this time.
        left: after so many more bytes both directions are reset; None: no such thing is planned.
    """

    source: End
    target: End
    back: Lane

    def __init__(
        self, loop: SimLoop, chance: random.Random, pace: Pace, trace: Trace, name: str, window: int, choppy: float
    ) -> None:
        self.window = window
        self.hole = False
        self.late = 0.0
        self.left: int | None = None
        self._loop = loop
        self._chance = chance
        self._pace = pace
        self._trace = trace
        self._name = name
        self._choppy = choppy
        self._flying: deque[bytes | Mark] = deque()
        self._load = 0
        self._last = 0.0
        self._over = self._severed = False  # a reset was sent; nothing is sent any more

    def piece(self, view: memoryview) -> bytes:
        """What the network takes now of what is to be sent; empty: nothing."""
        most = min(len(view), self.window - self._load, _LARGEST)
        if most > 1 and self._chance.random() < self._choppy:
            most = self._chance.randint(1, most)
        return bytes(view[:most])

    def put(self, piece: bytes | Mark) -> None:
        """Send it."""
        if isinstance(piece, bytes):
            self._load += len(piece)
            if self.left is not None and len(piece) >= self.left:
                self._fly(piece[: self.left])
                self.sever()
                self.back.sever()
                return
            if self.left is not None:
                self.left -= len(piece)
        self._fly(piece)

    def reset(self) -> None:
        """Have the other end be told that the connection is lost, after what is on its way."""
        self._fly(Mark.RESET)

    def sever(self) -> None:
        """The same, and what is sent from now on is lost."""
        self.reset()
        self._severed = True

    def _fly(self, piece: bytes | Mark) -> None:
        if self._severed:
            return
        if piece is Mark.RESET:
            if self._over:
                return
            self._over = True
        now = self._loop.time()
        self._last = max(now + self._pace(), self._last)
        self._flying.append(piece)
        self._loop.call_at(self._last, self._arrive, context=_NOBODY)

    def _arrive(self) -> None:
        if self._loop.time() < self.late:
            self._loop.call_at(self.late, self._arrive, context=_NOBODY)
            return
        piece = self._flying.popleft()
        what = piece.value if isinstance(piece, Mark) else f"{len(piece)} {crc32(piece):08x}"
        self._trace.note(f"{self._name} {'lost' if self.hole else 'brings'} {what}")
        if not self.hole and not self.target.take(piece) and isinstance(piece, bytes):
            self.back.reset()

    def read(self, nbytes: int) -> None:
        """The receiver has made room."""
        self._load -= nbytes
        if self.source.waits:
            when = max(self._loop.time() + self._pace(), self.late)
            self._loop.call_at(when, self.source.writable, context=self.source.context)
