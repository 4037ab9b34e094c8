"""The loops of `loops` compiled by numba, if it is installed and wanted (`AKV_NUMBA=0`, read once, says no)."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from akv.optim import loops
from akv.values.dtypes import DType

__all__ = ["compiled", "numba_module"]

Loop = Callable[..., None]

# Sums whose order does not matter: adding them up one by one takes 61 ms for 64 MiB, in vectors 9.
_REORDERED = frozenset({loops.lamb_norms})


@cache
def compiled(loop: Loop, dtype: DType) -> Loop | None:
    """The loop compiled for float32 or float64, or None. The first call imports numba (0.2 s) and compiles the loop
    (0.1 to 0.4 s, kept on disk)."""
    numba = numba_module()
    if numba is None:
        return None
    # Never parallel=True: its default threading layer aborts the process when two Python threads meet in it. Without
    # error_model="numpy" divisions check for zero, and nothing is vectorised.
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc"} if loop in _REORDERED else False}
    signature = _signature(numba.types, loop, dtype)
    try:
        fast: Loop = numba.njit(signature, cache=True, **options)(loop)
    except RuntimeError:  # there is no place to keep the cache: a read-only installation without a home directory
        fast = numba.njit(signature, **options)(loop)
    return fast


@cache
def numba_module() -> Any:
    """The module numba, or None."""
    if os.environ.get("AKV_NUMBA") == "0":
        return None
    try:
        return importlib.import_module("numba")
    except ImportError:
        return None


def _signature(types: Any, loop: Loop, dtype: DType) -> Any:
    real = getattr(types, dtype.name)
    by_name = {
        "Written": types.Array(real, 1, "C"),
        "Read": types.Array(real, 1, "C", readonly=True),
        "Squares": types.Array(types.float64, 1, "C"),
        "Number": types.float64,
        "None": types.void,
    }
    *parameters, result = [by_name[name] for name in loop.__annotations__.values()]
    return result(*parameters)
