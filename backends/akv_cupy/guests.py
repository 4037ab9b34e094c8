"""Arrays of callers in GPU memory: read from, and written to, in the order of their streams."""

from __future__ import annotations

from akv.values.device import OnDevice
from akv.values.dtypes import DType
from akv_cupy import arithmetic
from akv_cupy.device import Array, Device, Event
from akv_cupy.lane import Lane

__all__ = ["bring_guest", "deliver", "given", "own"]


def given(value: OnDevice) -> Array:
    """The array as the machine has adopted it."""
    array: Array = value.adopted[0]
    return array


def bring_guest(lane: Lane, value: OnDevice, device: Device) -> Array:
    """A caller's array as a C-contiguous one on this device: itself, or a copy."""
    array = _ready(lane, value)
    if array.strides is not None:
        array = _cast(lane, array, array.dtype)
    if array.device is device:
        return array
    return _copied(lane, array, device)


def own(lane: Lane, value: OnDevice, device: Device) -> Array:
    """A copy of a caller's array on this device."""
    array = bring_guest(lane, value, device)
    return _copied(lane, array, device) if array is given(value) else array


def deliver(lane: Lane, array: Array, value: OnDevice) -> None:
    """Write to a caller's array, cast to its dtype."""
    target = _ready(lane, value)
    if array.dtype != target.dtype:
        array = _cast(lane, array, target.dtype)
    if target.strides is None:
        lane.copy(array, target)
        return
    if array.device is not target.device:
        array = _copied(lane, array, target.device)
    arithmetic.cast(lane, array, target)


def _ready(lane: Lane, value: OnDevice) -> Array:
    array: Array
    event: Event
    array, event = value.adopted
    lane.after(event, array.device, value)
    return array


def _copied(lane: Lane, array: Array, device: Device) -> Array:
    fresh = lane.empty(device, array.shape, array.dtype)
    lane.copy(array, fresh)
    return fresh


def _cast(lane: Lane, array: Array, dtype: DType) -> Array:
    fresh = lane.empty(array.device, array.shape, dtype)
    arithmetic.cast(lane, array, fresh)
    return fresh
