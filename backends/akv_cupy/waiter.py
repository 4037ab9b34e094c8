"""Waiting for devices where nobody minds: one thread per stream in use.

Not a callback of the driver's: those may not call CUDA, need the GIL while the driver holds locks of its own, and never
come after an error. And not one thread for all streams: it would sit on the event of a long copy while that of an
urgent one has fired.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from akv_cupy.device import Event, has_fired

__all__ = ["Done", "Waiter", "fires_soon", "wait_for"]

# Called once with what went wrong, if anything.
Done = Callable[[BaseException | None], None]

# A look takes about half a microsecond; a kernel on little memory is over after some ten of them.
_LOOKS = 16
# As for the threads of a ThreadPool.
_IDLE_SECONDS = 1.0


def fires_soon(event: Event) -> bool:
    """Look a few times whether an event has fired. Raises BackendUnavailable: the device has failed."""
    return any(has_fired(event) for _ in range(_LOOKS))


def wait_for(event: Event) -> None:
    """Wait for an event, without the GIL if it takes its time. Raises BackendUnavailable: the device has failed."""
    if not fires_soon(event):
        event.synchronize()
        # Some errors let the wait itself succeed.
        has_fired(event)


class Waiter:
    """A thread that waits for the events of one stream, in their order. It ends by itself when there are none."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._change = threading.Condition()
        self._events: deque[tuple[Event, Done]] = deque()
        self._runs = False

    def add(self, event: Event, done: Done) -> None:
        """Have `done` called when the event has fired, or its device has failed."""
        with self._change:
            self._events.append((event, done))
            self._change.notify()
            runs, self._runs = self._runs, True
        if not runs:
            self._hire()

    def _hire(self) -> None:
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError:  # the interpreter is shutting down
            self._serve()

    def _serve(self) -> None:
        while (item := self._next()) is not None:
            event, done = item
            try:
                wait_for(event)
            except BaseException as error:
                done(error)
            else:
                done(None)
            del item, event, done  # and with them the arrays of the last operation, while this thread waits

    def _next(self) -> tuple[Event, Done] | None:
        with self._change:
            self._change.wait_for(lambda: self._events, _IDLE_SECONDS)
            if self._events:
                return self._events.popleft()
            self._runs = False
            return None
