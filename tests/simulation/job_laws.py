"""What workers of a job may see: rounds that are whole, summed in the order of the ranks, with nobody's push twice."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np

from akv.errors import AkvTimeout, WorkerLost
from simulation.history import HEIRS, SIZE, Call, History, Reading
from simulation.plan import Plan

__all__ = ["JobLaws"]

Gifts = Mapping[tuple[str, int], np.ndarray]


class JobLaws:
    """Checks one run, besides what Laws checks."""

    def __init__(self, plan: Plan, history: History, ranks: Mapping[str, int], gifts: Gifts) -> None:
        self._plan, self._history, self._ranks, self._gifts = plan, history, ranks, gifts

    def check(self) -> None:
        for key in self._plan.keys:
            rounds = Rounds(key, self._plan, self._history.calls, self._ranks, self._gifts)
            rounds.check_all()
            if self._plan.sync:
                rounds.check_rounds()
            elif self._plan.lossless:
                rounds.check_staleness(self._plan.wishes.get("staleness"))
        self._check_barriers()

    def _check_barriers(self) -> None:
        """Nobody is let through before all have come."""
        cycles = defaultdict[int, list[Call]](list)
        count = defaultdict[str, int](int)
        for call in self._history.calls:
            if call.verb == "barrier":
                count[call.who] += 1
                cycles[count[call.who]].append(call)
        for calls in cycles.values():
            assert len(calls) == self._plan.clients
            last, first = max(calls, key=_began), min(calls, key=lambda call: call.ended or 0)
            assert first.ended is not None
            assert first.ended > last.began, f"{first} was let through before {last}"


def _began(call: Call) -> int:
    return call.began


class Rounds:
    """The calls on one key."""

    def __init__(self, key: str, plan: Plan, calls: Iterable[Call], ranks: Mapping[str, int], gifts: Gifts) -> None:
        self._key, self._plan, self._ranks, self._gifts = key, plan, ranks, gifts
        self._everything = list(calls)
        self._calls = [call for call in self._everything if key in call.keys]
        self._pushes = {call.marks[key]: call for call in self._calls if call.marks}
        self._readings = [(call, reading) for call in self._calls for reading in call.readings if reading.key == key]
        self._final = self._marks(self._readings[-1][1])
        self._versions = {mark: call.versions[key] for mark, call in self._pushes.items() if self._is_told(call)}

    def _is_told(self, push: Call) -> bool:
        """Whether the client knows the version that the push is part of."""
        return push.fine and push.verb == "push"

    def _marks(self, reading: Reading) -> set[int]:
        return {HEIRS + int(mark) for mark in np.flatnonzero(reading.value[HEIRS:SIZE])}

    # -- under any consistency --------------------------------------------------------------------------------

    def check_all(self) -> None:
        firsts = set[int]()
        for call, reading in self._readings:
            value = reading.value
            assert value[:SIZE].max() <= 1, f"{call} saw a push twice: {np.flatnonzero(value[:SIZE] > 1)}"
            heirs = np.flatnonzero(value[:HEIRS])
            assert len(heirs) == 1, f"{call}: a value made by {heirs}"
            assert not (self._plan.lossless and heirs[0]), f"{call}: the value of rank {heirs[0]}"
            firsts.add(int(heirs[0]))
            self._check_known(call, self._marks(reading))
            self._check_sum(call, reading)
        assert len(firsts) == 1, f"{self._key} was initialised several times: {firsts}"
        marks = sorted((self._marks(reading) for _, reading in self._readings), key=len)
        for less, more in pairwise(marks):
            assert less <= more, f"{self._key}: readings differ by {sorted(less - more)} and {sorted(more - less)}"
        self._check_own()
        if self._plan.lossless:
            missing = self._pushes.keys() - self._final
            assert not missing, f"{self._key}: pushes {sorted(missing)} are nowhere"

    def _check_known(self, call: Call, marks: set[int]) -> None:
        for mark in marks:
            push = self._pushes.get(mark)
            assert push is not None, f"{call} saw element {mark}, which nobody has pushed"
            assert call.ended is None or push.began < call.ended, f"{call} saw the future"
            refused = push.verb == "push" and isinstance(push.error, WorkerLost)
            assert not refused, f"{call} saw {push}, which was refused"

    def _check_sum(self, call: Call, reading: Reading) -> None:
        """Bit for bit, if it is known who gave what for which version."""
        marks = self._marks(reading)
        if not marks <= self._versions.keys():
            return
        rounds = defaultdict[int, dict[int, int]](dict)
        for mark in marks:
            rank = self._ranks[self._pushes[mark].who]
            assert rank not in rounds[self._versions[mark]], f"{call}: rank {rank} twice in {self._versions[mark]}"
            rounds[self._versions[mark]][rank] = mark
        total = np.full(reading.value.shape[0] - SIZE, (np.argmax(reading.value[:HEIRS]) + 1) / 3, np.float32)
        for _, round_ in sorted(rounds.items()):
            parts = [self._gifts[self._key, mark] for _, mark in sorted(round_.items())]
            total = total + sum(parts[1:], parts[0])
        assert total.tobytes() == reading.value[SIZE:].tobytes(), f"{call}: {reading.value[SIZE:]} is not {total}"

    def _check_own(self) -> None:
        """A pull sees what its handle has pushed before; only a lost worker takes accepted pushes with it."""
        accepted = defaultdict[tuple[str, int], set[int]](set)
        last = dict[tuple[str, int], int]()
        for call in self._calls:
            handle = call.who, call.handle
            told = [each for each in self._calls if (each.who, each.handle) == handle and _lost_before(each, call)]
            if told and not self._plan.lossless:
                accepted[handle].clear()
            for reading in call.readings:
                missing = accepted[handle] - self._marks(reading)
                assert not missing, f"{call} does not see its own {sorted(missing)}"
            if call.marks and call.fine:
                mark = call.marks[self._key]
                accepted[handle].add(mark)
                if mark in self._versions and mark in self._final:
                    assert self._versions[mark] > last.get(handle, 1), f"{call}: version {self._versions[mark]}"
                    last[handle] = self._versions[mark]

    # -- sync -------------------------------------------------------------------------------------------------

    def check_rounds(self) -> None:
        counted = {mark: version for mark, version in self._versions.items() if mark in self._final}
        for call, reading in self._readings:
            marks = self._marks(reading)
            version = max((counted[mark] for mark in marks if mark in counted), default=1)
            due = {mark for mark, number in counted.items() if number <= version}
            assert due <= marks, f"{call} saw a part of version {version}, without {sorted(due - marks)}"
        seats = [(version, self._ranks[self._pushes[mark].who]) for mark, version in counted.items()]
        twice = {seat for seat in seats if seats.count(seat) > 1}
        assert not twice, f"{self._key}: versions and ranks that were there twice: {twice}"
        self._check_relief(counted)
        if self._plan.lossless:
            self._check_whole()

    def _check_whole(self) -> None:
        """Each worker's n-th push is part of version n + 1, which all have a part in."""
        count = defaultdict[int, int](int)
        for push in self._pushes.values():
            rank = self._ranks[push.who]
            if rank < self._plan.clients - bool(self._plan.relief):
                count[rank] += 1
                if self._is_told(push):
                    version = push.versions[self._key]
                    assert version == count[rank] + 1, f"{push}: push {count[rank]} is part of version {version}"
        assert self._info() == self._plan.rounds + 1 or self._plan.relief

    def _info(self) -> int:
        return next(call.versions[self._key] for call in reversed(self._calls) if call.verb == "info")

    def _check_relief(self, counted: Mapping[int, int]) -> None:
        """Who comes late has no part in the round that was under way when it came."""
        names = {push.who for push in self._pushes.values() if self._ranks[push.who] == self._plan.clients - 1}
        for name in names if self._plan.relief else ():
            came = next(call.began for call in self._everything if call.verb == "connect" and call.who == name)
            before = [call for call in self._calls if call.fine and (call.ended or 0) < came]
            done = max((self._seen(call, counted) for call in before), default=1)
            pushed = {call.versions[self._key] for call in before if self._is_told(call)}
            for mark, version in counted.items():
                late = self._pushes[mark].who == name and version <= done + 1 and done + 1 in pushed
                assert not late, f"{self._pushes[mark]} is in version {version}; {done + 1} was under way when it came"

    def _seen(self, call: Call, counted: Mapping[int, int]) -> int:
        """The version that was there when a call had ended."""
        if call.verb in ("wait", "info"):
            return call.versions[self._key]
        marks = [mark for reading in call.readings if reading.key == self._key for mark in self._marks(reading)]
        return max((counted.get(mark, 1) for mark in marks), default=1)

    # -- ssp, async -------------------------------------------------------------------------------------------

    def check_staleness(self, staleness: int | None) -> None:
        """No worker is further ahead than it may be, as long as all are there."""
        if staleness is None or self._plan.relief or not self._pushes.keys() <= self._versions.keys():
            return
        count = dict.fromkeys(range(self._plan.clients), 0)
        for mark in sorted(self._versions, key=self._versions.__getitem__):
            push = self._pushes[mark]
            count[self._ranks[push.who]] += 1
            ahead = max(count.values()) - min(count.values())
            assert ahead <= staleness + 1, f"{push}: {count}, with a staleness of {staleness}"


def _lost_before(each: Call, call: Call) -> bool:
    """Whether an accepted push may have been thrown away by then. Who gave a call up has not heard its answer."""
    told = isinstance(each.error, (WorkerLost, AkvTimeout, asyncio.CancelledError))
    return told and (each.ended or 0) < (call.ended or 0)
