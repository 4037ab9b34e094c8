"""What clients may see. All of it follows from one rule: the versions of a key are its pushes, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from akv.errors import (
    AkvTimeout,
    BackendUnavailable,
    ConnectionLost,
    InvalidArgument,
    KeyExists,
    KeyNotFound,
    SessionExpired,
    StoreClosed,
    WorkerLost,
)
from simulation.clients import TAIL
from simulation.history import HEIRS, SIZE, Call, History, Reading
from simulation.plan import Plan

__all__ = ["Laws"]

# Virtual seconds after the last fault in which every call has to end: silence is noticed after three heartbeats, a
# hanging attempt to connect takes ten seconds, the pauses between attempts two.
BOUND = 30.0
# A call that its time-out has ended waits until its arrays are free: for a connection that is dead, say.
SLACK = 12.0


class Laws:
    """Checks one run."""

    def __init__(self, plan: Plan, history: History) -> None:
        self._plan = plan
        self._history = history
        # Who comes when all others have left waits for new ones ten times as long as one that is there may be silent.
        self._bound = BOUND if plan.lossless else BOUND + 11 * plan.wishes.get("worker_timeout", 0)

    # -- how calls end ----------------------------------------------------------------------------------------

    def check_ends(self, healed: float) -> None:
        """Every call has ended, in time, with a result or an error that it may end with."""
        assert not self._history.open(), f"never ended: {', '.join(map(str, self._history.open()))}"
        for call in self._history.calls:
            if call.ended is not None:
                took = call.until - max(call.at, healed)
                assert took <= self._bound, f"{call} took {took:.1f} s after the last fault"
                assert call.error is None or self._may_end(call), f"{call} ended with {call.error!r}"

    def _may_end(self, call: Call) -> bool:
        error, passing = call.error, self._plan.passing in call.keys
        lossy = bool(self._plan.wishes) and not self._plan.lossless
        if isinstance(error, asyncio.CancelledError):
            return call.cancelled
        if call.verb == "connect":
            return isinstance(error, BackendUnavailable) or (lossy and isinstance(error, InvalidArgument))
        if isinstance(error, WorkerLost):
            return lossy
        if isinstance(error, KeyNotFound):
            return passing
        if isinstance(error, KeyExists):
            return call.verb == "init"
        if isinstance(error, AkvTimeout):
            return self._plan.timeouts != (None,)
        if isinstance(error, StoreClosed):  # who waits for a version waits until the handle is closed
            return call.cancelled or bool(call.min_version) or call.verb == "watch"
        # What follows the end of a handle ends as the handle did.
        return (
            bool(self._plan.faults) and not self._plan.lossless and isinstance(error, (ConnectionLost, SessionExpired))
        )

    # -- what they return -------------------------------------------------------------------------------------

    def check_values(self) -> None:
        """The last reading of each key is the auditor's."""
        if not self._plan.sync:
            for key in self._plan.keys:
                Ledger(key, self._history.calls, has_tail=not self._plan.wishes).check()
        self._check_passing()

    def _check_passing(self) -> None:
        """Of a key that comes and goes: nothing is counted twice, and versions go up."""
        key, seen, known = self._plan.passing, set[int](), 0
        calls = [call for call in self._history.calls if key in call.keys]
        for call in calls:
            for reading in call.readings:
                check_form(call, reading)
            if call.fine and call.marks:
                version = call.versions[key]
                assert version not in seen, f"{call}: version {version} was another push's"
                seen.add(version)
        for call, ended in _in_order(calls):
            if ended and call.fine:
                known = max(known, call.versions.get(key, 0))
            elif not ended:
                call.min_version = max(call.min_version, known)
        for call in calls:
            if call.fine and call.verb in ("push", "wait", "info"):
                assert call.versions[key] >= call.min_version, f"{call}: version {call.versions[key]} is too old"


