"""Answers to pushes of many keys: entries that say only a version, which is another each time, so no memo knows them.

Each is packed in the same 18 bytes, of which the last eight are the version, big-endian. Any msgpack reader takes them;
here such a list is neither made nor read entry by entry: 0.1 us a key at both ends, not 3.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Final, TypeAlias, overload

import numpy as np

from .entries import Entry
from .header import pack_once
from .limits import MAX_HEADER
from .listing import Listing
from .stems import VERSION_TYPE

__all__ = ["EMPTY", "FEW", "MOST_TOLD", "Entries", "Versions", "headers_of", "kinds_of", "told", "versions_in"]

_LEAD: Final = np.frombuffer(pack_once(Entry(None))[:-1] + VERSION_TYPE, np.uint8)
_BIG_ENDIAN: Final = np.dtype(">u8")
_TOLD_NBYTES: Final = len(_LEAD) + 8
MOST_TOLD: Final = (MAX_HEADER - 64) // _TOLD_NBYTES
"""As many fit into a header."""

EMPTY: Final = pack_once(())
FEW: Final = 2
"""A single one is known by its stem."""


class Versions(Sequence[Entry]):
    """The entries of an answer that says nothing but versions.

    Attributes:
        numbers: the versions, from 0 to 2**64 - 1; never changed.

    Raises:
        TypeError, OverflowError: one is no such number.
    """

    __slots__ = ("numbers",)

    # As of a listing.
    nbytes: ClassVar[int] = 0
    riding: ClassVar[int] = 0
    joins: ClassVar[bool] = False
    kinds: ClassVar[frozenset[int]] = frozenset([0])

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers: array[int] = numbers if isinstance(numbers, array) else array("Q", numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Versions: ...
    def __getitem__(self, place: int | slice) -> Entry | Versions:
        found = self.numbers[place]
        return Versions(found) if isinstance(found, array) else Entry(None, version=found)

    def __iter__(self) -> Iterator[Entry]:
        return (Entry(None, version=version) for version in self.numbers)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Versions):
            return self.numbers == other.numbers
        return tuple(self) == other

    __hash__ = None  # type: ignore[assignment]


Entries: TypeAlias = Listing | Versions
"""What a frame may bring, or a message."""


def versions_in(entries: Sequence[Entry]) -> list[int]:
    """What entries say of versions."""
    return entries.numbers.tolist() if isinstance(entries, Versions) else [entry.version for entry in entries]


def kinds_of(entries: Sequence[Entry]) -> frozenset[int]:
    """All kinds that there are among entries."""
    if isinstance(entries, (Listing, Versions)):
        return entries.kinds
    return frozenset([entry.kind for entry in entries])


def _mark(count: int) -> bytes:
    """What msgpack has before a list of so many."""
    return pack_once((None,) * count)[:-count]


def headers_of(entries: Versions) -> Iterator[bytes]:
    """The headers of a message of so many such entries, or more than `FEW`, that has no fields of its own."""
    packed = _pack(entries)
    lead = pack_once((len(entries), 0, ())).removesuffix(EMPTY)
    for start in range(0, len(packed), MOST_TOLD * _TOLD_NBYTES):
        part = packed[start : start + MOST_TOLD * _TOLD_NBYTES]
        yield lead + _mark(len(part) // _TOLD_NBYTES) + part
        lead = b""


def _pack(versions: Versions) -> bytes:
    """Such entries, packed, without a mark."""
    packed = np.empty((len(versions), _TOLD_NBYTES), np.uint8)
    packed[:, : len(_LEAD)] = _LEAD
    numbers = np.frombuffer(versions.numbers, np.uint64).astype(_BIG_ENDIAN)
    packed[:, len(_LEAD) :] = numbers.view(np.uint8).reshape(-1, 8)
    return packed.tobytes()


def told(header: bytes) -> tuple[bytes, Versions] | None:
    """A header with `EMPTY` for the list of such entries at its end, and they; None: it ends in no such list."""
    count, start = divmod(len(header), _TOLD_NBYTES)
    if count < FEW or not header.endswith(_mark(count), 0, start):
        return None
    packed = np.frombuffer(header, np.uint8, offset=start).reshape(count, _TOLD_NBYTES)
    if not (packed[:, : len(_LEAD)] == _LEAD).all():
        return None
    numbers = packed[:, len(_LEAD) :].copy().view(_BIG_ENDIAN).astype(np.uint64)
    return header[: start - len(_mark(count))] + EMPTY, Versions(array("Q", numbers.tobytes()))
