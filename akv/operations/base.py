"""What every operation has: keys, priority, state, result, and how it is carried out on a storage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from akv.backend.storage import Storage, Transaction, run_whole
from akv.errors import AkvError
from akv.scheduler import NEW, Line, State
from akv.values.device import OnDevice
from akv.values.forms import check_priority
from akv.values.keys import Key
from akv.values.selection import Selection

__all__ = ["Listener", "Operation"]


class Listener(Protocol):
    """Who wants to know that an operation has ended."""

    def operation_done(self, op: Operation) -> None:
        """Called once, by the thread that ended it, under the engine's lock: hand over, and return at once."""
        ...


class Operation:
    """One call of a verb on its way through the store. Its result, or error, is final once its state is DONE."""

    verb: ClassVar[str]
    writes: ClassVar[bool] = True
    fence: ClassVar[bool] = False
    bounded: ClassVar[bool] = True  # refused when the queue is full
    # Carried out after this one, under the same turn of the keys.
    follow: Operation | None = None
    # What most operations never change stands here, not in __init__: the hot path counts every store.
    state: State = NEW
    min_version = 0
    result: Any = None
    error: BaseException | None = None
    listener: Listener | None = None
    # Set by an operation that goes on in another stage: whoever has started it has to start it again, with the turn of
    # these keys.
    wanted: Sequence[Key] | None = None
    # The caller's arrays in GPU memory, which only some backends take: akv.backend.protocol.DeviceArrays.
    on_device: Sequence[OnDevice] = ()
    # Set by the engine to have a started operation end soon, and with what error if that leaves it undone.
    cancelled: AkvError | None = None
    # Set by the face, and by the scheduler.
    line: Line
    sequence: int
    blocked: int

    def __init__(self, selection: Selection, priority: int, nbytes: int) -> None:
        self.selection = selection
        self.keys: Sequence[Key] = selection.keys
        self.priority = priority if type(priority) is int else check_priority(priority)
        self.nbytes = nbytes

    @property
    def borrowed(self) -> Iterable[np.ndarray]:
        """The caller's arrays that are read, and not written, until the operation is done."""
        return ()

    @property
    def awaited(self) -> Sequence[Key]:
        """The keys that have to reach `min_version` before this operation is queued."""
        return self.keys

    def size(self, storage: Storage) -> int:
        """The bytes this operation will go over, as far as can be known before it starts."""
        return self.nbytes

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        """Check the operation whole against what is stored; return the transactions that carry it out, in order."""
        return ()

    def perform(self, storage: Storage) -> Any:
        """Carry the operation out whole, in this thread, and return its outcome."""
        return self.outcome(run_whole(self.verb, self.keys, self.begin(storage)))

    def outcome(self, results: list[Any]) -> Any:
        """What the caller gets, from what the transactions committed to."""
        return None

    def __str__(self) -> str:
        """The verb and its keys, for the texts of errors."""
        keys = self.awaited
        names = ", ".join(map(repr, keys[:3])) + (f", ... ({len(keys)} keys)" if len(keys) > 3 else "")
        return f"{self.verb} of key{'s' if len(keys) > 1 else ''} {names}" if names else self.verb

    def __repr__(self) -> str:
        return f"<{self}, priority {self.priority}, {self.state.value}>"