class Ledger:
    """The calls on one key that is never deleted."""

    def __init__(self, key: str, calls: Iterable[Call], has_tail: bool) -> None:
        self._key = key
        self._has_tail = has_tail
        self._calls = [call for call in calls if key in call.keys]
        self._pushes = {call.marks[key]: call for call in self._calls if call.marks}
        self._readings = [(call, reading) for call in self._calls for reading in call.readings if reading.key == key]

    def check(self) -> None:
        for call, reading in self._readings:
            if self._has_tail:
                check_form(call, reading)
            self._check_reading(call, reading)
        self._check_order()
        self._check_pushes()
        self._check_inclusion()
        self._check_time()

    def _marks(self, reading: Reading) -> set[int]:
        return {HEIRS + int(mark) for mark in np.flatnonzero(reading.value[HEIRS:SIZE])}

    def _check_reading(self, call: Call, reading: Reading) -> None:
        """It holds the pushes up to its version, and nothing else. The version of a value is how many it holds."""
        marks = self._marks(reading)
        version = call.versions[self._key] = 1 + len(marks)
        for mark, push in self._pushes.items():
            if push.fine and self._key in push.versions and push.verb == "push":
                owed = push.versions[self._key] <= version
                assert owed == (mark in marks), f"{call} saw version {version} {'without' if owed else 'with'} {push}"
            elif mark in marks:
                assert not isinstance(push.error, KeyNotFound), f"{call} saw {push}, which was refused"
        for mark in marks:
            assert mark in self._pushes, f"{call} saw element {mark}, which nobody has pushed"
            assert call.ended is None or self._pushes[mark].began < call.ended, f"{call} saw the future"
        own = call.marks.get(self._key)
        assert own is None or own in marks, f"{call} did not see itself"

    def _check_order(self) -> None:
        """Of one handle: a reading holds the pushes that were called before, and their versions go up."""
        last: dict[tuple[str, int], Call] = {}
        for call in self._calls:
            before = last.get((call.who, call.handle))
            version = call.versions.get(self._key)
            if not call.fine or version is None:
                continue
            if before is not None and call.verb in ("push", "pull", "pushpull"):
                least = before.versions[self._key] + (call.verb == "push")
                assert version >= least, f"{call} is of version {version}, but comes after {before}, of {least}"
            if call.verb in ("push", "pushpull"):
                last[call.who, call.handle] = call

    def _check_pushes(self) -> None:
        versions: dict[int, Call] = {}
        for push in self._pushes.values():
            if push.fine and push.verb == "push":
                version = push.versions[self._key]
                assert version >= 2, f"{push}: version {version}"
                assert version not in versions, f"{push} and {versions[version]} are both version {version}"
                versions[version] = push

    def _check_inclusion(self) -> None:
        """All readings can be put in one order; the auditor's is the last."""
        marks = sorted((self._marks(reading) for _, reading in self._readings), key=len)
        for less, more in pairwise(marks):
            assert less <= more, f"{self._key}: readings differ by {sorted(less - more)} and {sorted(more - less)}"
        heirs = {tuple(np.flatnonzero(reading.value[:HEIRS])) for _, reading in self._readings}
        assert len(heirs) == 1, f"{self._key} was initialised several times: {heirs}"
        final = 1 + len(marks[-1])
        for call in self._calls:
            if call.fine:
                version = call.versions.get(self._key, 0)
                assert version <= final, f"{call} saw version {version}, the last one is {final}"

    def _check_time(self) -> None:
        """What has ended is seen by whatever begins later."""
        known, due = 0, dict[int, int]()
        for call, ended in _in_order(self._calls):
            if not call.fine or self._key not in call.versions:
                continue
            version = call.versions[self._key]
            if not ended:
                due[call.number] = known
            else:
                least = max(due[call.number] + (call.verb == "push"), call.min_version)
                assert version >= least, f"{call} saw version {version}, but {least} was there before"
                known = max(known, version)


def check_form(call: Call, reading: Reading) -> None:
    """No element was added to twice, and what is behind them is as it was made."""
    value = reading.value
    assert value.max() <= 1 or value[:SIZE].max() <= 1, f"{call} saw {_numbers(value)}"
    assert value[:HEIRS].sum() == 1, f"{call} saw a value made by {np.flatnonzero(value[:HEIRS])}"
    assert np.array_equal(value[SIZE:], TAIL[: len(value) - SIZE]), f"{call}: what is behind the elements has changed"


def _numbers(value: np.ndarray) -> dict[int, int]:
    return {int(place): int(value[place]) for place in np.flatnonzero(value[:SIZE] > 1)}


def _in_order(calls: Iterable[Call]) -> list[tuple[Call, bool]]:
    """Beginnings and ends."""
    events = [(call.began, call, False) for call in calls]
    events += [(call.ended, call, True) for call in calls if call.ended is not None]
    return [(call, ended) for _, call, ended in sorted(events, key=lambda event: event[0])]
