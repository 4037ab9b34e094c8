"""The memory that a server gives to requests: who may take how much, and who has to wait."""

from __future__ import annotations

from collections.abc import Callable

from akv.backend.thread_pool import ThreadPool
from akv.errors import QueueFull

from .stream_budget import StreamBudget

__all__ = ["MemoryBudget", "Share"]

# A connection that holds nothing may always take this much: what others hold cannot shut it out.
_ALWAYS = 1 << 20


class MemoryBudget:
    """What all connections may hold together.

    Attributes:
        total, held: bytes.
        waiting: the shares that were refused, the longest waiting first.
        backlog: bytes of answers that all clients together have not taken.
        stream_budget: what is there for saves and loads; twice as much as for requests, since a load is a whole store.
        aside: a thread for what would hold the loop up. One: each more would make the loop wait longer for its turn.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self.waiting: dict[Share, None] = {}
        self.backlog = 0
        self.stream_budget = StreamBudget(2 * total)
        self.aside = ThreadPool("akv-server", 1)

    def backlog_of_one(self, most: int) -> int:
        """The bytes of answers that one client may leave untaken: `most`, or little while all leave too much."""
        return most if self.backlog <= self.total else min(most, _ALWAYS)

    def give_back(self, nbytes: int) -> None:
        """These bytes are free again: whoever was refused may ask again."""
        self.held -= nbytes
        if self.waiting:
            waiting, self.waiting = self.waiting, {}
            for share in waiting:
                share.wake()


class Share:
    """What one connection holds, also of requests that outlive it.

    Nobody is told to wait for memory that only becomes free by what the same connection would send next: it may be
    needed to finish what it has begun.

    Args:
        window: bytes.
        wake: called when there may be budget, after there was none.
    """

    def __init__(self, budget: MemoryBudget, window: int, wake: Callable[[], object]) -> None:
        self.held = 0
        self.wake = wake
        self._budget = budget
        self._window = window

    @property
    def stream_budget(self) -> StreamBudget:
        """The server's."""
        return self._budget.stream_budget

    @property
    def aside(self) -> ThreadPool:
        """The same."""
        return self._budget.aside

    @property
    def most(self) -> int:
        """The bytes that all requests together may take, and so one alone."""
        return self._budget.total

    def take(self, nbytes: int, unfinished: int) -> bool:
        """Take memory for a message, if there is some. `unfinished`: bytes held for messages that are still coming.

        Raises:
            QueueFull: it has begun more than it may.
        """
        if unfinished and self.held + nbytes > 2 * self._window:
            raise QueueFull(f"{self.held} bytes of requests are under way on this connection, and {nbytes} more came")
        if not unfinished and not self._has_room(nbytes):
            self._budget.waiting[self] = None
            return False
        self.held += nbytes
        self._budget.held += nbytes
        return True

    def give_back(self, nbytes: int) -> None:
        """A request is answered, or will not be finished."""
        if nbytes:
            self.held -= nbytes
            self._budget.give_back(nbytes)

    def leave(self) -> None:
        """The connection has ended: nobody waits any more."""
        self._budget.waiting.pop(self, None)

    def _has_room(self, nbytes: int) -> bool:
        budget = self._budget
        if not self.held:
            return nbytes <= _ALWAYS or not budget.held or budget.held + nbytes <= budget.total
        return self.held + nbytes <= self._window and budget.held + nbytes <= budget.total
