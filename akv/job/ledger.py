"""Numbered calls: each is carried out once and answered alike, however often it is sent.

One ledger holds the pushes of one session on one key, or its passes through one barrier. The numbers count from 1
without gaps. A client keeps at most `window` of them unanswered, so these are all that it can send again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from akv.errors import ProtocolError
from akv.job.effects import Fail

if TYPE_CHECKING:
    from akv.job.waiting import Waiter

__all__ = ["Ledger", "Outcome"]

# A version, or the failure that was answered.
Outcome: TypeAlias = int | Fail


class Ledger:
    """See the module's text.

    Attributes:
        last: the highest number that was taken.
        open: those of them that are still in progress.
        outcomes: the newest answers, by number, in the order in which they were given.
    """

    __slots__ = ("last", "open", "outcomes", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.last = 0
        self.open: dict[int, Waiter] = {}
        self.outcomes: dict[int, Outcome] = {}

    def look(self, number: int) -> Waiter | Outcome | None:
        """What became of `number`: the call in progress, its outcome, or None when it is the next and new.

        Raises:
            ProtocolError: a number was left out, is too old, or too many are in progress.
        """
        if number <= self.last:
            return self._known(number)
        if number != self.last + 1:
            raise ProtocolError(f"number {number} came after {self.last}: {number - self.last - 1} were left out")
        if len(self.open) >= self.window:
            raise ProtocolError(f"number {number} came while {len(self.open)} before it are in progress, the most")
        return None

    def _known(self, number: int) -> Waiter | Outcome:
        if number in self.open:
            return self.open[number]
        if number not in self.outcomes:
            raise ProtocolError(f"number {number} came again after {self.last}; only {self.window} are remembered")
        return self.outcomes[number]

    def begin(self, number: int, waiter: Waiter) -> None:
        """The call of this number waits."""
        self.last = max(self.last, number)
        self.open[number] = waiter

    def end(self, number: int, outcome: Outcome) -> None:
        """The call of this number has ended."""
        self.last = max(self.last, number)
        self.open.pop(number, None)
        self.outcomes[number] = outcome
        if len(self.outcomes) > self.window:
            # The oldest answer, whatever its number: answers arrive in the order in which they were given.
            del self.outcomes[next(iter(self.outcomes))]

    def validate(self) -> None:
        """Check the invariants, for tests."""
        assert len(self.open) <= self.window
        assert len(self.outcomes) <= self.window
        assert not self.open.keys() & self.outcomes.keys()
        assert all(number <= self.last for number in (*self.open, *self.outcomes))
