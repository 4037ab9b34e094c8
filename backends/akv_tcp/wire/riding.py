"""The entries and payloads of a message that arrives: what rides in each frame, and what that makes together."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, cast

from .buffers import Payload
from .entries import Entry
from .limits import INLINE
from .listing import Joined, Listing
from .memo import MEMO
from .versions import Entries, Versions

__all__ = ["Gathered", "ridden"]

_NO_KIND: Final = frozenset([0])
# What rides in several frames is joined, to be dealt with as one: more than this is better not copied once more.
_JOINED: Final = 1 << 20
# Frames of fewer entries are not worth remembering: of one entry each, a peer could have 1.2 KiB kept for each.
_FEW: Final = 64


def ridden(entries: Entries, view: memoryview) -> tuple[Sequence[Payload], list[int]]:
    """The bytes of each entry in the payload of its frame, and which entries have theirs still to come, in slices.

    Raises ValueError if more or fewer bytes ride than the entries announce.
    """
    if entries.riding != len(view):
        raise ValueError(f"{len(view)} bytes ride where the entries announce {entries.riding}")
    if entries.kinds <= _NO_KIND:
        return [None] * len(entries), []
    if isinstance(entries, Listing) and entries.joins:
        return Joined(entries, view), []
    data: list[Payload] = []
    later: list[int] = []
    start = 0
    for entry in entries:
        nbytes = entry.nbytes
        if nbytes >= INLINE:
            later.append(len(data))
            data.append(None)
        else:
            data.append(view[start : start + nbytes] if entry.kind else None)
            start += nbytes
    return data, later


class Gathered:
    """What has come with the frames of one message, in their order.

    Attributes:
        count: so many entries.
    """

    __slots__ = ("_few", "_parts", "count")

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[tuple[Entries, Sequence[Payload]]] = []
        # Of frames of few entries that follow each other, since the last part.
        self._few: tuple[list[Entry], list[Payload]] = [], []

    def add(self, entries: Entries, view: memoryview) -> list[int]:
        """Those of one frame; returns the places in the message of entries whose bytes are still to come.

        Raises ValueError as `ridden` does.
        """
        data, later = ridden(entries, view)
        if isinstance(entries, Listing) and len(entries) < _FEW:
            self._few[0].extend(entries)
            self._few[1].extend(data)
        else:
            self._close()
            self._parts.append((entries, data))
        first, self.count = self.count, self.count + len(entries)
        return [first + index for index in later]

    def together(self) -> tuple[Entries, Sequence[Payload]]:
        """All of them. Where bytes are still to come the payloads are a list."""
        self._close()
        parts, payloads = zip(*self._parts, strict=True)
        entries = _whole(parts)
        return entries, _joined(entries, payloads)

    def _close(self) -> None:
        entries, data = self._few
        if entries:
            self._parts.append((Listing(entries), data))
            self._few = [], []


def _whole(parts: Sequence[Entries]) -> Entries:
    listings = tuple([part for part in parts if isinstance(part, Listing)])
    if len(listings) == len(parts):
        return MEMO.whole(listings)
    versions = [part for part in parts if isinstance(part, Versions)]
    if len(versions) == len(parts):
        return Versions(array("Q", b"".join([part.numbers for part in versions])))
    return Listing(chain.from_iterable(parts))


def _joined(entries: Entries, payloads: Sequence[Sequence[Payload]]) -> Sequence[Payload]:
    if len(payloads) == 1:
        return payloads[0]
    if isinstance(entries, Listing) and entries.joins and entries.riding <= _JOINED:
        pieces = [[one.whole] if isinstance(one, Joined) else one for one in payloads]
        return Joined(entries, memoryview(b"".join(cast("Iterable[memoryview]", chain.from_iterable(pieces)))))
    return list(chain.from_iterable(payloads))
