"""Which keys a storage holds: shapes, dtypes, versions, who initialised them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np

from akv.backend.storage import Info
from akv.errors import DTypeMismatch, KeyExists, KeyNotFound, KeyTypeError
from akv.init.table import Table
from akv.values.forms import Value, check_shape
from akv.values.keys import Key

__all__ = ["Catalog", "Described", "Entry"]


class Described(Protocol):
    """An array, or as much of it as a catalog needs."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...


class Entry:
    """What is known of one key. A storage derives its own, with the value in it."""

    __slots__ = ("dtype", "nbytes", "owners", "shape", "version")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], version: int) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype.type)  # numpy's own, without metadata: `is` then tells most equal dtypes
        self.nbytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        self.version = version
        self.owners: set[int] = set()

    @property
    def table(self) -> Table | None:
        """The description that a table was made of, None for an array."""
        return None

    def check(self, verb: str, key: Key, value: Described) -> None:
        """Raise ShapeMismatch or DTypeMismatch unless `value` is like what is stored."""
        if value.shape != self.shape:
            check_shape(verb, key, value.shape, self.shape)
        if value.dtype is not self.dtype and value.dtype != self.dtype:
            raise DTypeMismatch(f"{verb} of key {key!r}: dtype {value.dtype} where the stored value has {self.dtype}")


E_ = TypeVar("E_", bound=Entry)


class Catalog(Generic[E_]):
    """Entries by key, in the order of their init. Versions of a name never go back, also across delete."""

    def __init__(self) -> None:
        self.entries: dict[Key, E_] = {}
        self._retired: dict[Key, int] = {}
        self._kind: type[Key] | None = None  # of the keys; None without keys
        # Two keys may be created at the same time, and they have to be of one kind.
        self._lock = threading.Lock()

    def find(self, verb: str, key: Key) -> E_:
        """The entry of an existing key.

        Raises:
            KeyNotFound, or KeyTypeError when the store's keys are of the other kind.
        """
        entry = self.entries.get(key)
        if entry is None:
            self.check_kind(verb, key)
            raise KeyNotFound(
                f"{verb}: key {key!r:.200} does not exist; init it first (keys in the store: {len(self.entries)})"
            )
        return entry

    def find_all(self, verb: str, keys: Sequence[Key]) -> list[E_]:
        """The entries of existing keys. Raises what `find` does."""
        found = list(map(self.entries.get, keys))
        if None in found:
            self.find(verb, keys[found.index(None)])
        return cast("list[E_]", found)

    def claim(self, key: Key, value: Value | Table, owner: int) -> E_ | None:
        """Check an init by `owner`: the entry that exists already, None for a key to be created.

        Raises:
            KeyExists, KeyTypeError.
        """
        entry = self.entries.get(key)
        if entry is None:
            self.check_kind("init", key)
            return None
        if owner in entry.owners:
            raise KeyExists(f"init: this handle has already initialised key {key!r}, now at version {entry.version}")
        table = value if isinstance(value, Table) else None
        if value.shape != entry.shape or value.dtype != entry.dtype or table != entry.table:
            raise KeyExists(f"init: key {key!r} exists as {_form(entry)}, not as {_form(table or value)}")
        return entry

    def first_version(self, key: Key) -> int:
        """The version that a key starts with: 1, or one above the last before it was deleted."""
        return self._retired.get(key, 0) + 1

    def add(self, key: Key, entry: E_) -> None:
        """Take in a key that `claim` has found to be new.

        Raises:
            KeyTypeError: meanwhile a key of the other kind was.
        """
        with self._lock:
            self.check_kind("init", key)
            self._kind = type(key)
            self.entries[key] = entry

    def withdraw(self, key: Key) -> E_:
        """Take an `add` back."""
        with self._lock:
            entry = self.entries.pop(key)
            if not self.entries:
                self._kind = None
            return entry

    def remove(self, key: Key) -> None:
        """Forget an existing key, but not its version."""
        self.retire(key, self.withdraw(key).version)

    def retire(self, key: Key, version: int) -> None:
        """Remember the last version of a key that was deleted."""
        self._retired[key] = version

    def version(self, key: Key) -> int:
        """The current version, 0 for a key that does not exist."""
        entry = self.entries.get(key)
        return 0 if entry is None else entry.version

    def nbytes(self, key: Key) -> int:
        """The value's size in bytes, 0 for a key that does not exist."""
        entry = self.entries.get(key)
        return 0 if entry is None else entry.nbytes

    def info(self, key: Key, where: str) -> Info:
        """What is known of an existing key."""
        entry = self.find("info", key)
        return Info(entry.shape, entry.dtype, entry.version, entry.nbytes, where)

    def check_kind(self, verb: str, key: Key) -> None:
        """Raise KeyTypeError when the store's keys are of the other kind."""
        if self._kind is not None and self._kind is not type(key):
            kind = "integers" if self._kind is int else "strings"
            raise KeyTypeError(f"{verb}: key {key!r} in a store whose keys are {kind}; a store uses one kind")


def _form(value: Entry | Value | Table) -> str:
    """Dtype and shape, and of a table how its rows begin."""
    table = value if isinstance(value, Table) else getattr(value, "table", None)
    return f"{value.dtype} {value.shape}" + (f" of {table.initialiser}" if table else "")
