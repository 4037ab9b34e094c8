"""One value in memory, and the snapshots that are out on it."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from akv.backend.catalog_storage import Updated
from akv.optim.updaters import Elementwise
from akv.values.buffers import empty
from akv.values.dtypes import NATIVE

__all__ = ["Cell"]


class Cell(Updated):
    """A stored value: its array, and what is lent out of it."""

    __slots__ = ("array", "loan")

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], version: int, array: np.ndarray | None = None
    ) -> None:
        super().__init__(shape, dtype, version)
        self.array = empty(shape, self.dtype) if array is None else array
        self.loan: weakref.ref[_Loan] | None = None

    def state_for(self, updater: Elementwise) -> tuple[np.ndarray, ...]:
        """The arrays the updater keeps beside the value, made at the first push."""
        state = self.state(updater)
        if state is None:
            state = updater.create_state(self.array)
            self.keep_state(updater, state)
        elif self.state_is_lent:
            state = tuple(array.copy() for array in state)
            self.keep_state(updater, state)
        return state

    def target(self) -> np.ndarray:
        """Where the next value may be written: the array itself, or a fresh one while a snapshot of it is out."""
        if self.loan is None or self.loan() is None:
            self.loan = None  # and the short way is open again
            return self.array
        return empty(self.shape, self.dtype)

    def replace(self, array: np.ndarray) -> None:
        """Take `array` as the value; snapshots keep the one before."""
        if array is not self.array:
            self.array = array
            self.loan = None

    def snapshot(self) -> np.ndarray:
        """A read-only array over the same memory."""
        loan = None if self.loan is None else self.loan()
        if loan is None:
            loan = _Loan(self.array)
            self.loan = weakref.ref(loan)
        bits = np.asarray(loan)
        # The array interface has no word for bfloat16 and its kin: they travel as integers of their size.
        return bits if bits.dtype == self.dtype else bits.view(self.dtype)


class _Loan:
    """Owner of the memory behind snapshots: numpy cannot collapse it from a view's base, nor make it writable again.

    A weak reference to the first array would not do: its views refer past it to the memory's owner, and outlive it.
    """

    __slots__ = ("__array_interface__", "__weakref__", "_array")

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        bits = array if array.dtype in NATIVE else array.view(f"u{array.dtype.itemsize}")
        self.__array_interface__ = {**bits.__array_interface__, "data": (array.ctypes.data, True)}
