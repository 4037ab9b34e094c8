"""Which kernel does what a codec of `akv.compression` does, and with which numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from akv.compression import Compression
from akv.compression.bits import OneBit, TwoBit
from akv.compression.casts import BFloat16, Float16
from akv.compression.int8 import Int8
from akv.errors import InvalidArgument
from akv.values.dtypes import DType
from akv_cupy.kernels import codecs
from akv_cupy.kernels.catalogue import threads_for
from akv_cupy.kernels.description import THREADS, Kernel
from akv_cupy.kernels.making import kernel

__all__ = ["Coding", "decoding", "encoding"]


@dataclass(frozen=True, slots=True)
class Coding:
    """One launch. Its arguments are, to encode: the packed bytes, the residual if there is one, the gradient, then
    `numbers`; to decode: the array, the packed bytes, then `numbers`.

    Attributes:
        kernel: what is launched.
        size: over so many elements.
        views: the packed bytes are passed as an array of each of these dtypes, as many whole elements as they hold;
            they have to be aligned accordingly.
        numbers: the last arguments.
    """

    kernel: Kernel
    size: int
    views: tuple[DType, ...]
    numbers: tuple[float, ...]


def encoding(codec: Compression, dtype: DType, size: int, *, feedback: bool) -> Coding:
    """What packs `size` values of `dtype`: the bytes and the residual are those of `codec.encode`.

    feedback: with a residual, which is float64 for float64 and else float32. Without one 1bit and 2bit have no meaning.
    Raises InvalidArgument for another codec, or one that needs a residual; DTypeMismatch for another dtype.
    """
    if codec.needs_residual and not feedback:
        raise InvalidArgument(f"{codec.name} compression needs a residual: it cannot be used for pulls")
    loop, numbers = _loop("encode" if feedback else "quantise", codec), _numbers(codec)
    return Coding(_kernel(loop, dtype, codec), _steps(codec, size), _views(codec), (*numbers, size) if numbers else ())


def decoding(codec: Compression, dtype: DType, size: int, *, add: bool = False) -> Coding:
    """What restores `size` values into an array of `dtype`, or adds them to it, as `codec.decode` and `add_decoded`.

    Raises InvalidArgument for another codec, DTypeMismatch for another dtype.
    """
    loop = _loop("add" if add else "decode", codec)
    numbers = () if isinstance(codec, OneBit) else _numbers(codec)
    return Coding(kernel(loop, dtype), size, _views(codec), numbers)


def _loop(verb: str, codec: Compression) -> Callable[..., None]:
    if type(codec) not in (OneBit, TwoBit, Int8, Float16, BFloat16):
        raise InvalidArgument(f"no kernel knows {codec.name} compression")
    loop: Callable[..., None] = getattr(codecs, f"{verb}_{codec.name}")
    return loop


def _kernel(loop: Callable[..., None], dtype: DType, codec: Compression) -> Kernel:
    return kernel(loop, dtype, threads=threads_for(codec.block) if isinstance(codec, Int8) else THREADS)


def _steps(codec: Compression, size: int) -> int:
    """What a thread takes is a byte of 1bit or 2bit, or a value; of int8 a block of threads takes a block of values."""
    if isinstance(codec, Int8):
        return -(-size // codec.block)
    return codec.packed_nbytes(size) if isinstance(codec, OneBit | TwoBit) else size


def _numbers(codec: Compression) -> tuple[float, ...]:
    if isinstance(codec, OneBit | TwoBit):
        return (float(np.float32(codec.threshold)),)
    return (codec.block.bit_length() - 1,) if isinstance(codec, Int8) else ()


def _views(codec: Compression) -> tuple[DType, ...]:
    if isinstance(codec, Int8):
        return np.dtype(np.float32), np.dtype(np.int8)
    return (np.dtype(np.uint8 if isinstance(codec, OneBit | TwoBit) else np.uint16),)
