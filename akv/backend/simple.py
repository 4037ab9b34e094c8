"""The base of a simple backend, which keeps whole arrays by key: `get`, `put`, `remove` and `scan` are all it writes.

    class DictStorage(SimpleStorage):
        def __init__(self):
            self.arrays = {}
            super().__init__()

        def get(self, key):
            return self.arrays[key]

        def put(self, key, array, version):
            self.arrays[key] = array

        def remove(self, key, version):
            del self.arrays[key]

    backend = SimpleProvider("dict", lambda name, options: DictStorage())

See examples/npy_backend.py for one that keeps its values in files.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from akv.backend.catalog import Described
from akv.backend.catalog_storage import Join
from akv.backend.checkpoints import CatalogCheckpoints
from akv.backend.item import Item, asking
from akv.backend.local import LocalBackend
from akv.backend.options import Option, choice
from akv.backend.reads import read_rows
from akv.backend.saved import Record
from akv.backend.screen import Screen
from akv.backend.simple_transactions import CompressedWrite, Create, WholeRead, WholeReadInto, Write
from akv.backend.storage import RowStorage, Transaction
from akv.compression import Coded
from akv.errors import AkvError, BackendUnavailable
from akv.optim.updaters import Elementwise
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse

__all__ = ["SimpleProvider", "SimpleStorage"]


class SimpleStorage(CatalogCheckpoints[Item], RowStorage):
    """A storage of whole arrays: akv does the sums, updaters, rows, versions and checks, and copies in and out.

    The state of optimizers lives in memory, for as long as the store is open. No method is called for a key while `put`
    or `remove` runs for it; for different keys they run in several threads at a time. Whatever they raise reaches the
    caller as BackendUnavailable, and the key is as it was.

    Attributes:
        where: what `info(key).where` says.
        on_nonfinite: what becomes of a push with NaN or infinities: "allow", "reject" or "skip".
    """

    on_nonfinite: str = "allow"

    def __init__(self) -> None:
        """Take in what `scan` finds; so call it last."""
        super().__init__()
        for key, value, version in self.scan():
            if value is None:
                self._catalog.retire(key, version)
            else:
                self._catalog.add(key, Item(self, key, value, version))

    # -- what a backend writes --------------------------------------------------------------------------------

    @abstractmethod
    def get(self, key: Key) -> np.ndarray:
        """The array that was last put: the same dtype, shape and bytes. It is read at once, and never written to."""

    @abstractmethod
    def put(self, key: Key, array: np.ndarray, version: int) -> None:
        """Keep a value, a key's first one or its next. On an error the one before has to be there still.

        The array is C-contiguous and nobody else's: it may be kept, but not changed.
        """

    @abstractmethod
    def remove(self, key: Key, version: int) -> None:
        """Forget a value. If values outlast the process, then so should its last version: see `scan`."""

    def scan(self) -> Iterable[tuple[Key, Described | None, int]]:
        """What is there at the opening: each key, its value (or something of its shape and dtype), its version.

        For a removed key whose last version is known, None instead of the value: versions of a name never go back.
        """
        return ()

    # -- what akv asks of a storage ---------------------------------------------------------------------------

    def begin_init(self, key: Key, value: Value, owner: int) -> Transaction:
        item = self._catalog.claim(key, value, owner)
        if item is not None:
            return Join(item, owner)
        return Create(self._catalog, Item(self, key, value, self._catalog.first_version(key)), value, owner)

    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        item = self._catalog.find("push", key)
        for value in values:
            item.check("push", key, value)
        if isinstance(self._updater, Elementwise):
            self._updater.check(key, item.dtype)
        if self.compressor is not None:
            return CompressedWrite(item, self.compressor.pack(key, values), self._updater, self._screen(key))
        return Write(item, values, self._updater, self._screen(key))

    def begin_coded(self, key: Key, values: Sequence[Coded]) -> Transaction:
        item = self._catalog.find("push", key)
        for value in values:
            item.check("push", key, value)
        if isinstance(self._updater, Elementwise):
            self._updater.check(key, item.dtype)
        return CompressedWrite(item, self.agreed.accept(key, values), self._updater, self._screen(key))

    def _screen(self, key: Key) -> Screen | None:
        return None if self.on_nonfinite == "allow" else Screen(key, self.on_nonfinite == "skip")

    def begin_read(self, key: Key, outs: Sequence[Value] | None) -> Transaction:
        item = self._catalog.find("pull", key)
        return WholeRead(item) if outs is None else WholeReadInto("pull", key, item, outs)

    def begin_rows(self, key: Key, requests: Sequence[tuple[Any, RowSparse | None]]) -> Transaction:
        return read_rows(key, self._catalog.find("row_sparse_pull", key), requests)

    def delete(self, key: Key) -> None:
        item = self._catalog.find("delete", key)
        with asking(key, "remove"):
            self.remove(key, item.version)
        super().delete(key)

    # -- checkpoints ------------------------------------------------------------------------------------------

    def fetcher(self, entry: Item) -> Callable[[], np.ndarray]:
        return lambda: entry.array

    def new_entry(self, record: Record, array: np.ndarray) -> Item:
        return Item(self, record.key, record, record.version)

    def replace(self, entry: Item, array: np.ndarray, version: int) -> None:
        entry.keep(array, version)


class SimpleProvider:
    """The way to open simple storages, for an entry point or `akv.backend.registry.register`.

    Args:
        kind: the word of `KVStore.type`.
        make: called with the URL's name and the options' values; returns the storage. What it raises reaches the caller
            as BackendUnavailable, unless it is an error of akv's.
        options: what the URL may carry beside the common options and `on_nonfinite`.
        lasting: whether a store with a name outlives its handles, until the process ends. A storage that finds its
            values again by `scan` need not.
        quick: whether the storage answers from memory; otherwise everything is done by the store's threads, so that
            nothing waits for a disk on the event loop.
    """

    def __init__(
        self,
        kind: str,
        make: Callable[[str, Mapping[str, Any]], SimpleStorage],
        *,
        options: Mapping[str, Option] | None = None,
        lasting: bool = False,
        quick: bool = True,
    ) -> None:
        self.options: Mapping[str, Option] = {
            "on_nonfinite": Option(choice("allow", "reject", "skip"), "allow"),
            **(options or {}),
        }
        self.shared = True
        self.lasting = lasting
        self._kind, self._make, self._quick = kind, make, quick

    def open(self, name: str, options: Mapping[str, Any]) -> LocalBackend:
        """See akv.backend.registry.Provider."""
        try:
            storage = self._make(name, options)
        except AkvError:
            raise
        except Exception as error:
            raise BackendUnavailable(f"{self._kind}://{name} cannot be opened: {error}") from error
        storage.on_nonfinite = options["on_nonfinite"]
        backend = LocalBackend(self._kind, storage, options["max_queued"])
        if not self._quick:
            backend.inline_nbytes = -1
        return backend
