"""One value for each key of a call, as nearly all calls with lists of keys have them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast, overload

import numpy as np

__all__ = ["Singles", "dtypes_of", "shapes_of", "singles_of"]

T = TypeVar("T")

_dtype: Callable[[Any], np.dtype[Any]] = operator.attrgetter("dtype")
_shape: Callable[[Any], tuple[int, ...]] = operator.attrgetter("shape")
_nbytes: Callable[[Any], int] = operator.attrgetter("nbytes")


class Singles(Sequence[tuple[T]], Generic[T]):
    """A list of lists of one, without an object for each: they took 50 ns, and as much in each garbage collection.

    Attributes:
        values: one for each key.
        block: an array whose rows they are, where they are that. What is done to all of them is done to it at once.
    """

    __slots__ = ("block", "values")

    def __init__(self, values: Sequence[T], block: np.ndarray | None = None) -> None:
        self.values = values
        self.block = block

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, place: int) -> tuple[T]: ...
    @overload
    def __getitem__(self, place: slice) -> Singles[T]: ...
    def __getitem__(self, place: int | slice) -> tuple[T] | Singles[T]:
        if isinstance(place, slice):
            return Singles(self.values[place])
        return (self.values[place],)

    def __iter__(self) -> Iterator[tuple[T]]:
        return zip(self.values)

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return sum(map(_nbytes, self.values)) if self.block is None else self.block.nbytes


def singles_of(block: np.ndarray) -> Singles[Any]:
    """The rows of an array of two dimensions or more: those of fewer are no arrays."""
    return Singles(cast("list[np.ndarray]", list(block)), block)


def dtypes_of(values: Sequence[object]) -> tuple[np.dtype[Any], ...]:
    """Of arrays."""
    return tuple(map(_dtype, values))


def shapes_of(values: Sequence[object]) -> tuple[tuple[int, ...], ...]:
    """Of arrays."""
    return tuple(map(_shape, values))
