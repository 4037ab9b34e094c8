"""One operation's way over the devices: a stream on each that it touches, and what has to live until it is over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from akv.errors import BackendUnavailable
from akv.values.buffers import empty
from akv.values.dtypes import DType
from akv_cupy.batch import Batch, Small, tabulated
from akv_cupy.device import Array, Device, Event, Kernel, Stream
from akv_cupy.trip import PARCEL_NBYTES, Trip, as_bytes
from akv_cupy.waiter import wait_for

if TYPE_CHECKING:
    from akv_cupy.rig import Rig, Track

__all__ = ["Lane"]


_SMALL_NBYTES = PARCEL_NBYTES // 4


class Lane:
    """Puts work on streams. All that it is given is kept alive until `finish`, by which time the devices are done.

    To be used by one thread at a time. `close`, wait for its event, `finish`: in this order, once.

    Attributes:
        next: the arrays that will be values when this operation's writes are committed: what its own reads see.
    """

    def __init__(self, rig: Rig, level: int, stop: Callable[[], None] | None) -> None:
        self.level = level
        self.next: dict[object, Array] = {}
        self.stop = stop
        self._rig = rig
        self._trips: dict[int, Trip] = {}
        self._kept: list[object] = []
        self._batch = Batch()

    # -- work -------------------------------------------------------------------------------------------------

    def empty(self, device: Device, shape: tuple[int, ...], dtype: DType) -> Array:
        """Fresh memory with unknown contents."""
        array = Array(device, None, shape, dtype)
        array.memory = device.allocate(array.nbytes)
        self._kept.append(array)
        return array

    def upload(self, host: np.ndarray, to: Array) -> None:
        """Copy from host memory, which is free again on return. Raises what `stop` raises, between two slots."""
        if to.nbytes:
            self._trip(to.device).upload(as_bytes(host), to, self.stop)

    def borrow(self, host: np.ndarray, device: Device) -> Array:
        """A copy of host memory, which is free again on return, for as long as this lane: small ones go together."""
        if 0 < host.nbytes <= _SMALL_NBYTES:
            placed = self._trip(device).place(as_bytes(host))
            array = Array(device, placed.memory, host.shape, host.dtype, placed.offset)
            self._kept.append(array)
            return array
        array = self.empty(device, host.shape, host.dtype)
        self.upload(host, array)
        return array

    def download(self, array: Array, take: Callable[[int, np.ndarray], None]) -> None:
        """Copy to host memory: `take(first byte, bytes)` is called for each part, now or in `settle` or `finish`."""
        self.flush()
        self._kept.append(array)
        if array.nbytes:
            self._trip(array.device).download(array, take)

    def fetch(self, array: Array) -> np.ndarray:
        """A copy in host memory; waits for it."""
        host = empty(array.shape, array.dtype)
        into = as_bytes(host)

        def take(start: int, part: np.ndarray) -> None:
            into[start : start + len(part)] = part

        self.download(array, take)
        self.settle()
        return host

    def copy(self, source: Array, target: Array) -> None:
        """Copy bytes to another array, of the same device or not."""
        self.flush()
        self._kept += (source, target)
        if target.nbytes:
            if source.device is not target.device:
                self._after(source.device, target.device)
            target.device.copy(source, target, self._stream(target.device))

    def clear(self, array: Array) -> None:
        """Set all elements to 0."""
        self.flush()
        self._kept.append(array)
        if array.nbytes:
            array.device.clear(array, self._stream(array.device))

    def launch(self, device: Device, kernel: Kernel, size: int, *arguments: object) -> None:
        """Run a kernel over `size` elements."""
        self.flush()
        self._kept += arguments
        if size:
            device.launch(kernel, size, *arguments, stream=self._stream(device))

    def launch_small(self, device: Device, small: Small) -> None:
        """The same, later: before anything else but uploads, in one launch with others of its kind."""
        self._kept += small.arguments
        self._batch.add(device, small)

    def flush(self) -> None:
        """Copy and launch what was to be copied and launched later."""
        for trip in self._trips.values():
            trip.ship()
        for launch in self._batch.take():
            self._launch_together(*launch)

    def _launch_together(self, device: Device, group: Sequence[Small]) -> None:
        if len(group) == 1:
            (small,) = group
            device.launch(small.one, small.size, *small.arguments, stream=self._stream(device))
            return
        rows, beside = tabulated(device, group)
        table = self.empty(device, rows.shape, rows.dtype)
        self._trip(device).upload(as_bytes(rows), table, None)
        device.launch(group[0].many, len(group), table, stream=self._stream(device), beside=beside)

    def after(self, event: Event, device: Device, keep: object) -> None:
        """What comes next on this device begins after an event, which is that of something to be kept alive."""
        self._kept.append(keep)
        self._stream(device).wait(event)

    # -- the end ----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait for all work so far, and deliver what was downloaded. Raises BackendUnavailable: a device failed."""
        self.flush()
        for trip in self._trips.values():
            trip.settle()

    def close(self) -> tuple[Event, Track] | None:
        """The point behind all work, and who can wait for it; None if there was none."""
        self.flush()
        trips = list(self._trips.values())
        if not trips:
            return None
        first = trips[0]
        for trip in trips[1:]:
            first.track.stream.wait(trip.track.stream.record())
        return first.track.stream.record(), first.track

    @property
    def undelivered(self) -> int:
        """How many bytes `finish` has to copy."""
        return sum(trip.undelivered for trip in self._trips.values())

    def finish(self, *, deliver: bool = True) -> None:
        """All work is done (or the device has failed): let go of everything."""
        try:
            for trip in self._trips.values():
                trip.finish(deliver)
        finally:
            for trip in self._trips.values():
                self._rig.leave(trip.track)
            self._trips.clear()
            self.next.clear()
            self._kept.clear()

    def abandon(self) -> None:
        """Something went wrong: let go of everything, but not before the devices have."""
        for trip in self._trips.values():
            with contextlib.suppress(BackendUnavailable):  # a device that has failed lets go of all
                wait_for(trip.track.stream.record())
        self.finish(deliver=False)

    def __enter__(self) -> Lane:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.settle()
            self.finish()
        else:
            self.abandon()

    # -- streams ----------------------------------------------------------------------------------------------

    def _trip(self, device: Device) -> Trip:
        trip = self._trips.get(device.index)
        if trip is None:
            track = self._rig.enter(device, self.level)
            trip = self._trips[device.index] = Trip(device, track, self._rig.staging)
        return trip

    def _stream(self, device: Device) -> Stream:
        return self._trip(device).track.stream

    def _after(self, source: Device, target: Device) -> None:
        """What comes next on one device begins after what this lane has put on the other."""
        if source.index in self._trips:
            self._stream(target).wait(self._stream(source).record())
