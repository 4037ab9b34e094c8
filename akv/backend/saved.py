"""What a checkpoint keeps of a store, as data, and the capability of a storage to give it out and to take it in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from akv.backend.storage import Transaction
from akv.values.keys import Key
from akv.values.rowsparse import Ids

if TYPE_CHECKING:
    from akv.init import Initialiser
    from akv.optim import Optimizer

__all__ = ["Capture", "CheckpointStorage", "Held", "Record", "Restored", "SavedUpdater"]


@dataclass(frozen=True, slots=True)
class Held:
    """How much of a table there is.

    Attributes:
        initialiser: what the other rows are.
        rows: how many are held.
        cleared: the other rows are zero instead.
    """

    initialiser: Initialiser
    rows: int
    cleared: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One key without its arrays.

    Attributes:
        count: how many pushes the optimizer has seen.
        state: the dtypes of the arrays that the optimizer keeps beside the value, all of the value's shape; None
            before its first push.
        held: what is known of a table. Then value and state are those of the rows that it holds.
    """

    key: Key
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    version: int
    count: int = 0
    state: tuple[np.dtype[Any], ...] | None = None
    held: Held | None = None

    @property
    def saved_shape(self) -> tuple[int, ...]:
        """The shape of the arrays that are saved."""
        return self.shape if self.held is None else (self.held.rows, *self.shape[1:])


@dataclass(frozen=True, slots=True)
class SavedUpdater:
    """What a store does with pushed values.

    Attributes:
        name: "assign", "add", "optimizer", or "function", which no file can hold.
        optimizer: the description, if it is an optimizer.
        learning_rate, lr_mult, wd_mult: what was changed while the store ran; see akv.optim.Settings.
    """

    name: str
    optimizer: Optimizer | None = None
    learning_rate: float | None = None
    lr_mult: Mapping[Key, float] = field(default_factory=dict)
    wd_mult: Mapping[Key, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Capture:
    """One key as it stands; as long as this lives, so do its arrays, unchanged.

    Attributes:
        fetch: gives the value, only to be read.
        state: the optimizer's arrays, only to be read.
        loan: whatever keeps `state` from being changed.
        ids: the rows that a table holds, in the order of value and state.
    """

    record: Record
    fetch: Callable[[], np.ndarray]
    state: Sequence[np.ndarray] = ()
    loan: object = None
    ids: Ids | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """One key read from a checkpoint. The arrays are C-contiguous and belong to the storage from now on.

    Attributes:
        value: None where only the optimizer's state is restored.
        ids: the rows that a table holds, each once.
    """

    record: Record
    value: np.ndarray | None
    state: tuple[np.ndarray, ...] = ()
    ids: Ids | None = None


class CheckpointStorage(ABC):
    """A capability: giving out what is stored with all that belongs to it, and taking it in.

    Attributes:
        captures_last: whether a capture outlives the turn of its key. If not, nobody may write to the keys meanwhile.
    """

    captures_last: bool = False

    @abstractmethod
    def capture(self, keys: Sequence[Key]) -> tuple[SavedUpdater, list[Capture]]:
        """What is stored under those of `keys` that exist. The caller has the turn of all of them."""

    @abstractmethod
    def check_restore(self, verb: str, updater: SavedUpdater, records: Sequence[Record], values: bool) -> None:
        """Whether it could be taken in: with `values` also under new keys, without only the state of existing ones.

        Raises:
            KeyTypeError, KeyNotFound, ShapeMismatch, DTypeMismatch.
            UpdaterConflict: the store has an updater, and it is another one.
        """

    @abstractmethod
    def begin_restore(
        self, verb: str, updater: SavedUpdater, items: Sequence[Restored], values: bool
    ) -> Sequence[Transaction]:
        """Check as `check_restore` does, take over the updater, and return a transaction for each key.

        A key is afterwards as it was captured: value, state, count. Its version only goes up: to the captured one, or
        by one. Keys that are not among the items stay as they are.
        """
