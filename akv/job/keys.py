"""The keys of a job, and what happens to all of them when its members change."""

from __future__ import annotations

from collections.abc import Callable

from akv.errors import KeyNotFound
from akv.job.barriers import Barriers
from akv.job.track import Track
from akv.values.keys import Key

__all__ = ["Keys"]


class Keys:
    """The tracks of a job by key; also the audience of its roster.

    Attributes:
        tracks: those of keys that exist, or that somebody waits for.
    """

    def __init__(self, make: Callable[[Key], Track], barriers: Barriers) -> None:
        self.tracks: dict[Key, Track] = {}
        self._make = make
        self._barriers = barriers

    def track(self, key: Key) -> Track:
        """The track of a key, made if there is none."""
        track = self.tracks.get(key)
        if track is None:
            track = self.tracks[key] = self._make(key)
        return track

    def existing(self, key: Key) -> Track:
        """The track of a key that exists.

        Raises:
            KeyNotFound: it does not.
        """
        track = self.tracks.get(key)
        if track is None or not track.version:
            raise KeyNotFound(f"push: key {key!r:.200} does not exist; init it first")
        return track

    def tidy(self, key: Key) -> None:
        """Forget a key that does not exist and that nobody waits for."""
        track = self.tracks.get(key)
        if track is not None and track.idle:
            del self.tracks[key]

    def joined(self, rank: int, fresh: bool, late: bool) -> None:
        for track in self.tracks.values():
            track.joined(rank, fresh, late)

    def gone(self, rank: int) -> None:
        self._barriers.gone(rank)
        for key, track in list(self.tracks.items()):
            track.gone(rank)
            track.reborn()
            self.tidy(key)

    def lost(self, rank: int) -> None:
        self._barriers.lost(rank)
        for key, track in list(self.tracks.items()):
            track.lost(rank)
            self.tidy(key)

    def validate(self) -> None:
        """Check the invariants, for tests."""
        for track in self.tracks.values():
            assert not track.idle
            track.validate()
