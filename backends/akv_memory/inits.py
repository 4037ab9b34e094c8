"""Initialising: a new value, or a new table."""

from __future__ import annotations

from akv.backend.catalog import Catalog
from akv.backend.storage import Transaction, Where
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv_memory.cell import Cell
from akv_memory.table import TableCell

__all__ = ["Create", "CreateTable"]


class Create(Transaction):
    """An init: a new cell, which joins the catalog when it is whole."""

    __slots__ = ("_catalog", "_cell", "_key", "_owner", "_value")

    def __init__(self, catalog: Catalog[Cell | TableCell], key: Key, value: Value, owner: int) -> None:
        self._catalog, self._key, self._owner = catalog, key, owner
        self._cell = Cell(value.shape, value.dtype, catalog.first_version(key))
        self._value = value
        super().__init__(self._cell.nbytes, (self._copy,), tentative=1)

    def _copy(self, where: Where) -> None:
        self._cell.array[...] = self._value.todense() if isinstance(self._value, RowSparse) else self._value

    def commit(self) -> None:
        self._cell.owners.add(self._owner)
        self._catalog.add(self._key, self._cell)


class CreateTable(Transaction):
    """An init: a table that holds nothing."""

    __slots__ = ("_catalog", "_cell", "_owner")

    def __init__(self, catalog: Catalog[Cell | TableCell], cell: TableCell, owner: int) -> None:
        super().__init__(0)
        self._catalog, self._cell, self._owner = catalog, cell, owner

    def commit(self) -> None:
        self._cell.owners.add(self._owner)
        self._catalog.add(self._cell.key, self._cell)
