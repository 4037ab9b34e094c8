"""Frames on their way out: buffers to be written one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from .buffers import Buffer
from .head import pack_head
from .limits import MAX_HEADER

__all__ = ["Frame", "cork", "new_frame"]

Frame: TypeAlias = list[Buffer]
"""The buffers of one frame; the first is head and header, and the only new memory."""

CORK: Final = 16 * 1024
"""Buffers below this are joined: one write for many small frames gives four times as many of them (measurements.md)."""


def new_frame(code: int, request: int, header: bytes, payload: Sequence[Buffer], nbytes: int) -> Frame:
    """A frame whose payload has `nbytes` bytes. Raises ValueError for a header that is too long."""
    if len(header) > MAX_HEADER:
        raise ValueError(f"its header takes {len(header)} bytes; the most is {MAX_HEADER}")
    return [pack_head(code, request, len(header), nbytes) + header, *payload]


def cork(buffers: list[Buffer]) -> list[Buffer]:
    """The same bytes in fewer buffers; large ones stay what they are, views of somebody's memory."""
    if len(buffers) < 2:
        return buffers
    corked: list[Buffer] = []
    small: list[Buffer] = []
    for buffer in buffers:
        if len(buffer) < CORK:
            small.append(buffer)
            continue
        if small:
            corked.append(b"".join(small))
            small.clear()
        corked.append(buffer)
    if small:
        corked.append(b"".join(small))
    return corked
