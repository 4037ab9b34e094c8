"""The awaitables of the async face, and fairness to the other users of the event loop."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
from collections.abc import Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from akv.errors import WrongLoop
from akv.operations import Operation

if TYPE_CHECKING:
    from akv.handle import Handle

__all__ = ["Flushing", "Pending", "Turn", "new_event_loop", "run"]

T = TypeVar("T")

# Awaiting something done does not suspend: a task that awaits pushes in a loop would starve all others, and no
# time-out would fire.
INLINE_SECONDS = 100e-6


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` like asyncio.run, on uvloop where it is installed and AKV_UVLOOP is not 0."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's, where it is installed and AKV_UVLOOP is not 0, or else of asyncio's."""
    if os.environ.get("AKV_UVLOOP") == "0" or importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


class Turn:
    """How long inline work has kept one event loop from its other callbacks.

    Attributes:
        until: the time (perf_counter) before which awaitables may complete at once.
    """

    __slots__ = ("__weakref__", "_loop", "_running", "until")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running = False
        self.until = 0.0

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Turn:
        """The turn that all handles on `loop` share."""
        turn = _turns.get(loop)
        if turn is None:
            turn = _turns[loop] = cls(loop)
        return turn

    def begin(self) -> bool:
        """Begin a turn; False: the last is used up and not over, so that awaitables have to complete through the loop.

        Raises:
            WrongLoop: as `check_loop`, and only here, once a turn, since it takes 0.15 us.
        """
        self.check_loop()
        if self._running:
            return False
        self._running = True
        self.until = perf_counter() + INLINE_SECONDS
        self._loop.call_soon(self._end)
        return True

    def _end(self) -> None:
        self._running = False
        self.until = 0.0

    def check_loop(self) -> None:
        """Refuse to go on elsewhere than on the loop.

        Raises:
            WrongLoop: the loop is not running here.
        """
        if asyncio._get_running_loop() is not self._loop:
            state = "is closed" if self._loop.is_closed() else "is not the one running here"
            raise WrongLoop(
                f"the event loop on which this handle was opened {state}; "
                "open a handle on each loop, and use akv.sync where no loop runs"
            )


# Not by weak keys: a turn knows its loop, and would keep it alive for ever.
_turns: WeakValueDictionary[asyncio.AbstractEventLoop, Turn] = WeakValueDictionary()


class Pending(asyncio.Future[T]):
    """What a verb returns at once: an asyncio future that is done when the operation is.

    Cancelling withdraws what is still queued. What has started goes on to its end (or is cut off where that leaves
    nothing behind), and CancelledError is delivered then: akv has let go of the caller's arrays.
    """

    # Set from outside: an __init__ over asyncio's own, which is in C, would take half a microsecond.
    __slots__ = ("_asked", "number", "op", "store")

    op: Operation
    store: Handle
    number: int  # among the failures of its handle
    _asked: tuple[Any]  # the message of a cancellation that has to wait for the operation's end

    def cancel(self, msg: Any | None = None) -> bool:
        """Ask for the operation to be withdrawn; False when it is done."""
        if self.done():
            return False
        if self.store.engine.cancel(self.op):
            self.op.listener = None
            return super().cancel(msg)
        self._asked = (msg,)
        return True

    def operation_done(self, op: Operation) -> None:
        """Called by whatever thread ended the operation."""
        loop = self.get_loop()
        if asyncio._get_running_loop() is loop:
            self.settle()  # which calls nobody: callbacks of a future come through the loop
            return
        try:
            loop.call_soon_threadsafe(self.settle)
        except RuntimeError:
            # The loop is closed: nobody is left to await this.
            return

    def settle(self) -> None:
        """Take over the outcome of the operation; called on the loop."""
        # No reference may lead back, or the caller's arrays would live until a garbage collection: not from the
        # operation to this, and not from it by its error's traceback to itself.
        self.op.listener = None
        if self.done():
            return
        if hasattr(self, "_asked"):
            super().cancel(*self._asked)
        elif type(self) is Pending and self.op.error is None:
            self.set_result(self.op.result)
            return
        elif (error := self._error()) is not None:
            self.set_exception(error)
            self.__class__ = _Failed  # pyright: ignore[reportAttributeAccessIssue]
            self.store.failures.add(self)
        else:
            self.set_result(self.op.result)
        self.op.error = None

    def _error(self) -> BaseException | None:
        error = self.op.error
        if isinstance(error, StopIteration):  # which no future accepts
            wrapped = RuntimeError(f"{self.op!r} raised StopIteration")
            wrapped.__cause__ = error
            return wrapped
        return error

    def __repr__(self) -> str:
        return f"<akv.Pending of {self.op!r}>"


class _Failed(Pending[Any]):
    """One that has failed: its error is for whoever awaits it, or for `flush`; asyncio's finalizer would log it."""

    # A class of its own, since a finalizer would take 40 ns of every awaitable.
    __slots__ = ()

    def __del__(self) -> None:
        """Leave the error to `flush`, if nobody has seen it, and say nothing."""
        self.store.failures.drop(self)


class Flushing(Pending[None]):
    """A flush: it fails with the first error that nobody has retrieved."""

    __slots__ = ()

    def settle(self) -> None:
        # A turn later than what it has waited for: those who await that have seen its errors by then.
        self.get_loop().call_soon(super().settle)

    def _error(self) -> BaseException | None:
        return super()._error() or self.store.failures.take()
