"""A backend whose operations end when the test says so, and a listener that keeps what it was told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import monotonic, sleep

import numpy as np

from akv.engine import Engine
from akv.operations import Flush, Operation, Push, Wait
from akv.scheduler import Budget, Line
from akv.values.keys import Key

# Far longer than anything here takes: it only turns a hang into a failure.
PATIENCE = 20.0
SMALL, LARGE = 10, 100  # bytes: at most INLINE, and more
INLINE = 10


class FakeBackend:
    """See akv.backend.protocol.Backend. A write that ends well makes the next version of its keys."""

    kind = "fake"
    remote = False
    rank = 0
    num_workers = 1
    inline_nbytes = INLINE
    capabilities: Mapping[str, bool] = {}

    def __init__(self, *, operations: int = 1, nbytes: int = 1_000, queued: int = 8) -> None:
        self.budget = Budget(operations, nbytes, queued)
        self.calls_out = False
        self.closed = 0
        self.sizes: dict[str, int] = {}  # by verb, where the operation does not know it
        self.versions: dict[Key, int] = {}
        self.started: list[Operation] = []  # in order; they stay here
        self.ran: list[Operation] = []
        self.cancelled: list[Operation] = []
        self.while_running: Callable[[Operation], None] = lambda op: None
        self._done: dict[Operation, Callable[[Operation], None]] = {}

    @property
    def running(self) -> list[Operation]:
        """What was started and has not ended, the oldest first."""
        return list(self._done)

    def size(self, op: Operation) -> int:
        return self.sizes.get(op.verb, op.nbytes)

    def run(self, op: Operation) -> None:
        self.ran.append(op)
        self.while_running(op)
        self._carry_out(op)

    def start(self, op: Operation, done: Callable[[Operation], None]) -> None:
        self.started.append(op)
        self._done[op] = done

    def end(self, op: Operation, error: BaseException | None = None) -> None:
        """Have a started operation end, in the test's thread."""
        done = self._done.pop(op)
        if error is None:
            self._carry_out(op)
        else:
            op.error = error
        done(op)

    def end_all(self) -> None:
        while self._done:
            self.end(next(iter(self._done)))

    async def open(self) -> None:
        """Nothing to connect to."""

    def cancel(self, op: Operation) -> None:
        self.cancelled.append(op)

    def has_reached(self, op: Operation) -> bool:
        return all(self.version(key) >= op.min_version for key in op.awaited)

    def version(self, key: Key) -> int:
        return self.versions.get(key, 0)

    def close(self) -> None:
        self.closed += 1

    def _carry_out(self, op: Operation) -> None:
        if op.writes:
            for key in op.keys:
                self.versions[key] = self.version(key) + 1
        op.result = [self.version(key) for key in op.awaited]


class Ear:
    """A listener: what it was told, and whether the engine's lock was held each time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.told: list[Operation] = []
        self.locked: list[bool] = []

    def operation_done(self, op: Operation) -> None:
        self.told.append(op)
        self.locked.append(self.engine._lock.locked())


class House:
    """An engine on a fake backend with one handle, and short ways to submit to it."""

    def __init__(self, backend: FakeBackend | None = None, *, inline: bool = True) -> None:
        self.backend = backend or FakeBackend()
        self.engine = Engine(self.backend, inline=inline)
        self.ear = Ear(self.engine)
        self.line = self.engine.open_line()

    def submit(self, op: Operation, line: Line | None = None) -> bool:
        """Submit, and listen as a face does."""
        op.line = line or self.line
        done = self.engine.submit(op)
        if not done:
            self.engine.listen(op, self.ear)
        return done

    def push(self, key: Key = "w", nbytes: int = LARGE, priority: int = 0, line: Line | None = None) -> Push:
        op = Push(key, np.zeros(nbytes, np.uint8), priority)
        self.submit(op, line)
        return op

    def flush(self, line: Line | None = None) -> Flush:
        op = Flush()
        self.submit(op, line)
        return op

    def wait(self, key: Key, version: int, line: Line | None = None) -> Wait:
        op = Wait(key, version)
        self.submit(op, line)
        return op

    def is_idle(self) -> bool:
        """Whether nothing is left of what was submitted."""
        scheduler = self.engine._scheduler
        scheduler.validate()
        return scheduler.idle and not self.engine._waits.parked and not (self.line.open or self.line.held)


def until(condition: Callable[[], object]) -> None:
    """Wait for another thread to get there."""
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline, "the other thread never gets there"
        sleep(0)


class Aside:
    """A call in another thread; `join` waits for it and returns what it returned, or raises what it raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._result: object = None
        self._error: BaseException | None = None
        self._thread.start()

    def join(self) -> object:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the other thread hangs"
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error


def waiting_for_room(house: House, op: Operation) -> Aside:
    """Another thread that waits, for ever if need be."""
    aside = Aside(lambda: house.engine.wait_for_room(op, None))
    until(lambda: house.engine._crowd == 1)
    return aside
