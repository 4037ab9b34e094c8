"""A machine with GPUs that are not there, to run akv_cupy without one, and to find what it forgets to wait for.

Work lies on its stream until somebody waits for it; fresh memory is full of NaN; freed memory is used again at once.
And each access to memory is held against all earlier ones: where no event and no stream orders two of them, one of
which writes, there is a `Race`, whatever the timing was. Nothing here says anything of how fast a GPU is.
"""

from __future__ import annotations

from akv_cupy.simulated.machine import GuestArray, SimulatedDevice, SimulatedMachine
from akv_cupy.simulated.memory import Race

__all__ = ["GuestArray", "Race", "SimulatedDevice", "SimulatedMachine"]
