"""Tables by their initialiser: `await kv.init("embedding", akv.init.normal((10**8, 64), std=0.01, seed=7))`.

Such a table holds the rows that were pushed to, and no others. See akv.init.counters and akv.init.quantile for the
formulas: any language can make the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from akv.init.initialisers import Initialiser, Normal, Uniform, Zeros, from_dict
from akv.init.table import Table

__all__ = ["Initialiser", "Normal", "Table", "Uniform", "Zeros", "from_dict", "normal", "uniform", "zeros"]


def zeros(shape: Sequence[int], dtype: Any = np.float32) -> Table:
    """A table of zeros.

    Raises:
        InvalidArgument: no shape of a table. DTypeMismatch: a dtype that no store can hold.
    """
    return _table(shape, dtype, Zeros())


def uniform(
    shape: Sequence[int], dtype: Any = np.float32, low: float = -0.07, high: float = 0.07, seed: int = 0
) -> Table:
    """A table of random numbers, evenly spread over [low, high]; the defaults are those of MXNet's `init.Uniform`.

    Args:
        shape: rows lie along the first dimension.
        dtype: real floating.
        seed: 0 to 2**64 - 1. Tables with the same seed have the same numbers, so give each one its own.

    Raises:
        InvalidArgument: a parameter is out of its range. DTypeMismatch: not real floating.
    """
    return _table(shape, dtype, Uniform(low=low, high=high, seed=seed))


def normal(shape: Sequence[int], dtype: Any = np.float32, mean: float = 0.0, std: float = 0.01, seed: int = 0) -> Table:
    """A table of normally distributed random numbers; the defaults are those of MXNet's `init.Normal`.

    Arguments and errors are those of `uniform`, with `std` from 0 on.
    """
    return _table(shape, dtype, Normal(mean=mean, std=std, seed=seed))


def _table(shape: Sequence[int], dtype: Any, initialiser: Initialiser) -> Table:
    return Table(tuple(shape) if isinstance(shape, list) else shape, dtype, initialiser)  # type: ignore[arg-type]
