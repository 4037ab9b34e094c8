"""The operations that move values: init, push, pull, and their combinations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from akv.backend.storage import SnapshotStorage, Storage, TableStorage, Transaction
from akv.errors import InvalidArgument, KeyExists
from akv.init.table import Table
from akv.operations.base import Operation
from akv.values.arrays import as_out
from akv.values.buffers import can_be_kept
from akv.values.device import OnDevice
from akv.values.dtypes import NATIVE
from akv.values.forms import (
    Value,
    are_arrays,
    are_outs,
    check_cast,
    check_priority,
    check_shape,
    contributions,
    targets,
)
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv.values.selection import Selection
from akv.values.singles import Singles

__all__ = ["Broadcast", "Init", "Pull", "Push", "PushPull", "Snapshot", "check_version"]

Initial = Value | Table


class Init(Operation):
    verb = "init"

    def __init__(self, owner: int, key: object, value: object, priority: int = 0) -> None:
        selection = Selection.of(key)
        if selection.repeats:
            raise KeyExists(f"{self.verb}: a key stands twice in the list of keys: {selection.keys!r:.200}")
        groups = selection.group(self.verb, value, _initials)
        for name, group in zip(selection.keys, groups, strict=True):
            if len(group) > 1:
                raise InvalidArgument(f"{self.verb} of key {name!r} takes one value, not a list of {len(group)}")
        self.owner = owner
        self.values = [group[0] for group in groups]
        self.on_device = _on_device(self.values)
        super().__init__(selection, priority, sum(0 if type(value) is Table else value.nbytes for value in self.values))

    @property
    def borrowed(self) -> Iterable[np.ndarray]:
        return _arrays(self.values)

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        pairs = zip(self.keys, self.values, strict=True)
        return [_begin_init(storage, key, value, self.owner) for key, value in pairs]


class Push(Operation):
    verb = "push"

    def __init__(self, key: object, value: object, priority: int, donate: bool = False) -> None:
        selection = Selection.of(key)
        self.donate = donate
        if type(value) is np.ndarray and value.dtype in NATIVE and not selection.many:
            # By far the most frequent call, and a third of its time.
            self.groups: Sequence[Sequence[Value]] = [[value]]
            nbytes = value.nbytes
        else:
            self.groups = selection.group(self.verb, value, contributions, are_arrays)
            nbytes, self.on_device = _weigh(self.groups)
        # As Operation.__init__ does it, which would take a tenth of the time of a small push.
        self.selection, self.keys = selection, selection.keys
        self.priority = priority if type(priority) is int else check_priority(priority)
        # What is handed over costs nothing, unless the storage cannot keep it: only that knows.
        self.nbytes = 0 if donate else nbytes

    def size(self, storage: Storage) -> int:
        free = self.donate and storage.keeps_donations
        copied = [group for group in self.groups if not (free and len(group) == 1 and can_be_kept(group[0]))]
        return sum([part.nbytes for group in copied for part in group])

    @property
    def borrowed(self) -> Iterable[np.ndarray]:
        return () if self.donate else _arrays(itertools.chain.from_iterable(self.groups))

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        begin, donate = storage.begin_write, self.donate
        return [begin(key, group, donate) for key, group in zip(self.keys, self.groups, strict=True)]

    def perform(self, storage: Storage) -> Any:
        if self.selection.many:
            return self.outcome(storage.write(self.keys, self.groups, self.donate))
        return storage.write_one(self.keys[0], self.groups[0], self.donate)

    def outcome(self, results: list[Any]) -> Any:
        return self.selection.spread(results)


class Pull(Operation):
    verb = "pull"
    writes = False

    def __init__(self, key: object, out: object, priority: int, min_version: int | None = None) -> None:
        selection = Selection.of(key)
        self.out = out
        nbytes = 0  # of a fresh array only the storage knows
        if out is None:
            self.outs: Sequence[Sequence[Value]] | None = None
        elif type(out) is np.ndarray and not selection.many:
            self.outs = [[as_out(out, self.verb, selection.keys[0])]]
            nbytes = out.nbytes
        else:
            self.outs = selection.group(self.verb, out, targets, are_outs)
            nbytes, self.on_device = _weigh(self.outs)
        self.selection, self.keys, self.nbytes = selection, selection.keys, nbytes
        self.priority = priority if type(priority) is int else check_priority(priority)
        if min_version is not None:
            self.min_version = check_version(min_version, self.verb)

    def size(self, storage: Storage) -> int:
        if self.nbytes == 0:
            self.nbytes = sum(map(storage.nbytes, self.keys))
        return self.nbytes

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        if self.outs is None:
            return [storage.begin_read(key, None) for key in self.keys]
        return [storage.begin_read(key, outs) for key, outs in zip(self.keys, self.outs, strict=True)]

    def perform(self, storage: Storage) -> Any:
        if self.selection.many:
            return self.outcome(storage.read(self.keys, self.outs))
        outs = self.outs
        value = storage.read_one(self.keys[0], None if outs is None else outs[0])
        return value if outs is None else self.out

    def outcome(self, results: list[Any]) -> Any:
        if self.outs is not None:
            return self.out
        if self.selection.repeats:
            return [array.copy() for array in self.selection.spread(results)]
        return self.selection.spread(results)


class PushPull(Push):
    """A write, then a read of the result: both checked before the first, and under one turn of the keys."""

    verb = "pushpull"

    def __init__(self, key: object, value: object, out: object, priority: int, donate: bool = False) -> None:
        super().__init__(key, value, priority, donate)
        pull = Pull(key, out, priority)
        self.read: Pull | Snapshot = pull
        self.outs = pull.outs
        if pull.on_device:
            self.on_device = [*self.on_device, *pull.on_device]

    @property
    def borrowed(self) -> Iterable[np.ndarray]:
        return _without(self.outs, super().borrowed)

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        return [*super().begin(storage), *self.read.begin(storage)]

    def perform(self, storage: Storage) -> Any:
        return Operation.perform(self, storage)

    def outcome(self, results: list[Any]) -> Any:
        return self.read.outcome(results[len(self.keys) :])


class Broadcast(Init):
    """An init, then a read of what is stored: the value of whoever came first."""

    verb = "broadcast"

    def __init__(self, owner: int, key: object, value: object, out: object, priority: int) -> None:
        super().__init__(owner, key, value, priority)
        for name, value in zip(self.keys, self.values, strict=True):
            if isinstance(value, Table):
                value.check_whole(self.verb, name, "init it, and use row_sparse_pull")
        self.follow = read = Pull(key, out, priority)
        if read.outs is not None:
            # After the init it would be too late: an error has to leave the store as it was.
            for name, value, outs in zip(self.keys, self.values, read.outs, strict=True):
                for target in outs:
                    check_shape("broadcast", name, target.shape, value.shape)
                    check_cast("broadcast", name, value.dtype, target.dtype)
        self._outs = read.outs
        self.on_device = [*self.on_device, *read.on_device]

    @property
    def borrowed(self) -> Iterable[np.ndarray]:
        return _without(self._outs, super().borrowed)


class Snapshot(Operation):
    verb = "snapshot"
    writes = False

    def __init__(self, key: object) -> None:
        super().__init__(Selection.of(key), 0, 0)

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        if not isinstance(storage, SnapshotStorage):
            raise InvalidArgument("this store hands out no snapshots; ask is_capable('snapshots'), or pull")
        for key in self.keys:
            storage.info(key)  # which raises what a snapshot would
        return [_Snap(storage.snapshot, key) for key in self.keys]

    def perform(self, storage: Storage) -> Any:
        if isinstance(storage, SnapshotStorage) and not self.selection.many:
            return storage.snapshot(self.keys[0])
        return super().perform(storage)

    def outcome(self, results: list[Any]) -> Any:
        return self.selection.spread(results)


class _Snap(Transaction):
    """A snapshot, taken at the commit: after a write under the same turn of the key."""

    __slots__ = ("_key", "_snapshot")

    def __init__(self, snapshot: Callable[[Key], np.ndarray], key: Key) -> None:
        self._snapshot, self._key = snapshot, key
        super().__init__(0)

    def commit(self) -> np.ndarray:
        return self._snapshot(self._key)


def _initials(verb: str, key: Key, value: object) -> list[Initial]:
    return [value] if isinstance(value, Table) else list(contributions(verb, key, value))


def _begin_init(storage: Storage, key: Key, value: Initial, owner: int) -> Transaction:
    if not isinstance(value, Table):
        return storage.begin_init(key, value, owner)
    if not isinstance(storage, TableStorage):
        raise InvalidArgument(
            f"init of key {key!r}: this store holds arrays and no tables; ask is_capable('tables'), or pass an array"
        )
    return storage.begin_table(key, value, owner)


def _arrays(values: Iterable[Initial]) -> Iterator[np.ndarray]:
    for value in values:
        if isinstance(value, RowSparse):
            yield value.indices
            yield value.values
        elif not isinstance(value, OnDevice | Table):
            yield value


def _weigh(groups: Sequence[Sequence[Value]]) -> tuple[int, Sequence[OnDevice]]:
    """The bytes of arrays, and those of them that are in GPU memory."""
    if isinstance(groups, Singles):
        return groups.nbytes, ()
    values = [value for group in groups for value in group]
    return sum([value.nbytes for value in values]), _on_device(values)


def _on_device(values: Sequence[object]) -> Sequence[OnDevice]:
    if OnDevice not in set(map(type, values)):  # a third of the time of a look at each
        return ()
    return [value for value in values if isinstance(value, OnDevice)]


def _without(outs: Sequence[Sequence[Value]] | None, arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
    """What is pushed may be an `out` of the same call."""
    written = {id(out) for group in outs or () for out in group}
    return [array for array in arrays if id(array) not in written]


def check_version(version: object, verb: str) -> int:
    """Return `version` as an int.

    Raises:
        InvalidArgument: it is no integer, or below 0, or one of more than 63 bits, which no key ever reaches.
    """
    if isinstance(version, (int, np.integer)) and not isinstance(version, bool) and 0 <= version < 2**63:
        return int(version)
    raise InvalidArgument(f"{verb}: a version is an integer from 0 on and below 2**63, not {version!r:.80}")
