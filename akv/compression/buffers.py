"""Which memory a codec accepts: gradients, residuals, results and packed bytes, each as a flat numpy view."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from akv.errors import DTypeMismatch, InvalidArgument, ProtocolError, ShapeMismatch
from akv.optim.blocks import FLOATS
from akv.values.dtypes import DType, accumulator

Array = npt.NDArray[Any]
Packed = npt.NDArray[np.uint8]
Memory = Packed | bytes | bytearray | memoryview


def work_dtype(dtype: DType) -> DType:
    """The dtype in which values of `dtype` are computed and their residual is kept: float64 for float64, else float32.

    Raises DTypeMismatch for integers, bool, complex and what no store can hold.
    """
    work = accumulator(dtype)
    if work not in FLOATS:
        raise DTypeMismatch(f"compression takes real floating dtypes, not {dtype}: leave it uncompressed")
    return work


def read_only(array: Array) -> Array:
    """A view that cannot be written through: numba compiles a loop for each kind, and so for one alone."""
    view = array.view()
    view.flags.writeable = False
    return view


def magnitude_bits(values: Array) -> tuple[Array, Any]:
    """float32 or float64 `values` as unsigned integers, not copied, and the mask that takes their sign off.

    Masked, they order like the magnitudes, with infinity above all numbers and NaN above infinity.
    """
    if values.itemsize == 4:
        return values.view(np.uint32), np.uint32(0x7FFFFFFF)
    return values.view(np.uint64), np.uint64(0x7FFFFFFF_FFFFFFFF)


def flat_residual(residual: Array, grad: Array) -> Array:
    """A writable flat view of `residual`, which has to fit `grad`."""
    if residual.size != grad.size:
        raise ShapeMismatch(f"the residual holds {residual.size} values, the gradient {grad.size}: keep one per tensor")
    work = work_dtype(grad.dtype)
    if residual.dtype != work:
        raise DTypeMismatch(f"the residual of a {grad.dtype} gradient is {work}, this one is {residual.dtype}")
    return writable("residual", residual)


def writable(name: str, array: Array) -> Array:
    """A flat view of `array`, through which it can be written."""
    if not (array.flags.c_contiguous and array.flags.writeable):
        layout = f"shape {array.shape}, strides {array.strides}, writeable={array.flags.writeable}"
        raise InvalidArgument(f"{name} must be C-contiguous and writable, not {layout}")
    return array.reshape(-1)


def packed_target(out: Memory, nbytes: int) -> Packed:
    """The first `nbytes` of `out` as writable bytes."""
    memory = _bytes(out)
    if memory.flags.writeable and memory.size >= nbytes:
        return memory[:nbytes]
    kind = "writable" if memory.flags.writeable else "read-only"
    raise InvalidArgument(f"out must be at least {nbytes} writable bytes, not {memory.size} {kind} ones")


def packed_source(packed: Memory, nbytes: int, size: int) -> Packed:
    """`packed`, which may come from a peer, as exactly `nbytes` bytes."""
    memory = _bytes(packed)
    if memory.size != nbytes:
        raise ProtocolError(f"{size} values take {nbytes} packed bytes, {memory.size} arrived")
    return read_only(memory)


def _bytes(memory: Memory) -> Packed:
    row = np.asarray(memory if isinstance(memory, np.ndarray) else memoryview(memory))
    if row.dtype != np.uint8 or row.ndim != 1 or not row.flags.c_contiguous:
        raise InvalidArgument(f"packed memory is one contiguous row of uint8, not {row.dtype} of shape {row.shape}")
    return row
