"""What every handle of the blocking face has besides the verbs: how it waits, its portal, its beginning and end."""

from __future__ import annotations

import atexit
import threading
import warnings
import weakref
from numbers import Real
from time import monotonic
from types import TracebackType
from typing import Any, Self

from akv import operations as ops
from akv.backend.protocol import Member, Remote
from akv.backend.registry import Location, release, share
from akv.engine import Engine
from akv.errors import AkvTimeout, InvalidArgument, QueueFull
from akv.handle import check_capability
from akv.operations import Operation
from akv.optim.updaters import inside_updater
from akv.portal import Portal
from akv.scheduler import STARTED, Line

__all__ = ["BlockingHandle", "check_timeout", "refuse_waiting_inside_updater"]

# Named here because `type` is a property of the class below.
_ErrorClass = type[BaseException]


class BlockingHandle:
    """A handle on a store that any thread may use.

    Args:
        location: of the store.
        kind: what `type` says, if not the kind of the store.
    """

    def __init__(self, location: Location, kind: str | None = None) -> None:
        self._engine, self._line = share(location)
        self._location = location
        self._portal: Portal | None = None
        if self._engine.backend.remote:
            self._open_portal()
        self._timeout = location.timeout
        self._kind = kind or self._engine.backend.kind
        _handles.add(self)

    def flush(self, *, timeout: float | None = None) -> None:
        """Wait until everything that this handle's other threads have scheduled is done."""
        self._run(ops.Flush(), timeout)

    @property
    def rank(self) -> int:
        """This worker's number, from 0 on."""
        return self._engine.backend.rank

    @property
    def num_workers(self) -> int:
        """How many workers push to this store."""
        return self._engine.backend.num_workers

    @property
    def type(self) -> str:
        """The name given to `create`, or the kind of store, such as "memory"."""
        return self._kind

    def is_capable(self, word: str) -> bool:
        """See akv.KVStore.is_capable."""
        return check_capability(self._engine.backend.capabilities, word)

    def close(self) -> None:
        """Close the handle; closing twice is fine."""
        if self._line.closed:
            return
        if self._portal is None:
            release(self._location, self._engine, self._line)
        else:
            self._portal.run(self._leave(self._location, self._engine, self._line))
            self._portal.close()

    @staticmethod
    async def _leave(location: Location, engine: Engine, line: Line) -> None:
        release(location, engine, line)
        if isinstance(engine.backend, Remote):
            await engine.backend.wait_closed()

    def __del__(self) -> None:
        if "_portal" in self.__dict__ and self._portal is not None and not self._line.closed:
            text = f"unclosed {self!r}: use `with`, or call close()"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
            self._portal.close_after(self._leave(self._location, self._engine, self._line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: _ErrorClass | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not self._line.closed and isinstance(self._engine.backend, Member):
            self._engine.backend.lose()  # see akv.handle.Handle.__aexit__
        self.close()

    def __repr__(self) -> str:
        return f"<akv.sync.KVStore {self._kind} {self._location.text} rank {self.rank} of {self.num_workers}>"

    # -- how it is done ---------------------------------------------------------------------------------------

    def _open_portal(self) -> None:
        self._portal = Portal(f"akv-{self._engine.backend.kind}")
        try:
            self._portal.run(self._engine.backend.open())
        except BaseException:
            self.close()
            raise

    def _run(self, op: Operation, timeout: float | None) -> Any:
        if self._portal is not None:
            self._portal.check()
        op.line = self._line
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        try:
            try:
                if not (self._engine.attempt(op) or self._engine.queue(op)):
                    self._wait(op, seconds, seconds)
            except QueueFull:
                self._run_when_there_is_room(op, seconds)
        except BaseException:  # above all Ctrl-C
            self._abandon(op)
            raise
        if op.error is not None:
            try:
                raise op.error
            finally:
                op.error = None  # whose traceback refers to `op`, and would keep the caller's arrays alive with it
        return op.result

    def _run_when_there_is_room(self, op: Operation, seconds: float | None) -> None:
        refuse_waiting_inside_updater(op)
        until = None if seconds is None else monotonic() + seconds
        while self._engine.wait_for_room(op, _left(until)):
            try:
                done = self._engine.submit(op)
            except QueueFull:
                continue  # another thread was quicker
            return None if done else self._wait(op, seconds, _left(until))
        raise AkvTimeout(f"{op} found no room in the queue within {seconds:g} s")

    def _wait(self, op: Operation, seconds: float | None, left: float | None) -> None:
        """Wait until `op` is done, or for what is `left` of its time in seconds."""
        done = _Done()
        if not self._engine.listen(op, done):
            return
        refuse_waiting_inside_updater(op)
        if not done.wait(left) and seconds is not None and not self._engine.expire(op, seconds):
            done.wait(None)

    def _abandon(self, op: Operation) -> None:
        """Withdraw `op`; what has started still uses the caller's arrays, though hardly for a second."""
        done = _Done()
        if not self._engine.cancel(op) and op.state is STARTED and self._engine.listen(op, done):
            done.wait(1.0)


class _Done:
    """Wakes the waiting thread. An Event costs three times as much."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def operation_done(self, op: Operation) -> None:
        self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        return self._lock.acquire(timeout=-1 if timeout is None else timeout)


def check_timeout(timeout: object) -> float:
    """Return `timeout` in seconds, and no more than a lock can wait (292 years).

    Raises:
        InvalidArgument: it is no number from 0 on.
    """
    seconds = float(timeout) if isinstance(timeout, Real) else -1.0
    if seconds >= 0:
        return min(seconds, threading.TIMEOUT_MAX)
    raise InvalidArgument(f"a timeout is a number of seconds from 0 on, not {timeout!r}")


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - monotonic())


def refuse_waiting_inside_updater(op: Operation) -> None:
    """Raise InvalidArgument where the wait could never end."""
    if inside_updater():
        raise InvalidArgument(f"{op} would wait for the updater that calls it; an updater may not use its store")


_handles: weakref.WeakSet[BlockingHandle] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for handle in list(_handles):
        handle.close()
