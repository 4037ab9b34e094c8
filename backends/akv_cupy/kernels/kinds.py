"""The types of the subset: what a value may be, how C spells it, and how elements in memory become such values.

A *kind* is what the translator reasons with. REAL stands for the dtype that a kernel calculates in, its *work* dtype,
so that whether a loop is translatable never depends on the dtype asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from akv.optim.loops import Number, Read, Squares, Written

__all__ = [
    "BOOL",
    "DOUBLE",
    "FLOATS",
    "INT",
    "REAL",
    "SINGLE",
    "Number",
    "Read",
    "Squares",
    "Written",
    "c_type",
    "spelled",
]

REAL, DOUBLE, SINGLE, INT, BOOL = "real", "float64", "float32", "int64", "bool"
FLOATS = frozenset({REAL, DOUBLE, SINGLE})

# What parameters are annotated with, beside those of akv.optim.loops. Arrays of a fixed dtype, then scalars.
_Array = npt.NDArray[Any]
ReadIndices = _Array
ReadBytes = _Array
WrittenBytes = _Array
ReadCodes = _Array
WrittenCodes = _Array
ReadScales = _Array
WrittenScales = _Array
WrittenHalves = _Array
ReadHalves = _Array
ReadDoubles = _Array
WrittenDoubles = _Array
Count = Any
Real = Any
Single = Any
Half = Any


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a parameter annotated so is."""

    kind: str
    array: bool = False
    written: bool = False


ANNOTATIONS = {
    "Written": Annotation(REAL, array=True, written=True),
    "Read": Annotation(REAL, array=True),
    "Squares": Annotation(DOUBLE, array=True, written=True),
    "ReadIndices": Annotation(INT, array=True),
    "ReadBytes": Annotation("uint8", array=True),
    "WrittenBytes": Annotation("uint8", array=True, written=True),
    "ReadCodes": Annotation("int8", array=True),
    "WrittenCodes": Annotation("int8", array=True, written=True),
    "ReadScales": Annotation(SINGLE, array=True),
    "WrittenScales": Annotation(SINGLE, array=True, written=True),
    "WrittenHalves": Annotation("uint16", array=True, written=True),
    "ReadHalves": Annotation("uint16", array=True),
    "ReadDoubles": Annotation(DOUBLE, array=True),
    "WrittenDoubles": Annotation(DOUBLE, array=True, written=True),
    "Number": Annotation(DOUBLE),
    "Count": Annotation(INT),
    "Real": Annotation(REAL),
    "Single": Annotation(SINGLE),
    "Half": Annotation("uint16"),
}

_C = {
    "float64": "double",
    "float32": "float",
    "int64": "long long",
    "bool": "int",
    "int8": "signed char",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
}

# In memory only: kernels calculate in float32 for them.
_NARROW = {"float16": ("unhalf", "half"), "bfloat16": ("unbrain", "brain")}


def spelled(kind: str, work: np.dtype[Any]) -> str:
    """The C type of a value of this kind. Signed integers of the work dtype are unsigned in C, where they may wrap."""
    return _C[f"u{work.name}" if kind == REAL and work.kind == "i" else work.name if kind == REAL else kind]


def c_type(dtype: np.dtype[Any]) -> str:
    """The C type of an array's elements in memory."""
    return "unsigned short" if dtype.name in _NARROW else spelled(REAL, dtype)


def loaded(text: str, dtype: np.dtype[Any], work: np.dtype[Any]) -> tuple[str, str | None]:
    """The element `text` of an array of `dtype` as a value of the work dtype, and the helper that this takes."""
    if dtype == work:
        return text, None
    if dtype.name not in _NARROW:
        return f"(({spelled(REAL, work)}){text})", None
    helper = _NARROW[dtype.name][0]
    single = f"akv_{helper}({text})"
    return (single if work == np.float32 else f"(({spelled(REAL, work)}){single})"), helper


def stored(text: str, dtype: np.dtype[Any], work: np.dtype[Any]) -> tuple[str, str | None]:
    """A value of the work dtype as what is written to an array of `dtype`, and the helper that this takes."""
    if dtype == work:
        return text, None
    if dtype.name not in _NARROW:
        return f"(({c_type(dtype)}){text})", None
    helper = _NARROW[dtype.name][1]
    return f"akv_{helper}({text})", helper
