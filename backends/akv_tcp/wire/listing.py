"""The entries of a message, and what follows from them: worked out once, however often the same list comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from operator import attrgetter, itemgetter
from typing import Final, cast, overload

from .buffers import Buffer, Payload
from .entries import Entry, Kind
from .limits import INLINE

__all__ = ["Joined", "Listing", "listing_of", "listing_of_one"]

_NONE: Final = int(Kind.NONE)
_DENSE: Final = int(Kind.DENSE)
_ALIKE: Final = slice(1, 4)  # kind, dtype, shape
# Shared, since a peer may send each entry in a frame of its own, and a set takes 216 bytes.
_SINGLE_KINDS: Final = {frozenset([int(kind)]): frozenset([int(kind)]) for kind in Kind}

_key = attrgetter("key")
_kind = attrgetter("kind")
_nbytes = attrgetter("nbytes")
_version = attrgetter("version")
_form = itemgetter(_ALIKE)


class Listing(tuple[Entry, ...]):  # noqa: SLOT001 - what was worked out is kept in its __dict__
    """Entries that are never changed. A trainer's come again with every step, and are then this very object.

    So nothing needs to look at each of them: to hash 500 takes 100 us, to add up their bytes 12.
    """

    @cached_property
    def keys(self) -> list[str | int]:
        """Those that are said."""
        return [key for key in map(_key, self) if key is not None]

    @cached_property
    def sizes(self) -> list[int]:
        """The bytes of each."""
        return list(map(_nbytes, self))

    @cached_property
    def nbytes(self) -> int:
        """Of all."""
        return sum(self.sizes)

    @cached_property
    def riding(self) -> int:
        """Of those whose bytes ride along."""
        return sum([size for size in self.sizes if size < INLINE])

    @cached_property
    def largest(self) -> int:
        """The most bytes of one."""
        return max(self.sizes, default=0)

    @cached_property
    def newest(self) -> int:
        """The highest version."""
        return max(map(_version, self), default=0)

    @cached_property
    def kinds(self) -> frozenset[int]:
        """All that there are."""
        kinds = frozenset(map(int, map(_kind, self)))
        return _SINGLE_KINDS.get(kinds, kinds)

    @cached_property
    def alike(self) -> Entry | None:
        """One of them, where all are dense, and of one dtype and shape; None where they differ."""
        if not self or self[0].kind != _DENSE or list(map(_form, self)).count(self[0][_ALIKE]) < len(self):
            return None
        return self[0]

    @cached_property
    def joins(self) -> bool:
        """Whether the bytes of all follow each other in the payload of their frame."""
        return _NONE not in self.kinds and self.largest < INLINE

    @cached_property
    def places(self) -> list[slice]:
        """Where they are there."""
        return [slice(start, stop) for start, stop in pairwise(accumulate(self.sizes, initial=0))]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()


@lru_cache(256)
def listing_of_one(entry: Entry) -> Listing:
    """A listing of one entry, which was checked: what follows takes longer to work out than all else."""
    return Listing((entry,))


def listing_of(entries: Sequence[Entry]) -> Listing:
    """The entries themselves, if they are one."""
    return entries if type(entries) is Listing else Listing(entries)


class Joined(Sequence[Payload]):
    """The payloads of a listing that follow each other in one piece of memory, which is cut where somebody asks.

    Attributes:
        whole: that memory.
    """

    __slots__ = ("listing", "whole")

    def __init__(self, listing: Listing, whole: Buffer) -> None:
        self.listing, self.whole = listing, whole

    def __len__(self) -> int:
        return len(self.listing)

    @overload
    def __getitem__(self, place: int) -> Payload: ...
    @overload
    def __getitem__(self, place: slice) -> list[Payload]: ...
    def __getitem__(self, place: int | slice) -> Payload | list[Payload]:
        places = self.listing.places[place]
        return list(map(self.whole.__getitem__, places)) if isinstance(places, list) else self.whole[places]

    def __iter__(self) -> Iterator[Payload]:
        return map(self.whole.__getitem__, self.listing.places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(cast("Sequence[Payload]", other))

    __hash__ = None  # type: ignore[assignment]
