"""Answers to pushes of many keys: entries that say only a version, which is another each time, so no memo knows them.

Each is packed in the same 18 bytes, of which the last eight are the version, big-endian. Any msgpack reader takes them;
here such a list is known by its bytes, and neither made nor read entry by entry: 0.3 us a key at both ends, not 3.
"""

from __future__ import annotations

from itertools import repeat
from operator import itemgetter
from struct import Struct
from typing import Final

from .entries import Entry, bare_entries
from .header import pack_once
from .limits import MAX_HEADER
from .memo import VERSION_TYPE

__all__ = ["EMPTY", "MOST_TOLD", "TOLD_NBYTES", "mark", "pack_versions", "told"]

_NOTHING: Final = tuple(Entry(None))[:-1]
_LEAD: Final = pack_once(Entry(None))[:-1] + VERSION_TYPE
_TOLD: Final = Struct(f">{len(_LEAD)}sQ")
TOLD_NBYTES: Final = _TOLD.size
MOST_TOLD: Final = (MAX_HEADER - 64) // TOLD_NBYTES
"""As many fit into a header."""

EMPTY: Final = pack_once(())
# Shorter lists are not worth it, and have a shorter mark.
_FEW: Final = 16

_but_version = itemgetter(slice(len(_NOTHING)))
_pack_version = Struct(">Q").pack


def mark(count: int) -> bytes:
    """What msgpack has before a list of so many."""
    return pack_once((None,) * count)[:-count]


def pack_versions(entries: tuple[Entry, ...]) -> bytes | None:
    """Entries that say only versions, packed, without a mark; None: they say more, or are few.

    Raises struct.error for a version that is no integer of 64 bits.
    """
    if len(entries) < _FEW or any(entries[0][:-1]) or list(map(_but_version, entries)).count(_NOTHING) < len(entries):
        return None
    return _LEAD + _LEAD.join([_pack_version(entry.version) for entry in entries])


def told(header: bytes) -> tuple[bytes, tuple[Entry, ...]] | None:
    """A header with `EMPTY` for the list of such entries at its end, and they; None: it ends in no such list."""
    count, start = divmod(len(header), TOLD_NBYTES)
    if count < _FEW or not header.endswith(mark(count), 0, start):
        return None
    leads, versions = zip(*_TOLD.iter_unpack(header[start:]), strict=True)
    if leads.count(_LEAD) < count:
        return None
    return header[: start - len(mark(count))] + EMPTY, bare_entries(repeat(None), versions)
