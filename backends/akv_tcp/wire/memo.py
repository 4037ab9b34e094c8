"""Headers that were made or checked before, so that most are neither packed nor unpacked again.

What a program asks for, it asks for again and again: the headers of its messages of one entry differ in nothing but the
version at their very end. Such headers are packed with that version in nine bytes (`stem` + 0xCF + eight bytes, big-
endian), which any msgpack reader takes. A stem that this side would have packed itself is remembered with what it
means; whatever eight bytes come after it, they can be nothing but the version. The headers of messages of several
entries are remembered as they are: a trainer pushes and pulls the same list of keys at every step.

The memory is shared by all connections of the process, since a fact about bytes holds for all of them, and bounded: a
stranger can empty it, not fill it.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from .entries import Entry
from .listing import Listing
from .stems import UINT64, VERSION_NBYTES
from .versions import Entries

__all__ = ["MEMO", "MOST_FRAMES", "Announced", "Memo", "Plan", "PlannedFrame"]

# Longer ones are rare, and would let a stranger fill the memory with more than half a megabyte.
_MAX_STEM: Final = 256
_MOST: Final = 4096
# Each of up to 16 KiB, which say as much as some 0.4 MiB of objects.
_MOST_LISTS: Final = 64
# Each of up to four of those.
_MOST_WHOLES: Final = 16
MOST_FRAMES: Final = 4
"""Of a message whose plan is remembered: of one with 65,536 entries it would be 15 MB."""

PlannedFrame: TypeAlias = tuple[int, bytes, slice, int]
"""A frame of a message: type, header, which entries are in it, and how many bytes ride with them."""


class Plan(NamedTuple):
    """The frames of a message with entries, which bring `total` bytes."""

    total: int
    frames: list[PlannedFrame]


Announced: TypeAlias = tuple[tuple[object, ...], int, int, Entries]
"""What the header of a first frame says: fields, number of entries, bytes, and the entries that are in it."""

K = TypeVar("K")
V = TypeVar("V")


class Seen(dict[K, V]):
    """A dict of at most `most` items: what is learnt beyond that drives the oldest out.

    Not all at once: to free 64 lists of entries takes 12 ms.
    """

    __slots__ = ("most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def learn(self, key: K, value: V) -> None:
        """Remember."""
        if len(self) >= self.most:
            with suppress(KeyError, RuntimeError, StopIteration):  # another thread is at it, too
                del self[next(iter(self))]
        self[key] = value


class Memo:
    """Stems by what they mean, and what stems mean.

    Attributes:
        meanings: fields, and entry without version, by type and stem.
        plans: of whole messages of several entries, by type, fields and entries, as they were sent.
        lists: what the headers of such messages say, by type, whether they begin one, and bytes, as they have come.
        wholes: the entries of a message that came in several frames, by those of each.
    """

    __slots__ = ("_stems", "lists", "meanings", "plans", "wholes")

    def __init__(self) -> None:
        self._stems: Seen[tuple[object, ...], bytes] = Seen(_MOST)
        self.meanings: Seen[tuple[int, bytes], tuple[tuple[object, ...], tuple[Any, ...]]] = Seen(_MOST)
        self.plans: Seen[tuple[object, ...], Plan] = Seen(_MOST_LISTS)
        self.lists: Seen[tuple[int, bool, bytes], Announced] = Seen(_MOST_LISTS)
        self.wholes: Seen[tuple[Listing, ...], Listing] = Seen(_MOST_WHOLES)

    def clear(self) -> None:
        """Forget everything."""
        for seen in (self._stems, self.meanings, self.plans, self.lists, self.wholes):
            seen.clear()

    def whole(self, parts: tuple[Listing, ...]) -> Listing:
        """The entries of these parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        if len(parts) > MOST_FRAMES:
            return Listing(chain.from_iterable(parts))
        found = self.wholes.get(parts)
        if found is None:
            found = Listing(chain.from_iterable(parts))
            self.wholes.learn(parts, found)
        return found

    def stem(self, code: int, fields: tuple[object, ...], entry: Entry) -> bytes | None:
        """The stem of the header of such a message, if it was learnt."""
        return self._stems.get((code, fields, entry[:-1]))

    def meaning(self, code: int, header: bytes) -> tuple[tuple[object, ...], Entry] | None:
        """The fields and the entry of a header, if its stem was learnt."""
        known = self.meanings.get((code, header[:-VERSION_NBYTES]))
        if known is None or header[-VERSION_NBYTES] != UINT64:
            return None
        fields, rest = known
        entry: Entry = tuple.__new__(Entry, (*rest, int.from_bytes(header[1 - VERSION_NBYTES :], "big")))
        return fields, entry

    def learn(self, code: int, stem: bytes, fields: tuple[object, ...], entry: Entry) -> None:
        """A message of type `code` with these fields, which were checked, and this one entry has this stem."""
        if len(stem) <= _MAX_STEM:
            rest = tuple(entry[:-1])
            self._stems.learn((code, fields, rest), stem)
            self.meanings.learn((code, stem), (fields, rest))


MEMO: Final = Memo()
