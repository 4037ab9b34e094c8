"""A table as a description: what `init` takes instead of a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np

from akv.errors import DTypeMismatch, InvalidArgument
from akv.init.initialisers import Initialiser
from akv.values.arrays import Array
from akv.values.buffers import empty
from akv.values.dtypes import EXTENDED, DType, check_dtype, extended_dtype
from akv.values.keys import Key
from akv.values.rowsparse import Ids, row_ids

__all__ = ["WHOLE_NBYTES", "Table"]

# Up to here a table may be read or pushed to as a whole: as much as is under way at a time in a store.
WHOLE_NBYTES = 256 << 20

# What a manifest can hold, see akv.checkpoint.
_MOST_NBYTES = 2**62
_MOST_DIMENSIONS = 64


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows come into being when they are pushed to; before, each is what `initialiser` says.

    Attributes:
        shape: at least one dimension; rows lie along the first.
        dtype: any that a store can hold for zeros, real floating for the random ones.
        initialiser: `akv.init.Zeros`, `Uniform` or `Normal`.

    The functions of `akv.init` make one in a line. Two are equal if they describe the same numbers by the same name.

    Raises:
        InvalidArgument: the shape is no shape of a table, or the initialiser is none or does not fit the dtype.
        DTypeMismatch: a dtype that no store can hold, or that the initialiser cannot fill.
    """

    shape: tuple[int, ...]
    dtype: DType
    initialiser: Initialiser

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _shape(self.shape))
        object.__setattr__(self, "dtype", _dtype(self.dtype))
        if not isinstance(self.initialiser, Initialiser):
            raise InvalidArgument(f"Table: {self.initialiser!r:.80} is no initialiser of akv.init")
        self.initialiser.check(self.dtype)
        if math.prod(size or 1 for size in self.shape) * max(self.dtype.itemsize, 16) > _MOST_NBYTES:
            raise InvalidArgument(f"Table: a table of shape {self.shape} is larger than any store can name")

    @property
    def nbytes(self) -> int:
        """The bytes of the whole table if it were an array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check_whole(self, verb: str, key: Key, advice: str) -> None:
        """Raise InvalidArgument if the table is too large for what makes an array of all of it."""
        if self.nbytes > WHOLE_NBYTES:
            raise InvalidArgument(
                f"{verb} of key {key!r}: the table {self.dtype} {self.shape} would be an array of {self.nbytes} bytes, "
                f"the most is {WHOLE_NBYTES}; {advice}"
            )

    def rows(self, ids: object) -> Array:
        """The rows with these ids, as they are before any push: sorted, once each, in a fresh array.

        Raises RowOutOfRange, DTypeMismatch, NotAnArray as `row_sparse_pull` does.
        """
        return self.generate(row_ids(ids, self.shape[0], "Table.rows"))

    def todense(self) -> Array:
        """The whole table as a fresh array."""
        return self.generate(np.arange(self.shape[0]))

    def generate(self, ids: Ids) -> Array:
        """The rows with these ids, which lie in the table, in their order: a fresh array."""
        made = empty((len(ids), *self.shape[1:]), self.dtype)
        self.initialiser.fill(ids, made.reshape(len(ids), math.prod(self.shape[1:])))
        return made


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(map(index, shape))
    except TypeError:
        raise InvalidArgument(f"Table: the shape is a sequence of sizes, not {shape!r:.80}") from None
    if not 0 < len(sizes) <= _MOST_DIMENSIONS or min(sizes) < 0:
        raise InvalidArgument(f"Table: a table has 1 to {_MOST_DIMENSIONS} dimensions, none negative, not {sizes}")
    return sizes


def _dtype(dtype: Any) -> DType:
    if isinstance(dtype, str) and dtype in EXTENDED:
        return extended_dtype(dtype, "Table")
    try:
        found: DType = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        raise DTypeMismatch(f"Table: {dtype!r:.80} is no dtype") from None
    check_dtype(found, "Table")
    return np.dtype(found.type)
