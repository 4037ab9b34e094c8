"""What has to be done next, and what follows from that: in the order in which it comes up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, TypeAlias

from akv.backend.thread_pool import ThreadPool

__all__ = ["Action", "Agenda"]

Action: TypeAlias = Callable[[], None]

# Seconds of work that one call may find itself left with, for others who wait for it; a thread does the rest.
_TURN: Final = 0.005


class Agenda:
    """Runs actions in the thread that asks for it, or in one of its own where the caller holds locks."""

    def __init__(self) -> None:
        self._here = _Here()
        self._aside = ThreadPool("akv-job", 1)

    def run(self, actions: Sequence[Action]) -> None:
        """Do this, and what it leads to; from within an action: after what is to be done already."""
        # A loop, since recursion would have no bound.
        here = self._here
        here.actions.extend(actions)
        if here.busy:
            return
        here.busy = True
        until = monotonic() + _TURN
        try:
            while here.actions:
                here.actions.popleft()()
                if here.actions and monotonic() > until:
                    rest = list(here.actions)
                    here.actions.clear()
                    self.run_aside(rest)
        finally:
            here.busy = False

    def run_aside(self, actions: Sequence[Action]) -> None:
        """Have a thread do it."""
        if actions:
            self._aside.submit(lambda: self.run(actions))


class _Here(threading.local):
    """What one thread has still to do."""

    def __init__(self) -> None:
        self.actions: deque[Action] = deque()
        self.busy = False
