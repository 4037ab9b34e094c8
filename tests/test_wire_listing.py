"""Lists of entries, what follows from them, and payloads in one piece: by law the same as one after the other."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_cases import KEYS, End, dense, joined, pattern, payloads, sent

from akv_tcp import wire as w
from akv_tcp.wire.head import pack_head
from akv_tcp.wire.limits import INLINE
from akv_tcp.wire.memo import MEMO, MOST_FRAMES
from akv_tcp.wire.riding import ridden

ENTRIES = st.lists(payloads(set(w.Kind), KEYS | st.none()).map(lambda pair: pair[0]), max_size=6)
LARGE = dense("large", INLINE)


@given(ENTRIES, st.booleans())
def test_what_follows_is_what_each_says(entries: list[w.Entry], large: bool) -> None:
    entries = [*entries, LARGE] if large else entries
    listing = w.Listing(entries)
    assert listing == tuple(entries)
    assert hash(listing) == hash(tuple(entries))
    assert w.listing_of(listing) is listing
    assert listing.keys == [entry.key for entry in entries if entry.key is not None]
    assert listing.nbytes == sum(entry.nbytes for entry in entries)
    assert listing.riding == sum(entry.nbytes for entry in entries if entry.nbytes < INLINE)
    assert listing.largest == max([0, *[entry.nbytes for entry in entries]])
    assert listing.newest == max([0, *[entry.version for entry in entries]])
    assert listing.kinds == {entry.kind for entry in entries} == w.kinds_of(entries)
    assert w.versions_in(listing) == [entry.version for entry in entries]
    assert w.cost_of(w.Push(1, entries=listing)) == w.cost_of(w.Push(1, entries=tuple(entries)))


@given(st.integers(1, 5), st.integers(0, 9), st.data())
def test_alike_are_those_of_one_form(count: int, nbytes: int, data: st.DataObject) -> None:
    entries = [dense(place, nbytes, version=place) for place in range(count)]
    assert w.Listing(entries).alike is entries[0]
    place = data.draw(st.integers(0, count - 1))
    other = {"kind": int(w.Kind.CODED), "dtype": int(w.DType.INT8), "shape": (1, nbytes)}
    name = data.draw(st.sampled_from(sorted(other)))
    entries[place] = entries[place]._replace(**{name: other[name]})
    alike = w.Listing(entries).alike
    assert alike is (entries[0] if count == 1 and name != "kind" else None)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.data())
def test_payloads_in_one_piece_are_those_one_after_the_other(sizes: list[int], data: st.DataObject) -> None:
    listing = w.Listing([dense(place, size) for place, size in enumerate(sizes)])
    whole = pattern(sum(sizes))
    same, start = [], 0
    for size in sizes:
        same.append(bytes(whole[start : start + size]))
        start += size
    pieces, later = ridden(listing, whole)
    assert isinstance(pieces, w.Joined)
    assert not later
    assert list(map(bytes, pieces)) == same  # type: ignore[arg-type]
    assert pieces == same == w.Joined(listing, bytes(whole))
    place = data.draw(st.integers(-len(sizes), len(sizes) - 1))
    assert pieces[place] == same[place]
    assert list(map(bytes, pieces[place:])) == same[place:]  # type: ignore[arg-type]
    assert len(pieces) == len(sizes)
    with pytest.raises(ValueError, match="ride"):
        ridden(listing, memoryview(bytes(whole) + b"x"))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(0, 300))
def test_they_are_sent_as_if_they_came_one_by_one(sizes: list[int], more: int) -> None:
    """In frames as many as it takes, and only what is said of the same entries in one piece."""
    entries = tuple([dense(f"{place}{'x' * 1000}", size) for place, size in enumerate(sizes * (1 + more // 50))])
    listing, whole = w.Listing(entries), bytes(pattern(sum(entry.nbytes for entry in entries)))
    pieces = w.Joined(listing, whole)
    frames = [
        sent(End(w.Side.CLIENT), w.Push(1, 0, None, said, pieces if data is None else data))
        for said, data in ((listing, None), (listing, list(pieces)), (entries, None), (entries, tuple(pieces)))
    ]
    assert len(set(frames)) == 1
    (message,) = End(w.Side.SERVER).feed(frames[0])
    assert isinstance(message, w.Push)
    assert message.entries == entries
    assert list(map(joined, message.data)) == list(map(bytes, pieces))  # type: ignore[arg-type]


def test_what_came_in_several_frames_is_the_same_list_when_it_comes_again() -> None:
    """Then nothing needs to look at each entry; and a stranger cannot fill the memory with them."""
    MEMO.clear()

    def came(count: int, first: int = 0) -> Any:
        entries = tuple([dense(place, 64) for place in range(first, first + count)])
        data = sent(End(w.Side.CLIENT), w.Push(1, 0, None, entries, [bytes(64)] * count))
        (message,) = End(w.Side.SERVER).feed(data)
        assert message.entries == entries  # type: ignore[union-attr]
        return message

    for count in (100, 2000):
        message = came(count)
        assert isinstance(message.data, w.Joined)
        assert message.data.listing is message.entries
        assert came(count).entries is message.entries
    for first in range(100):
        came(1000, first)
        assert len(MEMO.wholes) <= 16
    kept = len(MEMO.wholes)
    came(2000 * MOST_FRAMES)
    assert len(MEMO.wholes) == kept


def framed(parts: list[list[w.Entry]]) -> bytes:
    """A push of these entries, cut like that: as another program may."""
    entries = [entry for part in parts for entry in part]
    frames, lead = b"", [0, None, len(entries), sum(entry.nbytes for entry in entries)]
    for code, part in zip([17, *[126] * len(parts)], parts, strict=False):
        packed = msgpack.packb([*lead, part] if code == 17 else part)
        payload = b"".join([bytes(pattern(entry.nbytes, entry.number)) for entry in part])
        frames += pack_head(code, 1, len(packed), len(payload)) + packed + payload
    return frames


@given(st.lists(st.sampled_from([1, 2, 63, 64, 65, 100]), min_size=1, max_size=6), st.integers(0, 40))
def test_however_entries_are_cut_it_is_the_same_message(counts: list[int], nbytes: int) -> None:
    numbers = iter(range(1000))
    parts = [[dense(f"k{number}", nbytes, number=number) for number in islice(numbers, count)] for count in counts]
    entries = tuple([entry for part in parts for entry in part])
    for _ in range(2):
        (message,) = End(w.Side.SERVER).feed(framed(parts))
        assert isinstance(message, w.Push)
        assert message.entries == entries
        assert list(map(joined, message.data)) == [bytes(pattern(nbytes, entry.number)) for entry in entries]


def test_frames_of_one_entry_take_no_more_than_they_are_charged() -> None:
    count = 3000
    data = framed([[dense(number, 8, number=number)] for number in range(count)])
    end = End(w.Side.SERVER)
    end.feed(data)
    tracemalloc.start()
    (message,) = end.feed(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(message, w.Push)
    assert peak < w.cost_of(message)
