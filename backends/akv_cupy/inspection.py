"""Looking for NaN and infinities in what was pushed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from akv.backend.screen import Screen
from akv.values.device import OnDevice
from akv.values.dtypes import NATIVE, is_inexact
from akv.values.forms import Value
from akv.values.rowsparse import RowSparse
from akv_cupy import plain
from akv_cupy.device import Array
from akv_cupy.guests import bring_guest, given
from akv_cupy.inputs import fetch
from akv_cupy.lane import Lane

__all__ = ["inspect"]


def inspect(lane: Lane, parts: Sequence[Value], screen: Screen) -> bool:
    """Whether the push is to be dropped; waits for a device to look. Raises NonFinite."""
    for part in parts:
        if not isinstance(part, OnDevice):
            screen.look(part.values if isinstance(part, RowSparse) else part)
        elif part.dtype in NATIVE:
            screen.found(_count(lane, bring_guest(lane, part, given(part).device)))
        else:
            screen.look(cast(np.ndarray, fetch(lane, part)))
    return screen.drops()


def _count(lane: Lane, values: Array) -> int:
    """How many elements are not finite."""
    if not is_inexact(values.dtype) or not values.size:
        return 0
    found = lane.empty(values.device, (1,), np.dtype(np.int64))
    lane.launch(values.device, plain.NONFINITE, values.size, found, values)
    return int(lane.fetch(found)[0])
