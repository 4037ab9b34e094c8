"""The fixed head that starts every frame: 18 bytes, little-endian.

magic u16 | version u8 | type u8 | request u32 | header length u16 | payload length u64
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from akv.errors import ProtocolError

from .limits import MAX_HEADER

__all__ = ["HEAD", "HEAD_SIZE", "MAGIC", "VERSION", "pack_head", "read_head"]

MAGIC: Final = 0x56AB
"""On the wire AB 56: the first byte is no ASCII, so HTTP or TLS sent to this port is recognised at once."""

VERSION: Final = 1

HEAD: Final = Struct("<HBBIHQ")
HEAD_SIZE: Final = HEAD.size


def pack_head(code: int, request: int, header: int, payload: int) -> bytes:
    """The 18 bytes of a head. The caller has checked the ranges: u8, u32, `MAX_HEADER`, u64."""
    return HEAD.pack(MAGIC, VERSION, code, request, header, payload)


def read_head(buffer: memoryview, start: int) -> tuple[int, int, int, int]:
    """The head at `start`, where `HEAD_SIZE` bytes must be: type, request, bytes of the header, bytes of the payload.

    Raises ProtocolError for another magic or version, or a header longer than `MAX_HEADER`.
    """
    magic, version, code, request, header, payload = HEAD.unpack_from(buffer, start)
    if magic != MAGIC or version != VERSION:
        raise ProtocolError(_stranger(magic, version))
    if header > MAX_HEADER:
        raise ProtocolError(f"a frame announces a header of {header} bytes; the most is {MAX_HEADER}")
    return code, request, header, payload


def _stranger(magic: int, version: int) -> str:
    if magic != MAGIC:
        return f"a frame starts with {magic:#06x} where {MAGIC:#06x} was due: the peer does not speak akv"
    return f"a frame has version {version}; this side speaks {VERSION}. Use the same akv on both sides"
