"""How a header of one entry ends: in its version, packed in the nine bytes that any msgpack reader takes."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from .entries import Entry

__all__ = ["UINT64", "VERSION_NBYTES", "VERSION_STRUCT", "VERSION_TYPE", "pack_version", "stem_of"]

VERSION_STRUCT: Final = Struct(">BQ")
VERSION_NBYTES: Final = VERSION_STRUCT.size
UINT64: Final = 0xCF
VERSION_TYPE: Final = bytes([UINT64])
"""What msgpack has before an integer of eight bytes."""


def pack_version(version: int) -> bytes:
    """The end of a header. Raises struct.error beyond 64 bits."""
    return VERSION_STRUCT.pack(UINT64, version)


def stem_of(pack: Callable[[Any], bytes], fixed: tuple[object, ...], entry: Entry) -> bytes:
    """The stem of the header of these values and this entry."""
    return pack((*fixed, (entry,)))[: -len(pack(entry.version))]
