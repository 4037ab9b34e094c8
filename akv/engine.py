"""The store that handles, threads and loops share: a scheduler under one lock, and the backend that does the work."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable

from akv.backend.protocol import Backend, DeviceArrays, Remote, VersionSource
from akv.errors import AkvError, AkvTimeout, ForkedProcess, InvalidArgument, StoreClosed
from akv.guard import GUARD
from akv.operations import Operation
from akv.operations.base import Listener
from akv.scheduler import DONE, STARTED, WITHDRAWN, Line, Scheduler
from akv.values.keys import Key
from akv.waits import Waits

__all__ = ["INLINE_KEYS", "Engine"]

# A small key takes 1-2 us: more of them would hold up an event loop for longer than a large tensor may.
INLINE_KEYS = 512
_NO_LIMIT = 1 << 63


class Engine:
    """Takes operations from handles, lets the scheduler decide, and has the backend carry them out.

    `attempt` carries out an operation that is small and has nothing in its way: the scheduler's start and finish in
    one, under the lock. `queue` takes all others, which end later, in another thread, and tell their listener.
    """

    def __init__(self, backend: Backend, *, inline: bool = True) -> None:
        self.backend = backend
        self._inline_nbytes = backend.inline_nbytes if inline else -1
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._crowd = 0  # how many threads wait for room
        self._scheduler = Scheduler[Operation](backend.budget)
        self._waits = Waits(backend)
        self._lines: set[Line] = set()
        self._calls_out = backend.calls_out  # which only a fence changes
        self._guard = GUARD if os.environ.get("AKV_DEBUG") == "1" else None
        self._closing = False
        self._forked = False
        self._remote = backend if isinstance(backend, Remote) else None
        self._devices = backend if isinstance(backend, DeviceArrays) else None
        if isinstance(backend, VersionSource):
            backend.report(self.versions_moved)
        _engines.add(self)

    # -- handles ----------------------------------------------------------------------------------------------

    def open_line(self) -> Line:
        """Register a handle."""
        line = Line()
        with self._lock:
            self._lines.add(line)
        return line

    def close_line(self, line: Line) -> bool:
        """Take back what a handle has queued, and forget the handle; return whether it was the last."""
        with self._lock:
            was_open, line.closed = not line.closed, True
            self._lines.discard(line)
            is_last = was_open and not self._lines
        self.withdraw_all(line)
        return is_last

    def withdraw_all(self, line: Line) -> None:
        """Withdraw what a handle has queued, and end soon what has started; the awaiting calls get StoreClosed."""
        with self._lock:
            # In one step: taking back one operation must not start the next.
            withdrawn, started = self._scheduler.withdraw_all(line)
            withdrawn += self._waits.withdraw_all(line)
            for op in withdrawn:
                self._mark_withdrawn(op, _closed(op))
            for op in line.open:
                self._cut_off(op, _closed(op))
            self._make_room()
            for op in withdrawn:
                _tell(op)
        self._start(started)

    def close(self) -> None:
        """Close the backend, as soon as nothing is started."""
        with self._lock:
            self._closing = True
            idle = self._scheduler.idle
        if idle:
            self.backend.close()

    # -- operations -------------------------------------------------------------------------------------------

    def attempt(self, op: Operation, most: int = _NO_LIMIT) -> bool:
        """Carry `op` out if that can be done at once, over no more than `most` bytes; else nothing has happened."""
        limit = self._inline_nbytes
        if most < limit:
            limit = most
        with self._lock:
            if (
                self._calls_out
                or op.line.closed
                or op.on_device
                or (op.min_version and not self.backend.has_reached(op))
            ):
                return False
            if (op.nbytes or self.backend.size(op)) > limit or len(op.keys) > INLINE_KEYS:
                return False
            if not self._scheduler.admits(op):
                return False
            self.backend.run(op)
            op.state = DONE
            if not (op.fence or self._waits.parked):
                return True
            started = self._woken_by(op)
        self._start(started)
        return True

    def submit(self, op: Operation) -> bool:
        """Take `op`; return whether it is done already. If not, another thread will end it, and tell its listener.

        Raises:
            QueueFull, StoreClosed, ForkedProcess, InvalidArgument: nothing has been taken.
        """
        return (self._inline_nbytes >= 0 and self.attempt(op)) or self.queue(op)

    def queue(self, op: Operation) -> bool:
        """The same for an operation that was attempted in vain, or that is not to be done in its caller."""
        if op.on_device:
            self._borrow(op)
        with self._lock:
            if op.line.closed:
                raise self._refusal(op)
            if op.min_version and not self.backend.has_reached(op):
                self._waits.park(op)
                return False
            if self._calls_out and self._is_small(op) and self._scheduler.admits(op):
                # A function of the user's may take any time, and any lock.
                self._scheduler.start(op)
                started = None
            else:
                started = self._scheduler.submit(op) if op.bounded else self._scheduler.admit(op)
                if self._guard is not None:
                    self._guard.lend(op)
        if started is None:
            self._run_outside_lock(op)
        else:
            self._start(started)
        return op.state is DONE

    def listen(self, op: Operation, listener: Listener) -> bool:
        """Have `listener` told when `op` is done; False when it is done (or withdrawn) already."""
        with self._lock:
            op.listener = listener
            return op.state is not DONE and op.state is not WITHDRAWN

    def cancel(self, op: Operation, error: AkvError | None = None) -> bool:
        """Withdraw `op` if it is queued: then it never happened, and True is returned. Else it will end soon.

        With `error`, whoever awaits a withdrawn operation gets that.
        """
        with self._lock:
            started = [] if self._waits.withdraw(op) else self._scheduler.withdraw(op)
            if started is None:
                self._cut_off(op, error or AkvError(f"{op} was cancelled before it changed anything"))
                return False
            self._mark_withdrawn(op, error)
            self._make_room()
            if error is not None:
                _tell(op)
        self._start(started)
        return True

    def expire(self, op: Operation, waited: float) -> bool:
        """Cancel `op` because its time (seconds) is over."""
        text = f"{op} was not done within {waited:g} s"
        if op.min_version:
            text += f"; {self._waits.reason(op)}"
        elif op.state is STARTED:
            text += "; it has started"
        else:
            text += f"; it waits for its turn, with priority {op.priority}"
        if self._remote is not None:
            text += f"; {self._remote.status()}"
        return self.cancel(op, AkvTimeout(text))

    def wait_for_room(self, op: Operation, timeout: float | None) -> bool:
        """Wait until there is room for `op`; False when the time (seconds) is over."""
        with self._lock:
            self._crowd += 1
            try:
                return self._room.wait_for(lambda: self._has_room(op), timeout)
            finally:
                self._crowd -= 1

    def versions_moved(self, keys: Iterable[Key], error: AkvError | None = None) -> None:
        """Others have moved the versions of `keys`; with `error`, whoever waits for any version waits in vain."""
        with self._lock:
            if error is None:
                started = self._wake(keys)
            else:
                started = []
                for op in self._waits.withdraw_all():
                    self._mark_withdrawn(op, error)
                    _tell(op)
            self._make_room()
        self._start(started)

    # -- how they end -----------------------------------------------------------------------------------------

    def _run_outside_lock(self, op: Operation) -> None:
        try:
            self.backend.run(op)
        finally:
            self._done(op)

    def _done(self, op: Operation) -> None:
        with self._lock:
            goes_on = op.wanted is not None and op.cancelled is None
            started = self._go_on(op) if goes_on else self._end(op)
            was_last = self._closing and self._scheduler.idle
        if started:
            self._start(started)
        if was_last:
            self.backend.close()

    def _go_on(self, op: Operation) -> list[Operation]:
        keys, op.wanted = op.wanted, None
        assert keys is not None
        return self._scheduler.proceed(op, keys)

    def _end(self, op: Operation) -> list[Operation]:
        if op.wanted is not None:  # cancelled between two stages
            op.error, op.wanted = op.cancelled, None
        started = self._scheduler.finish(op)
        if op.fence or self._waits.parked or self._crowd:
            started = [*started, *self._woken_by(op)]
        if self._guard is not None:
            self._guard.release(op)
        # Under the lock: a flush that this sets free must not be told before its predecessors.
        if op.listener is not None:
            op.listener.operation_done(op)
        return started

    def _is_small(self, op: Operation) -> bool:
        return (op.nbytes or self.backend.size(op)) <= self._inline_nbytes and len(op.keys) <= INLINE_KEYS

    def _cut_off(self, op: Operation, error: AkvError) -> None:
        op.cancelled = op.cancelled or error
        if op.state is STARTED:
            self.backend.cancel(op)

    def _mark_withdrawn(self, op: Operation, error: AkvError | None) -> None:
        op.state = WITHDRAWN
        op.error = error
        if self._guard is not None:
            self._guard.release(op)

    def _woken_by(self, op: Operation) -> list[Operation]:
        if op.fence:
            self._calls_out = self.backend.calls_out
        started = self._wake(op.keys) if self._waits.parked else []
        if self._crowd:
            self._make_room()
        return started

    def _wake(self, keys: Iterable[Key]) -> list[Operation]:
        started: list[Operation] = []
        for op in self._waits.take_reached(keys):
            if op.keys:
                started += self._scheduler.admit(op)
            else:
                self._run_at_once(op)
        return started

    def _run_at_once(self, op: Operation) -> None:
        """Only to wait was there anything to do."""
        self.backend.run(op)
        op.state = DONE
        _tell(op)

    def _start(self, started: Iterable[Operation]) -> None:
        for op in started:
            self.backend.start(op, self._done)

    def _has_room(self, op: Operation) -> bool:
        # A push must not wait until those are gone that wait for it.
        waits = op.min_version and not self.backend.has_reached(op)
        return (len(self._waits.parked) if waits else self._scheduler.queued) < self.backend.budget.queued

    def _make_room(self) -> None:
        if self._crowd:
            self._room.notify_all()

    def _borrow(self, op: Operation) -> None:
        if self._devices is None:
            array = op.on_device[0]
            raise InvalidArgument(
                f"{op.verb}: {type(array.owner).__qualname__} {array.dtype} {array.shape} is in GPU memory, and this "
                f"store ({self.backend.kind}) works in host memory: pass a host array, or open a store such as cupy://0"
            )
        self._devices.borrow(op)

    # -- closed, or forked ------------------------------------------------------------------------------------

    def _refusal(self, op: Operation) -> AkvError:
        if self._forked:
            return ForkedProcess(
                f"{op.verb}: this handle was opened before the fork that made process {os.getpid()}; "
                "open a new one after the fork, or start processes with the spawn method"
            )
        return StoreClosed(f"{op.verb}: this handle is closed")

    def forget_after_fork(self) -> None:
        """In a child the threads are gone, and the lock may be held by one of them for ever: refuse everything."""
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._crowd = 0
        self._forked = True
        for line in self._lines:
            line.closed = True


def _closed(op: Operation) -> StoreClosed:
    return StoreClosed(f"the handle was closed before {op} was done")


def _tell(op: Operation) -> None:
    if op.listener is not None:
        op.listener.operation_done(op)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _in_child() -> None:
    for engine in list(_engines):
        engine.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
