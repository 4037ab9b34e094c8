"""A store's own threads. They live while there is work, and end by themselves."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NoReturn

from akv.backend.storage import Pass, Where

__all__ = ["Slices", "ThreadPool"]

Work = Callable[[], None]

# Starting a thread costs some 50 us, as much as waking one; a second bridges the pauses of a training loop.
_IDLE_SECONDS = 1.0


class ThreadPool:
    """At most `size` daemon threads that take work in the order it came."""

    def __init__(self, name: str, size: int | None = None) -> None:
        self.size = size or min(4, os.cpu_count() or 1)
        self._name = name
        self._change = threading.Condition()
        self._work: deque[Work] = deque()
        self._threads = self._idle = 0

    def submit(self, work: Work, copies: int = 1) -> None:
        """Have `work` called by `copies` threads, or here where no thread can be started. It must not raise."""
        with self._change:
            self._work.extend([work] * copies)
            self._change.notify(copies)
            for _ in range(min(len(self._work) - self._idle, self.size - self._threads)):
                if not self._hire():
                    break
            alone = not self._threads
        while alone and self._work:
            self._work.popleft()()

    def _hire(self) -> bool:
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError:  # the system has no more, or (from 3.12 on) the interpreter is shutting down
            return False
        self._threads += 1
        return True

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # and with it the arrays of the last operation, while this thread waits

    def _next(self) -> Work | None:
        with self._change:
            self._idle += 1
            self._change.wait_for(lambda: self._work, _IDLE_SECONDS)
            self._idle -= 1
            if self._work:
                return self._work.popleft()
            self._threads -= 1
            return None


class Slices:
    """One pass over memory, cut into slices that several threads take until none is left."""

    def __init__(self, run: Pass, slices: Iterable[Where], stopped: Callable[[], bool]) -> None:
        self._run = run
        self._left = iter(slices)
        self._stopped = stopped
        self._change = threading.Condition()
        self._busy = 0
        self._error: BaseException | None = None

    def work(self) -> None:
        """Take slices until there are none; errors are kept for `join`."""
        while (where := self._take()) is not None:
            try:
                self._run(where)
            except BaseException as error:
                with self._change:
                    self._error = self._error or error
            with self._change:
                self._busy -= 1
                self._change.notify_all()

    def _take(self) -> Where | None:
        with self._change:
            if self._error is not None or self._stopped() or (where := next(self._left, None)) is None:
                return None
            self._busy += 1
            return where

    def join(self) -> bool:
        """Wait for the slices that were taken; raise the first error; return whether all slices were done."""
        with self._change:
            # A slice takes a fraction of a millisecond, and cannot wait for anything.
            self._change.wait_for(lambda: self._busy == 0)
            if self._error is not None:
                self._raise()
            return next(self._left, None) is None

    def _raise(self) -> NoReturn:
        error, self._error, self._left = self._error, None, iter(())
        assert error is not None
        try:
            raise error
        finally:
            del error  # with its traceback it would refer to itself, and to the arrays that it ran over
