"""How many operations and bytes may be started at a time, and what has been."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

__all__ = ["Budget", "Started"]


class Budget(NamedTuple):
    """How many operations and bytes may be started at a time, and how many operations may wait.

    Operations of at most `free` bytes do not count to the bytes; they still wait behind what is more urgent.
    """

    operations: int
    nbytes: int
    queued: int
    free: int = 0


class _Sized(Protocol):
    """What is read of an operation."""

    nbytes: int


Op = TypeVar("Op", bound=_Sized)


class Started(dict[Op, int]):
    """The operations that are started within a budget, and the bytes that each of them is charged with.

    Attributes:
        apart: how many are started outside the budget.
    """

    __slots__ = ("_budget", "_charged", "apart")

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.apart = 0
        self._budget = budget
        self._charged = 0

    def affords(self, op: Op) -> bool:
        """Whether the budget has room for `op` now."""
        # One operation may always run, however large; a smaller one never overtakes it, or it might wait for ever.
        if not self:
            return True
        if len(self) >= self._budget.operations:
            return False
        return op.nbytes <= self._budget.free or self._charged + op.nbytes <= self._budget.nbytes

    def add(self, op: Op) -> None:
        """Charge the budget with `op`."""
        self[op] = charge = op.nbytes if op.nbytes > self._budget.free else 0
        self._charged += charge

    def remove(self, op: Op) -> None:
        """Let go of an operation, which was started within the budget or outside it."""
        charge = self.pop(op, None)
        if charge is None:
            self.apart -= 1
        else:
            self._charged -= charge

    def validate(self) -> None:
        """Check the invariants, for tests."""
        assert self._charged == sum(self.values())
        assert len([charge for charge in self.values() if charge]) <= 1 or self._charged <= self._budget.nbytes
        assert len(self) <= self._budget.operations
