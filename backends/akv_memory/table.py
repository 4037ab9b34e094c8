"""A table in memory: the rows that were pushed to, and a description of all others."""

from __future__ import annotations

import weakref

import numpy as np

from akv.backend.catalog_storage import Updated
from akv.init import Table
from akv.optim.updaters import Elementwise, State
from akv.values.arrays import Array
from akv.values.buffers import empty
from akv.values.keys import Key
from akv.values.rowsparse import Ids
from akv_memory.row_index import RowIndex

__all__ = ["TableCell"]


class TableCell(Updated):
    """What is stored under the key of a table.

    Attributes:
        description: what `init` was given.
        cleared: all of it was assigned to, so that a row which is not held is zero.
        index: the rows that are held.
        values: theirs, by place; there is room for more behind. The arrays of an optimizer go with them.
    """

    __slots__ = ("_lent", "cleared", "description", "index", "key", "values")

    #: Not None, by which a Cell, too, keeps out of the short way.
    loan: object = ()

    def __init__(self, key: Key, table: Table, version: int) -> None:
        super().__init__(table.shape, table.dtype, version)
        self.key, self.description, self.cleared = key, table, False
        self.index = RowIndex()
        self.values = np.empty((0, *table.shape[1:]), table.dtype)
        self._lent: weakref.ref[_Loan] | None = None

    @property
    def table(self) -> Table:
        return self.description

    @property
    def held(self) -> int:
        """The bytes of the rows that are held, with the index."""
        return self.values[: self.index.count].nbytes + self.index.nbytes

    def check_whole(self, verb: str, advice: str = "use row_sparse_pull") -> None:
        """Raise InvalidArgument if the table is too large for something that makes an array of all of it."""
        self.description.check_whole(verb, self.key, advice)

    # -- reading ----------------------------------------------------------------------------------------------

    def read(self, ids: Ids) -> Array:
        """These rows, in a fresh array."""
        places = self.index.find(ids)
        missing = np.flatnonzero(places < 0)
        if not missing.size:
            return np.take(self.values, places, axis=0)
        if len(missing) == len(ids):
            return self.untouched(ids)
        found = empty((len(ids), *self.shape[1:]), self.dtype)
        found[missing] = self.untouched(ids[missing])
        held = np.flatnonzero(places >= 0)
        found[held] = self.values[places[held]]
        return found

    def untouched(self, ids: Ids) -> Array:
        """These rows as they are before they are pushed to, in a fresh array."""
        return np.zeros((len(ids), *self.shape[1:]), self.dtype) if self.cleared else self.description.generate(ids)

    @property
    def array(self) -> Array:
        """All rows, in a fresh array."""
        self.check_whole("pull")
        return self.read(np.arange(self.shape[0]))

    def snapshot(self) -> Array:
        """All rows, in a fresh read-only array."""
        self.check_whole("snapshot")
        array = self.array
        array.flags.writeable = False
        return array

    # -- writing ----------------------------------------------------------------------------------------------

    def touch(self, ids: Ids, updater: Elementwise) -> tuple[Ids, State]:
        """Hold these rows, each given once; return their places, and what the updater keeps beside all rows held.

        So far nothing has changed for anybody who reads.
        """
        state = self._own(updater)
        places = self.index.find(ids)
        missing = np.flatnonzero(places < 0)
        if missing.size:
            start = self.index.count
            values = self.untouched(ids[missing])
            fresh = updater.create_state(values)
            self.values = _appended(self.values, start, values)
            state = tuple(_appended(array, start, more) for array, more in zip(state, fresh, strict=True))
            self.keep_state(updater, state)
            self.index.add(ids[missing])
            places[missing] = np.arange(start, self.index.count)
        return places, state

    def _own(self, updater: Elementwise) -> State:
        """Have arrays that nobody else reads; those of the updater."""
        state, count = self.state(updater), self.index.count
        if self._lent is not None and self._lent() is not None:
            self._lent, self.values = None, self.values[:count].copy()
            state = None if state is None else tuple(array[:count].copy() for array in state)
        elif state is not None:
            return state
        state = updater.create_state(self.values[:count]) if state is None else state
        self.keep_state(updater, state)
        return state

    def hold(self, ids: Ids, values: Array, cleared: bool) -> None:
        """Hold these rows, each given once, and no others; `values` is kept. What was lent stays as it was."""
        index = RowIndex()
        index.add(ids)
        self.index, self.values, self.cleared = index, values, cleared
        self._lent = None

    def lend(self) -> object:
        """A loan: while it lives, nobody changes what the arrays of values and state hold now."""
        loan = None if self._lent is None else self._lent()
        if loan is None:
            loan = _Loan()
            self._lent = weakref.ref(loan)
        return loan


class _Loan:
    __slots__ = ("__weakref__",)


def _appended(array: Array, start: int, more: Array) -> Array:
    """`more` behind the first `start` rows: in the spare room, or in an array twice as large."""
    stop = start + len(more)
    if stop > len(array):
        grown = np.empty((max(stop, 2 * start), *array.shape[1:]), array.dtype)
        grown[:start] = array[:start]
        array = grown
    array[start:stop] = more
    return array
