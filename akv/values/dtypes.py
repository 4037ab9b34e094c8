"""Which dtypes a store can hold, and in which one it sums them.

ml_dtypes (bfloat16, float8) is an extra: nothing here imports it until a value of such a dtype arrives from torch.
"""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

import numpy as np

from akv.errors import DTypeMismatch

__all__ = ["EXTENDED", "NATIVE", "DType", "accumulator", "check_dtype", "extended_dtype", "holds", "is_inexact"]

DType: TypeAlias = np.dtype[Any]

#: numpy's own dtypes that mean the same on every machine, in native byte order. A dtype with foreign byte order is not
#: equal to its native twin, so membership is the whole check of the hot path (0.05 us).
NATIVE: frozenset[DType] = frozenset(np.dtype(char) for char in "?bhilqBHILQefdFD")

#: The names, the same in torch and in ml_dtypes, of what ml_dtypes adds. float8_e8m0fnu is missing on purpose: it has
#: no zero, so neither an empty sum nor an absent row could be written in it. The 4- and 6-bit kinds are packed
#: differently by every library.
EXTENDED: frozenset[str] = frozenset(
    {
        "bfloat16",
        "float8_e3m4",
        "float8_e4m3",
        "float8_e4m3b11fnuz",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
    }
)

_FLOAT32 = np.dtype(np.float32)
_SMALL = np.dtype(np.float16)
_ADVICE = {
    "O": "objects cannot be sent or summed; convert to a numeric dtype",
    "M": "view it as int64",
    "m": "view it as int64",
    "g": "its layout differs between machines; convert to float64",
    "G": "its layout differs between machines; convert to complex128",
}


def _is_extended(dtype: DType) -> bool:
    # By name and not by identity: the dtype exists only where somebody has imported ml_dtypes already. numpy's kind is
    # of no use here: "V" for bfloat16, "f" for float8_e5m2.
    return dtype.type.__module__ == "ml_dtypes" and dtype.type.__name__ in EXTENDED and dtype.isnative


def holds(dtype: DType) -> bool:
    """Whether a store can hold arrays of ``dtype`` as it is (foreign byte order: no)."""
    return dtype in NATIVE or _is_extended(dtype)


def check_dtype(dtype: DType, what: str) -> None:
    """Refuse a dtype that no store can hold.

    ``what`` opens the error's text, such as ``"push of key 'w'"``.

    Raises DTypeMismatch for objects, strings, datetimes, structured and void dtypes, longdouble, the ml_dtypes kinds
    that are not in ``EXTENDED``, and foreign byte order.
    """
    if not holds(dtype):
        advice = _ADVICE.get(dtype.char, "convert to one of them, or view it as bytes (uint8)")
        # A structured dtype may have a thousand fields.
        raise DTypeMismatch(
            f"{what}: a store cannot hold {str(dtype)[:100]}, only bool, integers, float16/32/64, complex64/128, "
            f"bfloat16 and float8 in native byte order; {advice}"
        )


def extended_dtype(name: str, what: str) -> DType:
    """The dtype with this name in ``EXTENDED``; imports ml_dtypes.

    Raises DTypeMismatch, opening with ``what``, if the name is another or ml_dtypes is not installed.
    """
    if name not in EXTENDED:
        raise DTypeMismatch(f"{what}: {name[:100]!r} is none of {', '.join(sorted(EXTENDED))}")
    try:
        dtype: DType = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    except (ImportError, AttributeError) as error:
        raise DTypeMismatch(f"{what}: {name} needs ml_dtypes: pip install ml_dtypes, or convert to float32") from error
    return dtype


def accumulator(dtype: DType) -> DType:
    """The dtype in which values of ``dtype`` are summed: float32 for float16, bfloat16 and float8, else ``dtype``."""
    return _FLOAT32 if dtype == _SMALL or _is_extended(dtype) else dtype


def is_inexact(dtype: DType) -> bool:
    """Whether ``dtype`` is floating or complex, bfloat16 and float8 included: whether NaN is possible."""
    return dtype.kind in "fc" or _is_extended(dtype)
