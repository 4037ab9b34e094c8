"""Tables of which only some rows are given: embedding gradients and their like.

Rows may come in any order and may repeat: repeats add up. (MXNet's row_sparse wants them sorted and unique, does not
check it, and answers later pulls with wrong rows: seen in 1.9.1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import numpy as np

from akv.errors import DTypeMismatch, InvalidArgument, NotAnArray, RowOutOfRange, ShapeMismatch
from akv.values.arrays import Array, as_array, describe, label
from akv.values.dtypes import DType, accumulator
from akv.values.keys import Key
from akv.values.ranks import Ids, ascends, firsts_of, quiet, ranked_of, runs_of, sum_runs, unique

__all__ = ["Ids", "RowSparse", "merge", "row_ids"]


class RowSparse:
    """Some rows of a table of ``shape``; the rows that are not given are zero.

    Attributes:
        indices: int64, ``(n,)``, each in ``[0, shape[0])``, in any order, repeats allowed.
        values: ``(n, *shape[1:])``; ``values[i]`` belongs to row ``indices[i]``.
        shape: of the whole table, at least one dimension.

    No copy is made where none is needed, so the arrays remain the caller's: int64 indices and values in native byte
    order are kept as they are. Two RowSparse are equal only if they are the same object.
    """

    __slots__ = ("__weakref__", "indices", "shape", "values")

    indices: Ids
    values: Array
    shape: tuple[int, ...]

    def __init__(self, indices: object, values: object, shape: Sequence[int]) -> None:
        """Take ``indices`` (integers: array, list, tuple or range) and ``values`` (any array that ``push`` takes).

        Raises:
            InvalidArgument: ``shape`` is empty or not made of sizes; an array that cannot be read here.
            ShapeMismatch: indices are not one-dimensional, or values are not ``(len(indices), *shape[1:])``.
            RowOutOfRange: an index is negative or not below ``shape[0]``.
            DTypeMismatch: indices are not integers, or values have a dtype that no store can hold.
            NotAnArray: values or indices are no array.
        """
        self.shape = _table_shape(shape)
        self.indices, self.values = _checked(indices, values, self.shape)

    @classmethod
    def from_dense(cls, array: object) -> RowSparse:
        """The rows of ``array`` that are not all zero, copied; a row with NaN is not zero.

        Raises ShapeMismatch for a 0-d array, and NotAnArray, InvalidArgument, DTypeMismatch as ``push`` does.
        """
        dense = as_array(array, "RowSparse.from_dense")
        if not dense.ndim:
            raise ShapeMismatch("RowSparse.from_dense: a 0-d array has no rows")
        rows = np.flatnonzero((dense != 0).any(axis=tuple(range(1, dense.ndim))))
        return cls(rows, dense[rows], dense.shape)

    @property
    def dtype(self) -> DType:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of indices and values together."""
        return self.indices.nbytes + self.values.nbytes

    def check(self, verb: str, key: Key | None = None) -> None:
        """Raise RowOutOfRange or ShapeMismatch if the attributes were changed to something that makes no sense."""
        rows = _in_table(self.indices, self.shape[0], verb, key)
        if self.values.shape != (*rows.shape, *self.shape[1:]):
            raise ShapeMismatch(
                f"{label(verb, key)}: {rows.size} rows of a table {self.shape} with values {self.values.shape}"
            )

    def todense(self) -> Array:
        """The whole table as a fresh array; repeated rows are summed as by ``canonical``."""
        dense = np.zeros(self.shape, self.dtype)
        ordered = self.canonical()
        dense[ordered.indices] = ordered.values
        return dense

    def canonical(self) -> RowSparse:
        """The same table with sorted, unique indices: this object itself if they are so already.

        Repeats are summed in the order given; float16, bfloat16 and float8 in float32, rounded once.
        """
        if ascends(self.indices):
            return self
        ranked, order = ranked_of(self.indices)
        firsts = firsts_of(ranked)
        return RowSparse(ranked[firsts], sum_runs(self.values, order, runs_of(firsts)), self.shape)

    @quiet
    def replace(self, indices: object, values: object) -> None:
        """Put other rows in the place of these; ``values`` are cast to this object's dtype, as a pull casts to its out.

        The arrays are kept without a copy where possible. On an error nothing changes. Raises as the constructor.
        """
        rows, new = _checked(indices, values, self.shape)
        self.indices, self.values = rows, new.astype(self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"RowSparse({len(self.indices)} rows of {describe(self)})"


@quiet
def merge(parts: Sequence[RowSparse]) -> RowSparse:
    """The sum of ``parts``: the union of their rows, sorted, each row summed in the order of the parts.

    Equal to the sum of the dense tables in that order, started from zero, bit for bit; float16, bfloat16 and float8 are
    summed in float32 and rounded once. A single part comes back as its ``canonical()``, so possibly as itself;
    otherwise the arrays are fresh.

    Raises InvalidArgument without parts, ShapeMismatch or DTypeMismatch where they disagree.
    """
    if not parts:
        raise InvalidArgument("merge: at least one RowSparse is needed")
    _check_alike(parts)
    ordered = [part.canonical() for part in parts]
    if len(ordered) == 1:
        return ordered[0]
    first = ordered[0]
    rows = unique(np.concatenate([part.indices for part in ordered]))
    total = np.zeros((len(rows), *first.shape[1:]), accumulator(first.dtype))
    for part in ordered:
        total[np.searchsorted(rows, part.indices)] += part.values
    return RowSparse(rows, total.astype(first.dtype, copy=False), first.shape)


def row_ids(ids: object, table_rows: int | None, verb: str, key: Key | None = None) -> Ids:
    """The rows asked for by a ``row_sparse_pull``: sorted, unique, flattened, in a fresh int64 array.

    ``ids`` are integers of any shape in a list, tuple, range, or any array that ``push`` takes; none at all is fine.
    ``table_rows`` is None where only a server knows it, which then checks the upper end.
    ``verb`` and ``key`` only serve the text of errors.

    Raises:
        RowOutOfRange: an id is negative or not below ``table_rows``; names the first one.
        DTypeMismatch: floats, bools, or other things than integers.
        NotAnArray, InvalidArgument: as ``push`` does.
    """
    return unique(_in_table(ids, table_rows, verb, key))


def _in_table(ids: object, rows: int | None, verb: str, key: Key | None = None) -> Ids:
    array = _listed(ids, verb, key) if issubclass(type(ids), list | tuple | range) else as_array(ids, verb, key)
    if array.dtype.kind not in "iuO":
        raise DTypeMismatch(f"{label(verb, key)}: row ids must be integers, not {describe(array)}")
    # Compared before the cast: an id beyond int64 must not wrap around into the table.
    most = 2**63 if rows is None else rows
    if array.size and (array.min() < 0 or array.max() >= most):
        bad = array[(array < 0) | (array >= most)][0]
        size = "" if rows is None else f", the table has {rows} rows"
        raise RowOutOfRange(f"{label(verb, key)}: there is no row {bad}{size}, counted from 0")
    return array.astype(np.int64, copy=False)


def _listed(ids: object, verb: str, key: Key | None) -> Array:
    try:
        array = np.asarray(ids)
        # numpy makes floats of no numbers at all, and floats or objects of integers that share no 64-bit type; as
        # objects they keep their value, and the range check stands before any cast.
        if array.dtype.kind in "fO":
            exact = np.asarray(ids, dtype=object)
            if all(isinstance(i, int | np.integer) for i in exact.flat):
                return exact
    except Exception as error:
        raise NotAnArray(f"{label(verb, key)}: row ids do not form an array: {error}") from error
    return as_array(array, verb, key)


def _checked(indices: object, values: object, shape: tuple[int, ...]) -> tuple[Ids, Array]:
    rows = _in_table(indices, shape[0], "RowSparse indices")
    new = as_array(values, "RowSparse values")
    if rows.ndim != 1:
        raise ShapeMismatch(f"RowSparse: indices must have one dimension, not shape {rows.shape}")
    if new.shape != (len(rows), *shape[1:]):
        raise ShapeMismatch(
            f"RowSparse: {len(rows)} rows of a table {shape} are {(len(rows), *shape[1:])}, but values are {new.shape}"
        )
    return rows, new


def _table_shape(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(map(index, shape))
    except TypeError as error:
        raise InvalidArgument(f"RowSparse: the shape is a sequence of sizes, not {shape!r}") from error
    if not sizes or min(sizes) < 0:
        raise InvalidArgument(f"RowSparse: a table has at least one dimension and no negative size, not {sizes}")
    return sizes


def _check_alike(parts: Sequence[RowSparse]) -> None:
    first = parts[0]
    for number, part in enumerate(parts):
        if part.shape != first.shape:
            raise ShapeMismatch(f"merge: part {number} is {describe(part)}, part 0 is {describe(first)}")
        if part.dtype != first.dtype:
            raise DTypeMismatch(f"merge: part {number} is {describe(part)}, part 0 is {describe(first)}")
