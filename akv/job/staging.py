"""What the driver does with contributions: it looks at them, copies them, and later has the storage sum them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from akv.backend.compressed import CompressionStorage
from akv.backend.screen import Screen
from akv.backend.storage import Pass, Storage, Transaction, Where
from akv.compression import Coded, Scheme
from akv.errors import DTypeMismatch
from akv.operations import CodedPush, Operation, Push
from akv.values.buffers import empty
from akv.values.forms import Value, check_shape
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv.values.selection import NO_KEYS, Selection

__all__ = ["Apply", "Check", "Contribution", "Inspect", "Stage"]

# What one push brings for one key; nothing, where on_nonfinite=skip drops it.
Contribution = Sequence[Value | Coded]


class Check(Operation):
    """Hold a push against what is stored, before any of its keys is pushed to. It needs no turn: nothing is read."""

    verb = "push"
    writes = False

    def __init__(self, push: Push | CodedPush, read: Operation | None, agreed: Scheme | None) -> None:
        super().__init__(NO_KEYS, push.priority, 0)
        self._push, self._read, self._agreed = push, read, agreed

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        groups: Sequence[Contribution] = self._push.groups
        for key, group in zip(self._push.keys, groups, strict=True):
            self._check(storage, key, group)
        if self._read is not None:
            self._read.begin(storage)  # a read that was only begun leaves nothing behind
        return ()

    def _check(self, storage: Storage, key: Key, group: Contribution) -> None:
        verb = self._push.verb
        if not storage.version(key):
            storage.begin_write(key, (), False)  # which knows what to say
        info = storage.info(key)
        for value in group:
            check_shape(verb, key, value.shape, info.shape)
            if value.dtype != info.dtype:
                raise DTypeMismatch(f"{verb} of key {key!r}: dtype {value.dtype} where {info.dtype} is stored")
        if isinstance(storage, CompressionStorage) and not isinstance(group[0], Coded):
            storage.check_plain(key, cast("Sequence[Value]", group), self._agreed)


class Stage(Operation):
    """Look at what a push brings, and copy it, so that the caller's arrays are free when it is accepted.

    What was donated is kept, or everything without `copies`. `result`: a contribution for each key; an empty one for
    what on_nonfinite=skip drops.
    """

    verb = "push"
    writes = False

    def __init__(self, push: Push, on_nonfinite: str, copies: bool) -> None:
        self._push, self._on_nonfinite = push, on_nonfinite
        self._keeps = push.donate or not copies
        idle = self._keeps and on_nonfinite == "allow"
        nbytes = 0 if idle else sum(value.nbytes for group in push.groups for value in group)
        super().__init__(NO_KEYS, push.priority, nbytes)

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        pairs = zip(self._push.keys, self._push.groups, strict=True)
        return [_Copies(key, group, self._keeps, self._on_nonfinite) for key, group in pairs]

    def outcome(self, results: list[Any]) -> Any:
        return results


class Inspect(Operation):
    """Look at what a push brings packed: whether an encoder made it, and what it says. `result`: as that of `Stage`."""

    verb = "push"
    writes = False

    def __init__(self, push: CodedPush, on_nonfinite: str) -> None:
        self._push, self._on_nonfinite = push, on_nonfinite
        super().__init__(NO_KEYS, push.priority, push.nbytes)

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        pairs = zip(self._push.keys, self._push.groups, strict=True)
        return [_Inspection(storage, key, group, self._on_nonfinite) for key, group in pairs]

    def outcome(self, results: list[Any]) -> Any:
        return results


class _Inspection(Transaction):
    """The packed values that one push brings for one key."""

    __slots__ = ("_parts", "_screen", "_values")

    def __init__(self, storage: Storage, key: Key, values: Sequence[Coded], on_nonfinite: str) -> None:
        assert isinstance(storage, CompressionStorage)
        self._values, self._parts = values, storage.accept(key, values)
        self._screen = None if on_nonfinite == "allow" else Screen(key, on_nonfinite == "skip")
        passes: list[Pass] = [] if self._screen is None else [self._look]
        super().__init__(sum(value.nbytes for value in values), passes, tentative=len(passes))

    def _look(self, where: Where) -> None:
        assert self._screen is not None
        for part in self._parts:
            part.look(slice(0, part.size), self._screen)

    def commit(self) -> Contribution:
        return () if self._screen is not None and self._screen.drops() else self._values


class _Copies(Transaction):
    """The copies of the values that one push brings for one key."""

    __slots__ = ("_copies", "_from", "_screen", "_to")

    def __init__(self, key: Key, values: Sequence[Value], keeps: bool, on_nonfinite: str) -> None:
        self._from = values
        self._copies = self._to = values if keeps else [_like(value) for value in values]
        self._screen = None if on_nonfinite == "allow" else Screen(key, on_nonfinite == "skip")
        passes: list[Pass] = [] if keeps else [self._copy]
        if self._screen is not None:
            passes.append(self._look)
        super().__init__(sum(value.nbytes for value in values), passes, tentative=len(passes))

    @property
    def length(self) -> int:
        if any(isinstance(value, RowSparse) or not value.flags.c_contiguous for value in self._from):
            return 1
        arrays = [value.reshape(-1) for value in self._from if isinstance(value, np.ndarray)]
        self._from = arrays
        self._to = [copy.reshape(-1) for copy in self._copies if isinstance(copy, np.ndarray)]
        return len(arrays[0])

    def _copy(self, where: Where) -> None:
        for copy, value in zip(self._to, self._from, strict=True):
            if isinstance(copy, RowSparse):
                assert isinstance(value, RowSparse)
                copy.replace(value.indices.copy(), value.values.copy())
            else:
                assert isinstance(value, np.ndarray)
                copy[where] = value[where]

    def _look(self, where: Where) -> None:
        assert self._screen is not None
        for copy in self._to:
            self._screen.look(copy.values if isinstance(copy, RowSparse) else copy[where])

    def commit(self) -> Contribution:
        return () if self._screen is not None and self._screen.drops() else self._copies


class Apply(Operation):
    """Have the storage apply the sum of some contributions, in their order; `result`: the version.

    Args:
        is_round: they are those of all workers, staged. Then what they bring may be kept; and if all of it was dropped
            (on_nonfinite=skip) there is a version all the same, since the pushes were answered with its number.
    """

    verb = "push"

    def __init__(self, key: Key, contributions: Sequence[Contribution], is_round: bool) -> None:
        self._values = list(itertools.chain.from_iterable(contributions))
        self._is_round = is_round
        self._now = 0
        super().__init__(Selection.of(key), 0, sum(value.nbytes for value in self._values))

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        (key,) = self.keys
        if not self._values:
            self._now = storage.renew(key) if self._is_round else storage.version(key)
            return ()
        if isinstance(self._values[0], Coded):  # all of them are, or `Check` would have refused some
            assert isinstance(storage, CompressionStorage)
            return [storage.begin_coded(key, cast("list[Coded]", self._values))]
        return [storage.begin_write(key, cast("list[Value]", self._values), self._is_round)]

    def outcome(self, results: list[Any]) -> Any:
        return results[0] if results else self._now


def _like(value: Value) -> Value:
    if isinstance(value, RowSparse):
        return RowSparse(np.empty(0, np.int64), value.values[:0], value.shape)
    return empty(value.shape, value.dtype)
