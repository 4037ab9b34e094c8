"""The loops of `kernels` compiled by numba, if it is installed and wanted (`AKV_NUMBA=0` says no)."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from akv.compression import kernels as loops


class Kernels(NamedTuple):
    """One compiled function for each loop in `akv.compression.kernels`."""

    one_bit: Callable[..., None]
    one_bit_back: Callable[..., None]
    two_bit: Callable[..., None]
    two_bit_back: Callable[..., None]
    half: Callable[..., None]
    unhalf: Callable[..., None]
    brain: Callable[..., None]
    peaks: Callable[..., None]
    codes: Callable[..., None]
    less: Callable[..., None]
    scaled: Callable[..., None]
    reach: Callable[..., int]


def kernels() -> Kernels | None:
    """The compiled loops, or None. numba is imported at the first call that wants it (0.2 s), each loop is compiled
    at its first use per dtype (about 0.5 s, kept on disk)."""
    return None if os.environ.get("AKV_NUMBA") == "0" else _compile()


@cache
def _compile() -> Kernels | None:
    try:
        numba: Any = importlib.import_module("numba")
        # Never parallel=True: its default threading layer aborts the process when two Python threads meet in it.
        compiler = numba.njit(nogil=True, cache=True, error_model="numpy")
        return Kernels(*(compiler(getattr(loops, name)) for name in Kernels._fields))
    except (ImportError, RuntimeError):
        # RuntimeError: there is no place to keep the cache (a read-only installation without a home directory).
        return None
