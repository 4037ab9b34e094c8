"""A tensor as its packed bytes."""

from __future__ import annotations

import math

from akv.compression.buffers import Packed
from akv.compression.codec import Compression
from akv.values.dtypes import DType

__all__ = ["Coded"]


class Coded:
    """What somebody has packed elsewhere: the bytes, and what they are when restored.

    Attributes:
        packed: one row of uint8, only to be read.
        shape, dtype: of the restored tensor; its `size` in values, its `nbytes` in bytes.
    """

    __slots__ = ("codec", "dtype", "nbytes", "packed", "shape", "size")

    def __init__(self, codec: Compression, packed: Packed, shape: tuple[int, ...], dtype: DType) -> None:
        self.codec, self.packed, self.shape, self.dtype = codec, packed, shape, dtype
        self.size = math.prod(shape)
        self.nbytes = self.size * dtype.itemsize
