"""One value in a device's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from akv.backend.catalog_storage import Updated
from akv.optim.updaters import Elementwise, State, Updater
from akv.values.dtypes import NATIVE
from akv_cupy.device import Array, Device
from akv_cupy.lane import Lane
from akv_cupy.rig import Rig
from akv_cupy.updating import create_state

__all__ = ["Cell", "frozen"]


class Cell(Updated):
    """A stored value: its array, on the device where it lives, and the optimizer's beside it."""

    __slots__ = ("_rig", "array")

    def __init__(self, rig: Rig, array: Array, version: int) -> None:
        self._rig, self.array = rig, array
        super().__init__(array.shape, array.dtype, version)

    @property
    def home(self) -> Device:
        return self.array.device

    def state_for(self, lane: Lane, updater: Elementwise) -> Sequence[Array]:
        """The arrays that the updater keeps; made at the first push."""
        state = self.state(updater)
        if state is None:
            state = cast(State, create_state(lane, updater, self.array))
            self.keep_state(updater, state)
        return cast("Sequence[Array]", state)

    def keep_state(self, updater: Updater, state: State) -> None:
        """From now on these are the arrays; those in host memory are copied to the device."""
        arrays = [self._rig.put(self.home, array) if isinstance(array, np.ndarray) else array for array in state]
        super().keep_state(updater, cast(State, tuple(arrays)))

    def lend_state(self, updater: Updater) -> tuple[State | None, object]:
        """Copies of the arrays in host memory, which nobody changes."""
        state = self.state(updater)
        return state and tuple([self._rig.get(cast(Any, array)) for array in state]), None

    def fetch(self) -> np.ndarray:
        """A copy of the value in host memory."""
        return self._rig.get(self.array)


class _Owner:
    """The owner of memory that numpy cannot make writable again."""

    __slots__ = ("__array_interface__", "_array")

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, True)}


def frozen(array: np.ndarray) -> np.ndarray:
    """The array, read-only for good."""
    # The array interface has no word for bfloat16 and its kin: they travel as integers of their size.
    bits = array if array.dtype in NATIVE else array.view(f"u{array.itemsize}")
    return np.asarray(_Owner(bits)).view(array.dtype)
