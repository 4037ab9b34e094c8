"""Sums of RowSparse for whoever updates a table by them."""

from __future__ import annotations

from collections.abc import Sequence

from akv.values.arrays import Array
from akv.values.ranks import Ids, ascends, firsts_of, ranked_of, runs_of, sum_runs
from akv.values.rowsparse import RowSparse, merge

__all__ = ["RowSum"]


class RowSum:
    """The sum of some RowSparse, each row once and in no particular order, made a block at a time.

    In order, and all at once in fresh memory, 10,000 rows of 64 floats take longer than an update of a table by them.

    Attributes:
        indices: the rows.
    """

    __slots__ = ("_order", "_starts", "_values", "indices")

    def __init__(self, parts: Sequence[RowSparse]) -> None:
        """Raises as `merge` does. The arrays of a single part are referred to; they must not be changed meanwhile."""
        part = parts[0] if len(parts) == 1 else merge(parts)
        self.indices, self._values = part.indices, part.values
        self._order: Ids | None = None
        if not ascends(part.indices):
            ranked, order = ranked_of(part.indices)
            firsts = firsts_of(ranked)
            if not firsts.all():
                self.indices, self._order, self._starts = ranked[firsts], order, runs_of(firsts)

    def values(self, start: int, stop: int) -> Array:
        """The sums of the rows ``indices[start:stop]``, only to be read."""
        if self._order is None:
            return self._values[start:stop]
        return sum_runs(self._values, self._order, self._starts[start : stop + 1])
