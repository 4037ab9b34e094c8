"""Kernels made of operations on whole arrays, the same in numpy and CuPy: for what has no CUDA C of its own.

That is casts between any two of numpy's dtypes, strided arrays of callers, and sums of bool and complex values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ADD", "CAST", "NONFINITE", "TOTAL", "Plain"]


@dataclass(frozen=True, slots=True)
class Plain:
    """See akv_cupy.device.Kernel. `reference` is called with numpy's arrays, or on a GPU with CuPy's."""

    name: str
    reference: Callable[..., object]
    writes: Sequence[int] = (0,)


def _cast(target: Any, source: Any) -> None:
    target[...] = source


def _total(target: Any, first: Any, *others: Any) -> None:
    sum_ = first.copy()
    for other in others:
        sum_ += other
    target[...] = sum_


def _add(stored: Any, pushed: Any) -> None:
    stored += pushed


def _nonfinite(found: Any, values: Any) -> None:
    found[...] = (~np.isfinite(values)).sum()


CAST = Plain("cast", _cast)
TOTAL, ADD = Plain("total", _total), Plain("add", _add)
NONFINITE = Plain("nonfinite", _nonfinite)
