"""Transactions whose work is done on devices, later."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from akv.backend.storage import Transaction
from akv_cupy.lane import Lane
from akv_cupy.rig import Rig

__all__ = ["DeviceTransaction"]


class DeviceTransaction(Transaction):
    """Work for a lane in two steps, then, when the devices are done with it, a commit (or an abort).

    The two count as passes: `tentative` is 2 where also the second leaves the stored value as it was.
    """

    __slots__ = ("_rig",)

    def __init__(self, rig: Rig, nbytes: int) -> None:
        super().__init__(nbytes, tentative=1)
        self._rig = rig

    def prepare(self, lane: Lane) -> None:
        """All that leaves the stored value, and arrays of the caller's, as they were."""

    @abstractmethod
    def apply(self, lane: Lane) -> None:
        """The rest."""

    def run(self) -> Any:
        """All at once, for those who have no lane; waits."""
        with self._rig.lane() as lane:
            self.prepare(lane)
            self.apply(lane)
        return self.commit()
