"""The memory of tensors as plain bytes.

The one place that makes sure of it: a transport given a view of wider items counts items as bytes and cuts the tensor
short without a word (cpython gh-135862: 4.2 of 16.7 MB arrived).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from akv.errors import InvalidArgument

__all__ = ["Buffer", "Growing", "Payload", "array_bytes", "byte_view", "cut", "pieces_of"]

Buffer: TypeAlias = bytes | bytearray | memoryview


class Growing:
    """The bytes of one entry while another thread writes them, from the front; they are sent as far as they are there.

    Attributes:
        view: all of the memory.
        filled: so many bytes have their final value; whoever raises it has the connection look again.
    """

    __slots__ = ("filled", "view")

    def __init__(self, memory: Buffer) -> None:
        self.view = byte_view(memory)
        self.filled = 0


Payload: TypeAlias = Buffer | Growing | tuple[Buffer, ...] | None
"""The bytes of one entry: in one run, in several that follow each other (a RowSparse's indices, values), or none."""


_NOTHING: Final[tuple[memoryview, ...]] = ()


def byte_view(buffer: Buffer) -> memoryview:
    """A view of the same memory, in which one item is one byte. Raises InvalidArgument where that is not so."""
    view = memoryview(buffer)
    if view.format != "B" or view.ndim != 1 or not view.c_contiguous:
        raise InvalidArgument(
            f"a buffer of format {view.format!r} with {view.ndim} dimensions came to the wire; use array_bytes(array)"
        )
    return view


def array_bytes(array: np.ndarray[Any, np.dtype[Any]]) -> memoryview:
    """The memory of a C-contiguous array of any dtype (bfloat16 too) and shape; no copy. Raises InvalidArgument."""
    if not array.flags.c_contiguous:
        raise InvalidArgument(f"an array of strides {array.strides} is not contiguous; make a contiguous copy first")
    return array.reshape(-1).view(np.uint8).data


def pieces_of(payload: Payload, nbytes: int) -> tuple[memoryview, ...]:
    """The runs of a payload of `nbytes` bytes, each checked by `byte_view`. Raises InvalidArgument."""
    if payload is None:
        pieces, given = _NOTHING, 0
    elif isinstance(payload, tuple):
        pieces = tuple(map(byte_view, payload))
        given = sum(map(len, pieces))
    else:
        view = payload.view if isinstance(payload, Growing) else byte_view(payload)
        pieces, given = (view,), len(view)
    if given != nbytes:
        raise InvalidArgument(f"an entry announces {nbytes} bytes, its payload has {given}")
    return pieces


def cut(pieces: Sequence[memoryview], start: int, stop: int) -> list[memoryview]:
    """The bytes [start, stop) of runs that follow each other; views, no copies."""
    found: list[memoryview] = []
    for piece in pieces:
        low, high = max(start, 0), min(stop, len(piece))
        if low < high:
            found.append(piece[low:high])
        start -= len(piece)
        stop -= len(piece)
    return found
