"""Lists of versions alone, as pushes of many keys are answered: known by their bytes, and read by any reader."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_cases import U64, End

from akv.errors import AkvError, InvalidArgument
from akv_tcp import wire as w
from akv_tcp.wire import arrivals
from akv_tcp.wire.head import HEAD_SIZE, pack_head, read_head
from akv_tcp.wire.limits import MAX_HEADER
from akv_tcp.wire.memo import MEMO
from akv_tcp.wire.row import Row
from akv_tcp.wire.versions import MOST_TOLD, told

COUNTS = st.integers(2, 40) | st.sampled_from([MOST_TOLD, MOST_TOLD + 1, MOST_TOLD + 17, 2 * MOST_TOLD + 300])


def answer(versions: list[int]) -> w.Result:
    return w.Result(7, w.Versions(versions))


def one_by_one(versions: list[int]) -> tuple[w.Entry, ...]:
    return tuple([w.Entry(None, version=version) for version in versions])


def sent(message: w.Message) -> bytes:
    end = End(w.Side.SERVER)
    end.sender.put(message)
    return b"".join(end.sender.next_batch())


def came_of(data: bytes) -> list[Any]:
    """The messages, and how it ended."""
    found: list[Any] = []
    try:
        for event in End(w.Side.CLIENT).fed(data):
            found.append(event)
    except AkvError as error:
        found.append(type(error))
    return found


def headers(data: bytes) -> list[Any]:
    found = []
    while data:
        _, _, size, payload = read_head(memoryview(data), 0)
        assert size <= MAX_HEADER
        assert payload == 0
        found.append(msgpack.unpackb(data[HEAD_SIZE : HEAD_SIZE + size]))
        data = data[HEAD_SIZE + size :]
    return found


@given(COUNTS, st.lists(U64, min_size=1, max_size=20))
def test_they_arrive_as_they_are_and_anybody_can_read_them(count: int, some: list[int]) -> None:
    versions = [some[place % len(some)] for place in range(count)]
    data = sent(answer(versions))
    (message,) = came_of(data)
    assert isinstance(message, w.Result)
    assert message.entries == one_by_one(versions)
    assert w.versions_in(message.entries) == versions
    assert set(map(type, message.entries)) == {w.Entry}
    assert list(message.data) == [None] * count
    (first, total, entries), *more = headers(data)
    assert (first, total) == (count, 0)
    read = [tuple(entry) for part in [entries, *more] for entry in part]
    assert read == [(None, 0, 0, [], 0, 0, 0, 0, version) for version in versions]


@given(st.integers(2, 40), st.data())
def test_whatever_byte_is_changed_it_means_what_it_says(count: int, data: st.DataObject) -> None:
    """By law: with and without this way of reading, the same bytes come to the same."""
    frame = bytearray(sent(answer(list(range(count)))))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(HEAD_SIZE, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with pytest.MonkeyPatch.context() as patch:
        MEMO.clear()
        quick = came_of(bytes(frame))
        patch.setattr(arrivals, "told", lambda header: None)
        MEMO.clear()
        assert came_of(bytes(frame)) == quick


@given(st.lists(st.integers(0, 300), min_size=2, max_size=40))
def test_short_versions_are_read_as_well(versions: list[int]) -> None:
    """Another program packs them as short as msgpack allows."""
    entries = one_by_one(versions)
    header = msgpack.packb([len(entries), 0, entries])
    assert told(header) is None
    data = pack_head(64, 7, len(header), 0) + header
    assert came_of(data) == came_of(sent(answer(versions))) == came_of(sent(w.Result(7, entries)))


def test_they_are_told_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And drive nothing out of the memory of lists, since they never come again."""
    MEMO.clear()
    monkeypatch.setattr(Row, "check_entries", lambda row, raw: raw if raw == () else pytest.fail("it looks"))
    (message,) = came_of(sent(answer([1] * 500)))
    assert isinstance(message, w.Result)
    assert not MEMO.lists
    assert not MEMO.plans


@pytest.mark.parametrize("version", [-1, 2**64, 1.0])
def test_what_is_no_version_is_not_sent(version: Any) -> None:
    with pytest.raises((TypeError, OverflowError)):
        w.Versions([1] * 20 + [version])
    with pytest.raises(InvalidArgument):
        sent(w.Result(7, one_by_one([1] * 20 + [version])))


@given(st.lists(U64, min_size=1, max_size=40), st.data())
def test_they_are_a_sequence_of_entries(versions: list[int], data: st.DataObject) -> None:
    entries, same = w.Versions(versions), one_by_one(versions)
    place = data.draw(st.integers(-len(versions), len(versions) - 1))
    assert entries[place] == same[place]
    assert entries[place:] == same[place:]
    assert list(entries) == list(same)
    assert entries == w.Versions(versions) != w.Versions([*versions, 0])


@given(st.lists(U64, min_size=1, max_size=3000), st.lists(U64, min_size=1, max_size=3000))
def test_some_may_say_more(before: list[int], after: list[int]) -> None:
    """In other frames, say."""
    entries = (*one_by_one(before), w.Entry("k", version=1), *one_by_one(after))
    (message,) = came_of(sent(w.Result(7, entries)))
    assert isinstance(message, w.Result)
    assert message.entries == entries
