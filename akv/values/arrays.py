"""From whatever array the caller holds to a numpy array on the same memory.

torch and JAX are never imported: a torch tensor can only arrive where torch is in ``sys.modules``.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from akv.errors import AkvError, InvalidArgument, NotAnArray
from akv.values.dtypes import EXTENDED, NATIVE, DType, check_dtype, extended_dtype, holds
from akv.values.keys import Key

__all__ = ["Array", "as_array", "as_out", "describe", "label"]

Array: TypeAlias = NDArray[Any]


def as_array(value: object, verb: str, key: Key | None = None) -> Array:
    """Return ``value`` as a plain ndarray of a dtype that a store can hold, in native byte order.

    Takes numpy arrays and scalars, CPU torch tensors (detached; bfloat16 and float8 through ml_dtypes), JAX arrays,
    and anything with ``__array__`` or ``__dlpack__``. The result shares memory with ``value`` wherever numpy can
    express it, and may be read-only: it belongs to the caller of the verb and must not be written to. ``verb`` and
    ``key`` only serve the text of errors: "push of key 'w'", or the verb alone without a key.

    Raises:
        NotAnArray: a number, None, str, bytes, list, dict, sparse matrix, or other object that is no array.
        InvalidArgument: an array that cannot be read here: on a device, sparse, without data, or masked.
        DTypeMismatch: a dtype that no store can hold, or one that needs ml_dtypes where that is missing.
    """
    if type(value) is np.ndarray and value.dtype in NATIVE:
        return value
    array = _host(value, verb, key)
    if holds(array.dtype):
        return array
    return array.astype(_native(array.dtype, verb, key))


def as_out(out: object, verb: str, key: Key | None = None) -> Array:
    """Return a writable ndarray on the memory of ``out``, for a result to be written into.

    Takes numpy arrays (memmaps and other subclasses, strided views, either byte order) and CPU torch tensors
    (bfloat16 and float8 through ml_dtypes; a leaf that requires grad is written behind autograd's back, as ``p.data``
    is). ``verb`` and ``key`` only serve the text of errors.

    Raises:
        NotAnArray: ``out`` is no array.
        InvalidArgument: it cannot be written in place: read-only, a JAX array or a numpy scalar, overlapping itself
            (broadcast), masked, on a device, sparse, or a torch tensor that autograd still needs.
        DTypeMismatch: a dtype that no store can hold, or one that needs ml_dtypes where that is missing.
    """
    # Overlap before the flag, here and below: numpy warns when the flag of a result of broadcast_arrays is read.
    if type(out) is np.ndarray and out.dtype in NATIVE and (flags := out.flags).c_contiguous and flags.writeable:
        return out
    array = _own_memory(out, verb, key)
    _native(array.dtype, verb, key)
    if _may_overlap(array):
        raise InvalidArgument(
            f"{label(verb, key)}: out {describe(array)} with strides {array.strides} may hold one element twice; "
            "pass an array that is not broadcast"
        )
    if not array.flags.writeable:
        raise InvalidArgument(f"{label(verb, key)}: out {describe(array)} is read-only; pass a writable array")
    return array


def describe(value: Any) -> str:
    """The dtype and shape of anything that has both, for the text of errors: ``float32 (2, 3)``."""
    return f"{getattr(value.dtype, 'name', value.dtype)} {tuple(value.shape)}"


def label(verb: str, key: Key | None = None) -> str:
    """How errors open: "push of key 'w'", or the verb alone."""
    return verb if key is None else f"{verb} of key {key!r}"


def _native(dtype: DType, verb: str, key: Key | None) -> DType:
    """``dtype`` in native byte order, if a store can hold that."""
    native = dtype.newbyteorder("=")
    if not holds(native):
        check_dtype(native, label(verb, key))
    # Not `native`: numpy keeps a dtype made by a swap apart from its equal, and says it is not built in.
    return np.dtype(native.type)


def _kind(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _is_tensor(value: object) -> bool:
    return isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ()))


def _is_foreign(value: object) -> bool:
    # A class, such as np.ndarray itself, has these attributes too.
    return (hasattr(value, "__array__") or hasattr(value, "__dlpack__")) and not isinstance(value, type)


def _not_an_array(value: object, verb: str, key: Key | None) -> NotAnArray:
    advice = "call .todense() first" if hasattr(value, "todense") else "pass a numpy, torch or JAX array"
    return NotAnArray(f"{label(verb, key)}: {_kind(value)} is not a dense array; {advice}")


def _host(value: object, verb: str, key: Key | None) -> Array:
    if isinstance(value, np.ndarray):
        return _unmasked(value, verb, key)  # pyright: ignore[reportUnknownArgumentType]
    if _is_tensor(value):
        return _tensor(value, verb, key, force=True)
    if not _is_foreign(value):
        raise _not_an_array(value, verb, key)
    try:
        # __array__ first: it knows bfloat16, which DLPack in numpy does not. Objects with DLPack alone would become
        # an array of one object.
        return np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)  # type: ignore[arg-type]
    except Exception as error:
        raise _unreadable(value, verb, key, error) from error


def _own_memory(out: object, verb: str, key: Key | None) -> Array:
    if isinstance(out, np.ndarray):
        return _unmasked(out, verb, key)  # pyright: ignore[reportUnknownArgumentType]
    if not _is_tensor(out):
        if not _is_foreign(out):
            raise _not_an_array(out, verb, key)
        raise InvalidArgument(
            f"{label(verb, key)}: {_kind(out)} cannot be written in place; "
            "pass a numpy array or a CPU torch tensor as out, or none"
        )
    tensor: Any = out
    if tensor.requires_grad and not tensor.is_leaf:
        raise InvalidArgument(
            f"{label(verb, key)}: out is a torch tensor that autograd computed and may need again; pass out.detach()"
        )
    return _tensor(tensor, verb, key, force=False)


def _unmasked(array: object, verb: str, key: Key | None) -> Array:
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidArgument(f"{label(verb, key)}: the mask of a masked array would be lost; pass .filled(x) or .data")
    return np.asarray(array)


def _tensor(tensor: Any, verb: str, key: Key | None, *, force: bool) -> Array:
    """A view of a torch tensor; with ``force`` a copy where a conjugate or negative is still to be computed."""
    fault = _tensor_fault(tensor)
    if fault:
        raise InvalidArgument(f"{label(verb, key)}: torch tensor {describe(tensor)} {fault}")
    name = str(tensor.dtype).removeprefix("torch.")
    try:
        if name not in EXTENDED:
            array: Array = tensor.detach().numpy(force=force)
            return array
        bits = getattr(sys.modules["torch"], f"int{8 * tensor.element_size()}")
        return tensor.detach().view(bits).numpy().view(extended_dtype(name, label(verb, key)))  # type: ignore[no-any-return]
    except AkvError:
        raise
    except Exception as error:
        raise _unreadable(tensor, verb, key, error) from error


def _tensor_fault(tensor: Any) -> str:
    if tensor.layout is not sys.modules["torch"].strided:
        return f"is {tensor.layout}: call .to_dense(), or make a RowSparse of its coalesced indices and values"
    if tensor.device.type == "meta":
        return "is on the meta device and has no data"
    if tensor.device.type != "cpu":
        return f"is on {tensor.device}, this store works in host memory: pass a CPU tensor, as .cpu() makes one"
    return ""


def _unreadable(value: object, verb: str, key: Key | None, error: Exception) -> InvalidArgument:
    return InvalidArgument(f"{label(verb, key)}: {_kind(value)} does not convert to a numpy array: {error}")


def _may_overlap(array: Array) -> bool:
    # Sufficient for any slice, transpose, diagonal or reshape of an array: each stride, from the smallest up, must
    # step over all that the smaller ones span. Interleaved as_strided windows are refused although they may be fine.
    if array.flags.forc:
        return False
    span = array.itemsize
    for stride, length in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if length > 1 and stride < span:
            return True
        span += (length - 1) * stride
    return False
