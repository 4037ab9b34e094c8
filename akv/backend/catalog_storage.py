"""What all storages share that keep a catalog in memory: names and versions, and which updater there is."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from akv.backend.catalog import Catalog, Entry
from akv.backend.compressed import CompressionStorage, Compressor, Part
from akv.backend.storage import Info, Storage, Transaction
from akv.compression import Coded, Compression, Scheme
from akv.errors import CompressionConflict, InvalidArgument, UpdaterConflict
from akv.optim import Optimizer
from akv.optim.blocks import FLOATS
from akv.optim.contrast import contrast
from akv.optim.settings import Settings
from akv.optim.updaters import ASSIGN, FunctionUpdater, OptimizerUpdater, State, Updater
from akv.values.dtypes import accumulator
from akv.values.forms import Value
from akv.values.keys import Key

__all__ = ["CatalogStorage", "Join", "Updated"]


class Updated(Entry):
    """An entry, and what its updater knows.

    Attributes:
        count: how often the key was pushed to since the updater was set.
    """

    __slots__ = ("_loan", "_state", "_updater", "count")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], version: int) -> None:
        super().__init__(shape, dtype, version)
        self.forget()

    def forget(self) -> None:
        """The updater is another from now on."""
        self.count = 0
        self._state: State | None = None
        self._updater: Updater | None = None
        self._loan: weakref.ref[_Loan] | None = None

    def state(self, updater: Updater) -> State | None:
        """The arrays that `updater` keeps beside the value, from the first push on."""
        # A push of one handle may still be under way with the updater of before, when another handle sets a new one.
        return self._state if self._updater is updater else None

    def keep_state(self, updater: Updater, state: State) -> None:
        """From now on these are the arrays."""
        self._state, self._updater, self._loan = state, updater, None

    def lend_state(self, updater: Updater) -> tuple[State | None, object]:
        """The arrays, if there are any, and a loan: while it lives, nobody may change them in place."""
        loan = None if self._loan is None else self._loan()
        if loan is None:
            loan = _Loan()
            self._loan = weakref.ref(loan)
        return self.state(updater), loan

    @property
    def state_is_lent(self) -> bool:
        """Whether a loan of the arrays is out."""
        return self._loan is not None and self._loan() is not None


class _Loan:
    __slots__ = ("__weakref__",)


class Join(Transaction):
    """An init of a key that exists: nothing but a name is added."""

    __slots__ = ("_entry", "_owner")

    def __init__(self, entry: Entry, owner: int) -> None:
        super().__init__(0)
        self._entry, self._owner = entry, owner

    def commit(self) -> None:
        self._entry.owners.add(self._owner)


U_ = TypeVar("U_", bound=Updated)


class CatalogStorage(Storage, CompressionStorage, Generic[U_]):
    """A storage that leaves to its subclass where values live.

    Attributes:
        where: the word of `Info.where`.
        compressor: what pushes have to go through, if anything.
    """

    where: str = "memory"
    compressor: Compressor | None = None

    def __init__(self) -> None:
        self._catalog: Catalog[U_] = Catalog()
        self._updater: Updater
        self.set_updater(ASSIGN)

    # -- keys -------------------------------------------------------------------------------------------------

    def delete(self, key: Key) -> None:
        self._catalog.find("delete", key)
        self._catalog.remove(key)
        if self.compressor is not None:
            self.compressor.drop(key)

    def version(self, key: Key) -> int:
        return self._catalog.version(key)

    def renew(self, key: Key) -> int:
        entry = self._catalog.find("push", key)
        entry.version += 1
        return entry.version

    def nbytes(self, key: Key) -> int:
        return self._catalog.nbytes(key)

    def info(self, key: Key) -> Info:
        return self._catalog.info(key, self.where)

    def keys(self) -> list[Key]:
        return list(self._catalog.entries)

    # -- updaters ---------------------------------------------------------------------------------------------

    def set_updater(self, updater: Updater) -> None:
        self._updater = updater
        self.calls_out = isinstance(updater, FunctionUpdater)
        for entry in list(self._catalog.entries.values()):
            entry.forget()

    def set_optimizer(self, optimizer: Optimizer) -> None:
        current = self._updater
        if not isinstance(current, OptimizerUpdater):
            for dtype in self._work_dtypes():
                optimizer.prepare(dtype)
            self.set_updater(OptimizerUpdater(optimizer))
        elif current.optimizer != optimizer:
            ours, theirs = contrast(current.optimizer, optimizer)
            raise UpdaterConflict(f"this store runs {ours}, not {theirs}; set_updater('assign') first, to change it")

    def set_learning_rate(self, learning_rate: float) -> None:
        self._settings(f"set_learning_rate({learning_rate})").learning_rate = learning_rate

    def set_multipliers(self, name: str, factors: Mapping[Key, float]) -> None:
        setattr(self._settings(f"set_{name}"), name, dict(factors))

    def _settings(self, what: str) -> Settings:
        if not isinstance(self._updater, OptimizerUpdater):
            raise InvalidArgument(f"{what}: the store has no optimizer; call set_optimizer first")
        return self._updater.settings

    # -- compression ------------------------------------------------------------------------------------------

    def set_compression(self, scheme: Scheme, senders_pack: bool) -> None:
        current = self.compressor
        if current is None:
            for dtype in self._work_dtypes():
                scheme.prepare(dtype)
        self.compressor = Compressor(scheme, senders_pack) if current is None else current.same(scheme, senders_pack)

    def _work_dtypes(self) -> frozenset[np.dtype[Any]]:
        """What updates of the present values are calculated in, and of those that are most likely to come."""
        entries = list(self._catalog.entries.values())
        work = {np.dtype(np.float32), *[accumulator(entry.dtype) for entry in entries]}
        return frozenset([dtype for dtype in work if dtype in FLOATS])

    @property
    def agreed(self) -> Compressor:
        """The compressor. Raises CompressionConflict: there is none."""
        if self.compressor is None:
            raise CompressionConflict("this store does not compress; call set_gradient_compression first")
        return self.compressor

    def check_plain(self, key: Key, values: Sequence[Value], agreed: Scheme | None) -> None:
        if self.compressor is not None:
            self.compressor.check(key, values, agreed)

    def accept(self, key: Key, values: Sequence[Coded]) -> list[Part]:
        return self.agreed.accept(key, values)

    @property
    def pull_codec(self) -> Compression | None:
        return None if self.compressor is None else self.compressor.scheme.pull
