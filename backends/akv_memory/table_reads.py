"""Reading tables."""

from __future__ import annotations

from akv.backend.reads import FreshRead, ReadInto, RowRead
from akv.backend.storage import Where
from akv_memory.table import TableCell

__all__ = ["TableRead", "TableReadInto", "TableRowRead"]


class TableRead(FreshRead):
    """All rows of a small table."""

    __slots__ = ()

    @property
    def length(self) -> int:
        return 1

    def _copy(self, where: Where) -> None:
        self._fresh = self._cell.array


class TableReadInto(ReadInto):
    """The same, into arrays of the caller's."""

    __slots__ = ()

    @property
    def length(self) -> int:
        return 1


class TableRowRead(RowRead):
    """Some rows, whether they are held or not."""

    __slots__ = ()

    def _gather(self, where: Where) -> None:
        cell = self._cell
        assert isinstance(cell, TableCell)
        self._found = [cell.read(ids) for ids, _ in self._requests]
