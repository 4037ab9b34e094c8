"""What the clients did and saw. Push i of a key adds one to its element i, so a value says which pushes are in it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from simulation.loop import SimLoop
from simulation.trace import Trace

__all__ = ["HEIRS", "SIZE", "Call", "History", "Reading"]

# Elements of a value: the first say who initialised it, each other one belongs to a push.
HEIRS, SIZE = 16, 240


@dataclass(slots=True)
class Reading:
    """A value of one key that a call has returned."""

    key: str
    value: np.ndarray


@dataclass(slots=True, eq=False)
class Call:
    """One call of a verb, of one handle.

    Attributes:
        handle: of whom: a number.
        marks: the element that it adds one to, for each key that it pushes to.
        began, ended: when, by a count of all that happened; None: it has not.
        at, until: the same in virtual seconds.
        versions: those that it returned, by key.
        error: what it ended with.
        cancelled: somebody asked for that.
    """

    number: int
    who: str
    handle: int
    verb: str
    keys: tuple[str, ...]
    began: int
    at: float
    marks: dict[str, int] = field(default_factory=dict)
    min_version: int = 0
    cancelled: bool = False
    ended: int | None = None
    until: float = 0.0
    error: BaseException | None = None
    versions: dict[str, int] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return self.ended is not None and self.error is None

    def __str__(self) -> str:
        what = f"{self.who}/{self.handle} {self.verb} {','.join(self.keys)}"
        marks = "".join(f" +{mark}" for mark in self.marks.values())
        return f"{self.number}: {what}{marks}" + (f" from {self.min_version}" if self.min_version else "")


class History:
    """All calls. A client that has crashed says nothing any more."""

    def __init__(self, loop: SimLoop, trace: Trace) -> None:
        self.calls: list[Call] = []
        self.dead: set[str] = set()
        self._loop = loop
        self._trace = trace
        self._clock = itertools.count(1)
        self._marks: dict[str, int] = {}

    def begin(self, who: str, handle: int, verb: str, *keys: str, pushes: bool = False, min_version: int = 0) -> Call:
        call = Call(len(self.calls) + 1, who, handle, verb, keys, next(self._clock), self._loop.time())
        call.min_version = min_version
        if pushes:
            call.marks = {key: self._mark(key) for key in keys}
        self.calls.append(call)
        self._trace.note(str(call))
        return call

    def is_full(self, key: str) -> bool:
        """Whether all elements belong to pushes."""
        return self._marks.get(key, HEIRS) >= SIZE

    def _mark(self, key: str) -> int:
        mark = self._marks.get(key, HEIRS)
        self._marks[key] = mark + 1
        return mark

    def end(self, call: Call, error: BaseException | None = None) -> None:
        """The call has returned, or raised."""
        if call.who in self.dead:
            return
        assert call.ended is None, f"{call} ended twice"
        call.ended, call.until, call.error = next(self._clock), self._loop.time(), error
        seen = "".join(f" {reading.key}={np.flatnonzero(reading.value[:SIZE]).tolist()}" for reading in call.readings)
        self._trace.note(f"{call}: {error!r}" if error else f"{call}: {list(call.versions.values())}{seen}")

    def note(self, text: str) -> None:
        self._trace.note(text)

    def open(self) -> list[Call]:
        """What has not ended, of those who live."""
        return [call for call in self.calls if call.ended is None and call.who not in self.dead]

    def newest(self, key: str) -> int:
        """The highest version of a key that anybody knows of."""
        return max((call.versions.get(key, 0) for call in self.calls if call.fine), default=0)
