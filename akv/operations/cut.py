"""Capturing all that is stored, and taking it in, for saves, loads, and those who send a store over a network.

Both go in stages, so that other handles wait for their keys no longer than they must. A capture finds out which keys
there are, and then holds their turns; what becomes of the captures comes when it holds none. What is taken in is
gathered first, and only then are turns held, to swap it in.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from akv.backend.saved import Capture, CheckpointStorage, Restored, SavedUpdater
from akv.backend.storage import Storage, Transaction
from akv.errors import InvalidArgument
from akv.operations.control import _Fence
from akv.values.keys import Key

__all__ = ["Restore", "Staged", "TakeCut"]


class Staged(_Fence):
    """An operation that takes its time, in whatever thread carries it out."""

    values = True

    def __init__(self) -> None:
        self._stage = 0
        super().__init__()

    def size(self, storage: Storage) -> int:
        return sys.maxsize  # never in its caller

    def able(self, storage: Storage) -> CheckpointStorage:
        """The storage, if it can be saved. Raises InvalidArgument."""
        if isinstance(storage, CheckpointStorage):
            return storage
        raise InvalidArgument(f"{self.verb}: this store makes no checkpoints; ask is_capable('checkpoint')")


class TakeCut(Staged):
    """Capture all that is stored, as it is at one moment.

    Attributes:
        updater, captures: what was captured.
    """

    verb = "save"
    writes = False

    def __init__(self) -> None:
        self.updater: SavedUpdater
        self.captures: list[Capture] = []
        self._names: Sequence[Key] = ()
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        able = self.able(storage)
        self._stage += 1
        if self._stage == 1:
            self.wanted = self._names = storage.keys()
        elif self._stage == 2:
            self._capture(able)
            self._keep(able.captures_last)
        else:
            self._finish()
        return ()

    def _capture(self, storage: CheckpointStorage) -> None:
        self.updater, self.captures = storage.capture(self._names)
        if not self.values and self.updater.optimizer is None:
            raise InvalidArgument(f"{self.verb}: the store has no optimizer; call set_optimizer first")

    def _keep(self, lasting: bool) -> None:
        """All is captured, and the keys are held; `lasting`: the captures need that no more."""
        if not lasting:
            self.captures = [_copied(capture, self.values) for capture in self.captures]
        self.wanted = ()

    def _finish(self) -> None:
        """Make something of the captures."""


class Restore(Staged):
    """Take in what was gathered."""

    verb = "load"

    def __init__(self) -> None:
        self.updater: SavedUpdater
        self.items: list[Restored] = []
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        able = self.able(storage)
        self._stage += 1
        if self._stage == 1:
            self._gather(able)
            self.wanted = [item.record.key for item in self.items]
            return ()
        items, self.items = self.items, []
        return able.begin_restore(self.verb, self.updater, items, self.values)

    def _gather(self, storage: CheckpointStorage) -> None:
        """Have the items ready. They are checked again with the turns; what is wrong by now need not be gathered."""


def _copied(capture: Capture, values: bool) -> Capture:
    value = capture.fetch().copy() if values else None
    state = tuple(array.copy() for array in capture.state)
    return Capture(capture.record, lambda: value, state, ids=capture.ids)  # type: ignore[arg-type, return-value]
