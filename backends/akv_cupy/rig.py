"""The devices of one store, with their streams, and the host memory that everything passes through."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from akv_cupy.device import Array, Device, Machine
from akv_cupy.lane import Lane
from akv_cupy.staging import Staging
from akv_cupy.waiter import Waiter

__all__ = ["Rig", "Track"]

# Streams for each level of priority: so many operations of one level are under way at a time on one device.
_TRACKS = 4


class Track:
    """A stream, who waits for it, and how many operations are on it."""

    __slots__ = ("load", "stream", "waiter")

    def __init__(self, device: Device, level: int, number: int) -> None:
        self.stream = device.stream(level)
        self.waiter = Waiter(f"akv-{device.name}-{level}-{number}")
        self.load = 0


class Rig:
    """See the module's text.

    Args:
        machine: its devices hold the values.
        staging_nbytes: how much page-locked memory there may be.
    """

    def __init__(self, machine: Machine, staging_nbytes: int) -> None:
        self.machine = machine
        self.devices = machine.devices
        self.staging = Staging(self.devices[0], staging_nbytes)
        self._lock = threading.Lock()
        self._tracks: dict[tuple[int, int], list[Track]] = {}

    def home(self) -> Device:
        """Where a new value is to live: on the device with the least in it, as MXNet's device store does."""
        return min(self.devices, key=lambda device: device.memory()[0])

    def lane(self, level: int = 0, stop: Callable[[], None] | None = None) -> Lane:
        """What an operation of this level puts its work on; `stop` raises what it is to end with, if it is to end."""
        return Lane(self, level, stop)

    def enter(self, device: Device, level: int) -> Track:
        """The track with the fewest operations on it, with one more."""
        with self._lock:
            tracks = self._tracks.setdefault((device.index, level), [])
            if len(tracks) < _TRACKS and all(track.load for track in tracks):
                tracks.append(Track(device, level, len(tracks)))
            track = min(tracks, key=lambda track: track.load)
            track.load += 1
            return track

    def leave(self, track: Track) -> None:
        """An operation has ended."""
        with self._lock:
            track.load -= 1

    def put(self, device: Device, host: np.ndarray) -> Array:
        """A copy in the device's memory; waits for it."""
        with self.lane() as lane:
            array = lane.empty(device, host.shape, host.dtype)
            lane.upload(host, array)
            lane.settle()
        return array

    def get(self, array: Array) -> np.ndarray:
        """A copy in host memory; waits for it."""
        with self.lane() as lane:
            return lane.fetch(array)

    def close(self) -> None:
        """Nothing is under way any more."""
        for device in self.devices:
            device.close()
