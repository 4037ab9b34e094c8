"""What a kernel is: complete CUDA C, its parameters, the same in Python, and how it is cut into blocks of threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["OPTIONS", "THREADS", "Kernel", "Param"]

# Bits equal to the CPU's: a * b + c rounded twice, subnormals kept, divisions and roots rounded correctly (the last
# three are NVRTC's defaults, said so that nobody's flags change them). What memory bounds loses nothing by it.
OPTIONS = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")

# A power of two, because sums over the threads of a block halve it again and again.
THREADS = 256

# Eight blocks of 256 threads fill a multiprocessor, and no card has more than this many places for them by far; beyond
# it each thread takes several elements, so that it works its scalars out for more than one.
_ENOUGH_BLOCKS = 2048
_ELEMENTS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Param:
    """One argument of a launch: an array in device memory (a pointer to its first element in C) or a scalar."""

    name: str
    dtype: np.dtype[Any]
    """Of the array's elements, which lie C-contiguous; of a scalar float64 or int64."""
    array: bool
    written: bool = False

    @property
    def number(self) -> bool:
        """Whether it is one of a formula's numbers, a float64 by itself."""
        return not self.array and self.dtype == np.float64


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """One loop for one combination of dtypes.

    Attributes:
        name: of the C function, which is extern "C".
        source: complete CUDA C without includes.
        params: what a launch passes, in order. In C there is one before them: `long long`, the number of elements.
        reference: the loop in Python, on numpy arrays of the same dtypes, called with the arguments of a launch. It
            changes the same arrays, to the same bits (sums over a whole tensor are rounded differently).
        options: for NVRTC, without the architecture.
        threads: per block; the source is compiled for at most this many.
        by_block: a block of threads takes one element, instead of each thread.
        most_blocks: the grid's limit, or None.
    """

    name: str
    source: str = field(repr=False)
    params: tuple[Param, ...] = field(repr=False)
    reference: Callable[..., None] = field(repr=False)
    options: tuple[str, ...] = OPTIONS
    threads: int = THREADS
    by_block: bool = False
    most_blocks: int | None = None

    @property
    def writes(self) -> tuple[int, ...]:
        """The places among the arguments of the arrays that it changes."""
        return tuple(place for place, param in enumerate(self.params) if param.written)

    def grid(self, size: int) -> tuple[int, int]:
        """(blocks, threads) for so many elements, at least one block. It depends on nothing else, so that sums come
        out the same on every run and card."""
        blocks = size if self.by_block else -(-size // self.threads)
        if not self.by_block and blocks > _ENOUGH_BLOCKS:
            blocks = max(_ENOUGH_BLOCKS, -(-blocks // _ELEMENTS))
        return max(1, min(blocks, self.most_blocks or 2**31 - 1)), self.threads
