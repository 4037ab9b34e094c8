"""What was pushed, on its way to the device where the value lives."""

from __future__ import annotations

from collections.abc import Sequence

from akv.values.device import OnDevice
from akv.values.forms import Value
from akv.values.rowsparse import RowSparse
from akv_cupy.device import Array, Device
from akv_cupy.guests import bring_guest, given
from akv_cupy.lane import Lane

__all__ = ["borrow", "borrow_all", "bring", "fetch"]


def bring(lane: Lane, part: Value, device: Device) -> Array:
    """A value as an array on this device, in memory of its own: a copy, unless it is there already."""
    if isinstance(part, OnDevice):
        return bring_guest(lane, part, device)
    dense = part.todense() if isinstance(part, RowSparse) else part
    array = lane.empty(device, dense.shape, dense.dtype)
    lane.upload(dense, array)
    return array


def borrow(lane: Lane, part: Value, device: Device) -> Array:
    """The same, only for as long as the lane."""
    if isinstance(part, OnDevice):
        return bring_guest(lane, part, device)
    return lane.borrow(part.todense() if isinstance(part, RowSparse) else part, device)


def borrow_all(lane: Lane, parts: Sequence[Value], device: Device) -> list[Array]:
    """The values of a push, in their order."""
    return [borrow(lane, part, device) for part in parts]


def fetch(lane: Lane, part: Value) -> Value:
    """A value in host memory; waits for it if it is not there."""
    if not isinstance(part, OnDevice):
        return part
    return lane.fetch(bring_guest(lane, part, given(part).device))
