"""The transactions of a simple storage: on copies up to the commit, which is one `put`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from akv.backend.catalog import Catalog
from akv.backend.compressed import Part, restore
from akv.backend.item import Item
from akv.backend.pushed import dense, for_function, total, update_rows
from akv.backend.reads import FreshRead, ReadInto
from akv.backend.screen import Screen
from akv.backend.storage import Transaction, Where
from akv.optim import sum_into
from akv.optim.updaters import ASSIGN, Elementwise, State, Updater
from akv.values.dtypes import accumulator
from akv.values.forms import Value
from akv.values.rowsparse import RowSparse
from akv.values.rowsum import RowSum

__all__ = ["CompressedWrite", "Create", "WholeRead", "WholeReadInto", "Write"]


class Create(Transaction):
    """An init: a new item."""

    __slots__ = ("_catalog", "_copy", "_item", "_owner", "_value")

    def __init__(self, catalog: Catalog[Item], item: Item, value: Value, owner: int) -> None:
        super().__init__(item.nbytes, (self._take,), tentative=1)
        self._catalog, self._item, self._value, self._owner = catalog, item, value, owner

    def _take(self, where: Where) -> None:
        (array,) = dense([self._value])
        self._copy = np.array(array, order="C", subok=False)

    def commit(self) -> None:
        item = self._item
        self._catalog.add(item.key, item)
        try:
            item.keep(self._copy, item.version)
        except BaseException:
            self._catalog.withdraw(item.key)
            raise
        item.owners.add(self._owner)


class WholeRead(FreshRead):
    """A copy of the whole value."""

    __slots__ = ()

    @property
    def length(self) -> int:
        return 1


class WholeReadInto(ReadInto):
    """Copies of the whole value into arrays of the caller's."""

    __slots__ = ()

    @property
    def length(self) -> int:
        return 1


class Write(Transaction):
    """What was pushed goes through the updater, which works on copies of the value and of its own state."""

    __slots__ = ("_fresh", "_item", "_parts", "_screen", "_state", "_updater")

    def __init__(self, item: Item, parts: Sequence[Value], updater: Updater, screen: Screen | None) -> None:
        super().__init__(item.nbytes, (self._work,), tentative=1)
        self._item, self._parts, self._updater, self._screen = item, parts, updater, screen
        self._state: State = ()
        self._fresh: np.ndarray | None = None  # which it remains when the push is dropped

    def _work(self, where: Where) -> None:
        if self._screen is not None and self._drops(self._screen):
            return
        updater, parts = self._updater, self._parts
        if updater is ASSIGN:
            self._fresh = np.empty(self._item.shape, self._item.dtype)
            sum_into(self._fresh, dense(parts))
        elif isinstance(updater, Elementwise):
            self._update(updater)
        else:
            fresh = self._item.array.copy()
            updater.call(self._item.key, for_function(parts), fresh)
            self._fresh = fresh

    def _drops(self, screen: Screen) -> bool:
        for part in self._parts:
            screen.look(part.values if isinstance(part, RowSparse) else part)
        return screen.drops()

    def _update(self, updater: Elementwise) -> None:
        item, parts = self._item, self._parts
        weight = item.array.copy()
        state = item.state(updater)
        state = updater.create_state(weight) if state is None else tuple(array.copy() for array in state)
        kernel = updater.bind(item.key, item.count + 1)
        rows = [part for part in parts if isinstance(part, RowSparse)]
        if len(rows) == len(parts) and updater.by_rows:
            update_rows(kernel, weight, state, RowSum(rows), whole=not updater.sliceable)
        else:
            kernel(weight, total(dense(parts)), state)
        self._fresh, self._state = weight, state

    def commit(self) -> int:
        item = self._item
        if self._fresh is not None:
            item.keep(self._fresh, item.version + 1)
            item.count += 1
            item.keep_state(self._updater, self._state)
        return item.version


class CompressedWrite(Write):
    """What was pushed is restored from its packed form; residuals take effect when the value is put."""

    __slots__ = ("_packed",)

    def __init__(self, item: Item, parts: Sequence[Part], updater: Updater, screen: Screen | None) -> None:
        super().__init__(item, (), updater, screen)
        self._packed = parts

    def _work(self, where: Where) -> None:
        if self._screen is None or not self._drops(self._screen):
            dtype, size = self._item.dtype, self._packed[0].size
            total = restore(self._packed, slice(0, size), np.empty(size, accumulator(dtype)), keep=False)
            keeps = isinstance(self._updater, Elementwise) and self._updater is not ASSIGN
            self._parts = [total.reshape(self._item.shape).astype(total.dtype if keeps else dtype, copy=False)]
            self._screen = None  # it has seen the parts
            super()._work(where)

    def _drops(self, screen: Screen) -> bool:
        for part in self._packed:
            part.look(slice(0, part.size), screen)
        return screen.drops()

    def commit(self) -> int:
        version = super().commit()
        for part in self._packed:
            part.keep_residual()
        return version
