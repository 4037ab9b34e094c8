"""What each thread keeps between kernels: scratch arrays, and a context without floating-point warnings."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

import numpy as np
import numpy.typing as npt

from akv.values.dtypes import DType

__all__ = ["Array", "quietly", "take"]

Array = npt.NDArray[Any]


class _Scratch:
    __slots__ = ("buffers", "dtype", "quiet", "size", "views")

    def __init__(self) -> None:
        self.buffers: dict[DType, list[Array]] = {}
        self.size = -1
        self.dtype: DType | None = None
        self.views: tuple[Array, ...] = ()
        self.quiet = Context()
        self.quiet.run(np.seterr, all="ignore")


class _Local(threading.local):
    def __init__(self) -> None:
        self.scratch = _Scratch()


_local = _Local()


def quietly(function: Callable[..., None], *args: Any) -> None:
    """Call `function` without floating-point warnings.

    Overflow and NaN are the business of on_nonfinite, and a warning that the caller's filters turn into an exception
    would leave a weight half updated. Entering the context takes 0.02 us, np.errstate 0.9.
    """
    _local.scratch.quiet.run(function, *args)


def take(count: int, dtype: DType, size: int) -> tuple[Array, ...]:
    """At least `count` flat arrays of this dtype and size with unknown contents, valid until this thread's next call.

    They are kept, since fresh memory costs a page fault for every 4 KiB.
    """
    mine = _local.scratch
    if len(mine.views) < count or mine.size != size or mine.dtype != dtype:
        mine.views = tuple(_buffer(index, dtype, size)[:size] for index in range(count))
        mine.size, mine.dtype = size, dtype
    return mine.views


def _buffer(index: int, dtype: DType, size: int) -> Array:
    buffers = _local.scratch.buffers.setdefault(dtype, [])
    if index == len(buffers):
        buffers.append(np.empty(size, dtype))
    elif buffers[index].size < size:
        buffers[index] = np.empty(size, dtype)
    return buffers[index]
