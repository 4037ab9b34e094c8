"""Arrays in the memory of a GPU, as the caller holds them: known by protocol, so that no library is imported here."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from akv.errors import AkvError, InvalidArgument
from akv.values.arrays import describe, label
from akv.values.dtypes import EXTENDED, DType, check_dtype, extended_dtype
from akv.values.keys import Key

__all__ = ["OnDevice", "is_on_device"]

# DLDeviceType of dlpack.h: kDLCUDA, kDLCUDAManaged.
_ON_GPU = frozenset({2, 13})


def is_on_device(value: object) -> bool:
    """Whether `value` is an array in GPU memory: CuPy, torch, JAX, numba, or whatever says so by its protocols."""
    if isinstance(value, type):
        return False
    try:
        where: Any = getattr(value, "__dlpack_device__", None)
        if where is not None:
            return where()[0] in _ON_GPU
        return hasattr(value, "__cuda_array_interface__")
    except Exception:  # of that library's: then it is no array to us, and the conversion says what is wrong
        return False


class OnDevice:
    """One such array on its way to a backend that takes them; see akv.backend.protocol.DeviceArrays.

    Attributes:
        owner: the array itself. It is kept alive, and belongs to the store until the operation is done.
        shape, dtype, size, nbytes: as of a numpy array; bfloat16 and float8 as those of ml_dtypes.
        written: whether it is an `out`.
        adopted: what the backend made of it.
    """

    __slots__ = ("adopted", "dtype", "nbytes", "owner", "shape", "size", "written")

    def __init__(self, value: Any, verb: str, key: Key | None = None, *, written: bool = False) -> None:
        """Take an array for which `is_on_device` is true.

        Raises:
            DTypeMismatch: a dtype that no store can hold. InvalidArgument: an `out` that cannot be written to.
        """
        if written:
            _check_out(value, verb, key)
        self.owner, self.dtype = _plain(value, verb, key)
        self.shape: tuple[int, ...] = tuple(value.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize
        self.written = written
        self.adopted: Any = None

    def __repr__(self) -> str:
        return f"OnDevice({describe(self)})"


def _plain(value: Any, verb: str, key: Key | None) -> tuple[Any, DType]:
    """The array without autograd, and its dtype; of a dtype that DLPack in CuPy may not know, its bits."""
    torch = sys.modules.get("torch")
    try:
        if torch is None or not isinstance(value, torch.Tensor):
            dtype = np.dtype(value.dtype)
        else:
            value = value.detach()
            name = str(value.dtype).removeprefix("torch.")
            if name in EXTENDED:
                return value.view(getattr(torch, f"int{8 * value.element_size()}")), extended_dtype(
                    name, label(verb, key)
                )
            dtype = np.dtype(name)
    except AkvError:
        raise
    except Exception as error:
        text = f"{label(verb, key)}: {type(value).__qualname__} on a device cannot be read: {error}"
        raise InvalidArgument(text) from error
    check_dtype(dtype, label(verb, key))
    return value, dtype


def _check_out(value: Any, verb: str, key: Key | None) -> None:
    kind = type(value)
    if kind.__module__.partition(".")[0] in ("jax", "jaxlib"):
        raise InvalidArgument(f"{label(verb, key)}: a JAX array cannot be written in place; pass no out")
    if getattr(value, "requires_grad", False) and not getattr(value, "is_leaf", True):
        raise InvalidArgument(
            f"{label(verb, key)}: out is a torch tensor that autograd computed and may need again; pass out.detach()"
        )
