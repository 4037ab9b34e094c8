"""Simulated streams and events: work is done when somebody waits, in any order that streams and events allow."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence

from akv_cupy.device import DONE, NOT_READY, Event, failed
from akv_cupy.simulated.memory import Access, Clock, Memory

__all__ = ["Scheduler", "SimulatedEvent", "SimulatedStream"]

Use = tuple[Memory, int, int, bool]


class Scheduler:
    """All streams of a machine.

    Attributes:
        known: what the host has waited for.
        held: while it is set, no work is done: the devices are busy with something else.
        codes: the errors of failed devices by their names.
        fail_in: after so many tasks the device of the next one fails.
    """

    def __init__(self, seed: int) -> None:
        self.lock = threading.RLock()
        self.change = threading.Condition(self.lock)
        self.known: Clock = {}
        self.held = False
        self.codes: dict[str, int] = {}
        self.fail_in: int | None = None
        self.complaints: list[BaseException] = []
        self.done: list[tuple[str, int, str]] = []
        self.streams: list[SimulatedStream] = []
        self._random = random.Random(seed)

    def step(self) -> bool:
        """Do the next task of a stream, one of the most urgent that have any; false when nothing can be done."""
        if self.held:
            return False
        able = [stream for stream in self.streams if stream.is_able()]
        if not able:
            return False
        most = max(stream.level for stream in able)
        self._random.choice([stream for stream in able if stream.level == most]).run_next()
        return True

    def spin(self) -> None:
        """Some time passes."""
        for _ in range(self._random.randrange(3)):
            self.step()

    def learn(self, clock: Clock) -> None:
        """The host has seen that all this is done."""
        merge(self.known, clock)


class SimulatedStream:
    """A queue of tasks."""

    def __init__(self, scheduler: Scheduler, device: str, level: int) -> None:
        self.scheduler, self.device, self.level = scheduler, device, level
        self.number = len(scheduler.streams)
        self._tasks: deque[tuple[int, str, Callable[[], object]]] = deque()
        self._put = 0
        self.finished = 0
        self.clock: Clock = {}
        with scheduler.lock:
            scheduler.streams.append(self)

    def put(self, what: str, run: Callable[[], object], uses: Sequence[Use] = ()) -> None:
        """Queue a task that uses some bytes. Raises Race; BackendUnavailable: the device has failed."""
        scheduler = self.scheduler
        with scheduler.lock:
            if self.device in scheduler.codes:
                raise failed(self.device, scheduler.codes[self.device])
            merge(self.clock, scheduler.known)
            sequence = self._put = self._put + 1
            try:
                for memory, start, stop, writes in uses:
                    access = Access(self.number, sequence, start, stop, writes, what)
                    memory.check(access, self.clock, scheduler.known)
            except AssertionError as error:
                scheduler.complaints.append(error)
                raise
            self.clock[self.number] = sequence
            self._tasks.append((sequence, what, run))

    def record(self) -> SimulatedEvent:
        with self.scheduler.lock:
            return SimulatedEvent(self, self._put, dict(self.clock))

    def wait(self, event: Event) -> None:
        assert isinstance(event, SimulatedEvent)
        with self.scheduler.lock:
            merge(self.clock, event.clock)
            sequence = self._put = self._put + 1
            self._tasks.append((sequence, "wait", event.must_be_done))

    def is_able(self) -> bool:
        """Whether the first task may be done now."""
        if not self._tasks or self.device in self.scheduler.codes:
            return False
        _, what, run = self._tasks[0]
        return what != "wait" or bool(run())

    def run_next(self) -> None:
        """Do the first task."""
        scheduler = self.scheduler
        sequence, what, run = self._tasks.popleft()
        if what != "wait":
            if scheduler.fail_in is not None:
                scheduler.fail_in -= 1
                if scheduler.fail_in < 0:
                    scheduler.codes[self.device], scheduler.fail_in = 700, None
                    return
            try:
                run()
            except Exception as error:
                scheduler.complaints.append(error)
                scheduler.codes[self.device] = 719
                return
            scheduler.done.append((self.device, self.level, what))
        self.finished = sequence


class SimulatedEvent:
    """A point on a stream."""

    def __init__(self, stream: SimulatedStream, sequence: int, clock: Clock) -> None:
        self.device = stream.device
        self.clock = clock
        self._stream, self._sequence = stream, sequence

    def must_be_done(self) -> bool:
        """Whether it has fired, which nobody gets to know by this."""
        return self._stream.finished >= self._sequence

    def query(self) -> int:
        scheduler = self._stream.scheduler
        with scheduler.lock:
            scheduler.spin()
            if self.device in scheduler.codes:
                return scheduler.codes[self.device]
            if not self.must_be_done():
                return NOT_READY
            scheduler.learn(self.clock)
            return DONE

    def synchronize(self) -> None:
        scheduler = self._stream.scheduler
        with scheduler.change:
            while not self.must_be_done():
                if self.device in scheduler.codes:
                    raise failed(self.device, scheduler.codes[self.device])
                if not scheduler.step():
                    assert scheduler.held or self.device in scheduler.codes, "this event can never fire"
                    scheduler.change.wait(0.05)
            scheduler.learn(self.clock)


def merge(clock: Clock, other: Clock) -> None:
    """All that either has."""
    for stream, sequence in other.items():
        if clock.get(stream, 0) < sequence:
            clock[stream] = sequence
