"""Writing to tables: rows where rows are enough, all of a small one where they are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from akv.backend.pushed import dense, for_function, total, update_rows
from akv.backend.screen import Screen
from akv.backend.storage import Pass, Transaction, Where
from akv.optim import sum_into
from akv.optim.updaters import ASSIGN, Elementwise, FunctionUpdater, OptimizerUpdater, Updater
from akv.values.forms import Value
from akv.values.rowsparse import Ids, RowSparse
from akv.values.rowsum import RowSum
from akv_memory.table import TableCell

__all__ = ["begin_table_write"]

Values = Sequence[Value]


def begin_table_write(cell: TableCell, parts: Values, updater: Updater, screen: Screen | None) -> Transaction:
    """The write of what was pushed to a table.

    Raises:
        InvalidArgument: it concerns every row, and they are too many. DTypeMismatch: no optimizer updates such values.
    """
    rows = all(isinstance(part, RowSparse) for part in parts)
    if isinstance(updater, FunctionUpdater):
        cell.check_whole("push", "a function as updater works on all of it; use 'add' or an optimizer")
        return _Call(cell, parts, updater, screen)
    if not rows:
        cell.check_whole("push", "push a RowSparse")
    if updater is ASSIGN:
        return _Assign(cell, parts, screen)
    updater.check(cell.key, cell.dtype)
    if rows and not updater.by_rows:
        assert isinstance(updater, OptimizerUpdater)
        cell.check_whole(
            "push",
            f"{updater.optimizer.name} without lazy_update changes every row at each push; "
            "use one that is lazy, such as SGD or Adam with lazy_update=True, AdaGrad or Ftrl",
        )
    return _Update(cell, parts, updater, screen)


class _TableWrite(Transaction):
    __slots__ = ("_cell", "_parts", "_screen")

    def __init__(self, cell: TableCell, parts: Values, screen: Screen | None, work: Pass, tentative: int) -> None:
        self._cell, self._parts, self._screen = cell, parts, screen
        nbytes = sum(part.nbytes for part in parts)
        if screen is None:
            super().__init__(nbytes, (work,), tentative)
        else:
            super().__init__(nbytes, (self._look, screen.before(work)), tentative + 1)

    def _look(self, where: Where) -> None:
        assert self._screen is not None
        for part in self._parts:
            self._screen.look(part.values if isinstance(part, RowSparse) else part)

    def _rows(self, whole: bool) -> RowSum:
        """What was pushed: some rows, each once, or all of them."""
        rows = [part for part in self._parts if isinstance(part, RowSparse)]
        if len(rows) == len(self._parts) and not whole:
            return RowSum(rows)
        return RowSum([RowSparse(np.arange(self._cell.shape[0]), total(dense(self._parts)), self._cell.shape)])

    def commit(self) -> int:
        cell = self._cell
        if self._screen is None or not self._screen.drops():
            self._conclude()
            cell.count += 1
            cell.version += 1
        return cell.version

    def _conclude(self) -> None:
        """Make the work visible, if it is not."""


class _Update(_TableWrite):
    """What was pushed goes through an updater, in place."""

    __slots__ = ("_updater",)

    def __init__(self, cell: TableCell, parts: Values, updater: Elementwise, screen: Screen | None) -> None:
        super().__init__(cell, parts, screen, self._apply, 0)
        self._updater = updater

    def _apply(self, where: Where) -> None:
        cell, updater = self._cell, self._updater
        rows = self._rows(whole=not updater.by_rows)
        kernel = updater.bind(cell.key, cell.count + 1)
        places, state = cell.touch(rows.indices, updater)
        update_rows(kernel, cell.values, state, rows, places, whole=not updater.sliceable)


class _Replace(_TableWrite):
    """What is held afterwards is made beside what is held now."""

    __slots__ = ("_cleared", "_ids", "_values")
    _ids: Ids
    _values: np.ndarray
    _cleared: bool

    def _conclude(self) -> None:
        self._cell.hold(self._ids, self._values, self._cleared)


class _Assign(_Replace):
    """The sum takes the table's place: rows that were not pushed are zero from now on."""

    __slots__ = ()

    def __init__(self, cell: TableCell, parts: Values, screen: Screen | None) -> None:
        super().__init__(cell, parts, screen, self._assign, 1)

    def _assign(self, where: Where) -> None:
        cell, parts = self._cell, self._parts
        rows = [part for part in parts if isinstance(part, RowSparse)]
        if len(rows) == len(parts):
            summed = RowSum(rows)
            self._ids = summed.indices
            self._values = np.array(summed.values(0, len(self._ids)), order="C")
        else:
            self._ids, self._values = np.arange(cell.shape[0]), np.empty(cell.shape, cell.dtype)
            sum_into(self._values, dense(parts))
        self._cleared = True


class _Call(_Replace):
    """A function changes an array of all rows."""

    __slots__ = ("_updater",)

    def __init__(self, cell: TableCell, parts: Values, updater: FunctionUpdater, screen: Screen | None) -> None:
        super().__init__(cell, parts, screen, self._call, 1)
        self._updater = updater

    def _call(self, where: Where) -> None:
        cell = self._cell
        self._ids, self._values, self._cleared = np.arange(cell.shape[0]), cell.array, cell.cleared
        self._updater.call(cell.key, for_function(self._parts), self._values)
