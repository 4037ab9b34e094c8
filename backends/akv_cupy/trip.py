"""One operation's way over one device: its stream, and the slots of host memory that its copies pass through."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from akv_cupy.device import Array, Device, Event
from akv_cupy.staging import SLOT_NBYTES, Staging
from akv_cupy.waiter import wait_for

if TYPE_CHECKING:
    from akv_cupy.rig import Track

__all__ = ["PARCEL_NBYTES", "Trip", "as_bytes"]

# So many at a time keep the host's copies and the device's going side by side.
_SLOTS = 3

# What is copied to a device in one go with others; a copy takes some microseconds, whatever it copies.
PARCEL_NBYTES = 64 << 10

# Of what allocations on a device begin at.
_ALIGNMENT = 256

Take = Callable[[int, np.ndarray], None]


class _Load:
    """A slot in use: how much of it, by what, and the event behind that."""

    __slots__ = ("arrived", "event", "slot", "used")

    def __init__(self, slot: np.ndarray) -> None:
        self.slot = slot
        self.used = 0
        self.event: Event | None = None
        self.arrived: list[tuple[Take, int, np.ndarray]] = []


class _Parcel:
    """Small things that go to the device together: the same bytes here and there, and how many of them have gone."""

    __slots__ = ("gone", "room", "there", "used")

    def __init__(self, room: np.ndarray, there: Array) -> None:
        self.room, self.there = room, there
        self.used = self.gone = 0

    def put(self, source: np.ndarray) -> Array | None:
        """Where they will be on the device; None if they do not fit."""
        start, stop = self.used, self.used + len(source)
        if stop > len(self.room):
            return None
        self.room[start:stop] = source
        self.used = -(-stop // _ALIGNMENT) * _ALIGNMENT
        return self.there.as_bytes(start, stop)


class Trip:
    """See the module's text."""

    def __init__(self, device: Device, track: Track, staging: Staging) -> None:
        self.device, self.track = device, track
        self._staging = staging
        self._loads: deque[_Load] = deque()
        self._parcel: _Parcel | None = None

    def upload(self, source: np.ndarray, to: Array, stop: Callable[[], None] | None) -> None:
        """Copy bytes to the device, slot by slot."""
        for start in range(0, len(source), SLOT_NBYTES):
            if stop is not None:
                stop()
            part = source[start : start + SLOT_NBYTES]
            room = self._room(len(part))
            np.copyto(room, part)
            self.device.upload(room, to.as_bytes(start, start + len(part)), self.track.stream)

    def download(self, array: Array, take: Take) -> None:
        """Copy bytes from the device, slot by slot."""
        for start in range(0, array.nbytes, SLOT_NBYTES):
            nbytes = min(SLOT_NBYTES, array.nbytes - start)
            room = self._room(nbytes)
            self.device.download(array.as_bytes(start, start + nbytes), room, self.track.stream)
            self._loads[-1].arrived.append((take, start, room))

    def place(self, source: np.ndarray) -> Array:
        """Some bytes, PARCEL_NBYTES at most, as an array on the device from the next `ship` on."""
        placed = None if self._parcel is None else self._parcel.put(source)
        if placed is None:
            self.ship()
            there = Array(self.device, self.device.allocate(PARCEL_NBYTES), (PARCEL_NBYTES,), np.dtype(np.uint8))
            self._parcel = _Parcel(self._room(PARCEL_NBYTES), there)
            placed = self._parcel.put(source)
            assert placed is not None
        return placed

    def ship(self) -> None:
        """Copy what was placed."""
        parcel = self._parcel
        if parcel is not None and parcel.gone < parcel.used:
            start, parcel.gone = parcel.gone, min(parcel.used, PARCEL_NBYTES)
            there = parcel.there.as_bytes(start, parcel.gone)
            self.device.upload(parcel.room[start : parcel.gone], there, self.track.stream)

    def settle(self) -> None:
        """Wait for all work so far, and deliver what was downloaded."""
        wait_for(self.track.stream.record())
        self.finish(True)

    @property
    def undelivered(self) -> int:
        """How many bytes wait for being delivered."""
        return sum(len(room) for load in self._loads for _, _, room in load.arrived)

    def finish(self, deliver: bool) -> None:
        """All work is done: deliver what was downloaded, and give the slots back."""
        self._parcel = None
        while self._loads:
            self._unload(self._loads.popleft(), deliver)

    def _room(self, nbytes: int) -> np.ndarray:
        """Memory in a slot."""
        if not self._loads or self._loads[-1].used + nbytes > SLOT_NBYTES:
            self._next_slot()
        load = self._loads[-1]
        start, load.used = load.used, -(-(load.used + nbytes) // _ALIGNMENT) * _ALIGNMENT
        return load.slot[start : start + nbytes]

    def _next_slot(self) -> None:
        if self._loads:
            self.ship()
            self._parcel = None
            self._loads[-1].event = self.track.stream.record()
        slot = None if len(self._loads) >= _SLOTS else self._staging.take(wait=not self._loads)
        while slot is None:
            self._return_oldest()
            slot = self._staging.take(wait=not self._loads)
        self._loads.append(_Load(slot))

    def _return_oldest(self) -> None:
        load = self._loads.popleft()
        try:
            assert load.event is not None
            wait_for(load.event)
        except BaseException:
            self._loads.appendleft(load)
            raise
        self._unload(load, True)

    def _unload(self, load: _Load, deliver: bool) -> None:
        try:
            if deliver:
                for take, start, room in load.arrived:
                    take(start, room)
        finally:
            self._staging.give(load.slot)


def as_bytes(host: np.ndarray) -> np.ndarray:
    """The bytes of an array in C order: a view where it is contiguous."""
    return np.ascontiguousarray(host).reshape(-1).view(np.uint8)
