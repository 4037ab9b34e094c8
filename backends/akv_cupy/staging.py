"""Page-locked host memory, in slots that operations share: what goes to a device or comes from it passes through."""

from __future__ import annotations

import threading

import numpy as np

from akv_cupy.device import Device

__all__ = ["SLOT_NBYTES", "Staging"]

# A copy of 4 MiB takes 0.1 to 0.4 ms, so that starting it (some microseconds) does not count, and the host's own copy
# of one slot goes on while the device takes another.
SLOT_NBYTES = 4 << 20


class Staging:
    """Slots of SLOT_NBYTES, made when first needed and kept.

    Who waits for a slot must hold none: those that are out then come back by themselves.
    """

    def __init__(self, device: Device, nbytes: int) -> None:
        self._device = device
        self._unmade = max(2, nbytes // SLOT_NBYTES)
        self._free: list[np.ndarray] = []
        self._change = threading.Condition()

    def take(self, *, wait: bool) -> np.ndarray | None:
        """A slot; where there is none, None, or the next one that comes back."""
        with self._change:
            if not self._free and self._unmade:
                self._free.append(self._device.pinned(SLOT_NBYTES))
                self._unmade -= 1
            if wait:
                self._change.wait_for(lambda: self._free)
            return self._free.pop() if self._free else None

    def give(self, slot: np.ndarray) -> None:
        """A slot is not used any more, neither by the host nor by a device."""
        with self._change:
            self._free.append(slot)
            self._change.notify()
