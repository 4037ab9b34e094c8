"""AKV_DEBUG=1: an array that was pushed is read-only until the store has let go of it; a write to it is an error.

Without the variable such a write goes unnoticed, and changes what is pushed now and then.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from akv.operations import Operation

__all__ = ["GUARD", "Guard"]

# Reading flags.writeable warns for results of np.broadcast_arrays; the bit is NPY_ARRAY_WRITEABLE of numpy's C API.
_WRITEABLE = 0x0400


class _Loan:
    """An array that was writable, and how many operations read it."""

    __slots__ = ("array", "count")

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.count = 0


class Guard:
    """Takes the right to write from arrays while operations read them; all methods may be called from any thread.

    One for the process, since two stores may be reading the same array. An array is known by its identity: other views
    of the same memory stay as they are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lent: dict[Operation, list[_Loan]] = {}
        self._loans: dict[int, _Loan] = {}
        self._late: list[np.ndarray] = []  # returned before the array that owns their memory

    def lend(self, op: Operation) -> None:
        """Make what `op` reads read-only, as far as that can be undone."""
        with self._lock:
            self._lent[op] = [self._lend(array) for array in op.borrowed if self._lendable(array)]

    def release(self, op: Operation) -> None:
        """Make what only `op` was reading writable again; nothing where nothing was lent to it."""
        with self._lock:
            for loan in self._lent.pop(op, ()):
                loan.count -= 1
                if not loan.count:
                    del self._loans[id(loan.array)]
                    self._late.append(loan.array)
            owners_first = sorted(self._late, key=lambda array: array.base is not None)
            self._late = [array for array in owners_first if not _give_back(array)]

    def _lendable(self, array: np.ndarray) -> bool:
        """Whether `array` is writable, or lent already; and numpy would make it so again: it asks the owner."""
        if id(array) in self._loans:
            return True
        if not array.flags.num & _WRITEABLE:
            return False
        return array.base is None or isinstance(array.base, np.ndarray) or _is_writable_buffer(array.base)

    def _lend(self, array: np.ndarray) -> _Loan:
        loan = self._loans.setdefault(id(array), _Loan(array))
        loan.count += 1
        array.flags.writeable = False
        return loan


def _is_writable_buffer(owner: Any) -> bool:
    try:
        return not memoryview(owner).readonly
    except TypeError:  # a torch tensor, say
        return False


def _give_back(array: np.ndarray) -> bool:
    try:
        array.flags.writeable = True
    except ValueError:
        return False
    return True


GUARD = Guard()

if hasattr(os, "register_at_fork"):
    # In a child another thread may hold the lock for ever; its stores are new, and have borrowed nothing.
    os.register_at_fork(after_in_child=GUARD.__init__)  # type: ignore[misc]
