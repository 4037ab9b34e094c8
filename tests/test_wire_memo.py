"""Headers that were seen before: they mean what they meant, whatever version follows, and nobody can make them lie."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_cases import End

from akv.errors import AkvError, InvalidArgument, ProtocolError
from akv_tcp import wire as w
from akv_tcp.wire import memo
from akv_tcp.wire.head import HEAD_SIZE, pack_head
from akv_tcp.wire.limits import INLINE
from akv_tcp.wire.memo import MEMO

ENTRIES = st.builds(
    lambda key, dtype, shape, version: w.Entry(key, w.Kind.NONE, dtype, shape, 0, 0, 0, 0, version),
    st.one_of(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1)),
    st.sampled_from([0, 1, 11]),
    st.lists(st.sampled_from([0, 1, 2, 207, 1023]), max_size=5).map(tuple),
    st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1)),
)


@pytest.fixture(autouse=True)
def _cold() -> None:
    MEMO.clear()


def link(side: w.Side) -> w.Link:
    link = w.Link(side)
    link.phase = w.Phase.OPEN
    return link


def sent(message: w.Message, side: w.Side = w.Side.CLIENT) -> bytes:
    sender = w.Sender(link(side))
    sender.put(message)
    return b"".join(sender.next_batch())


def received(data: bytes, side: w.Side = w.Side.SERVER, **limits: int) -> list[w.Event]:
    return End(side, limits=w.Limits(**limits)).feed(data)


def frame(code: int, request: int, header: Any, payload: bytes = b"") -> bytes:
    packed = msgpack.packb(header)
    return pack_head(code, request, len(packed), len(payload)) + packed + payload


@given(st.lists(ENTRIES, min_size=1, max_size=8))
def test_warm_or_cold_it_is_the_same(entries: list[w.Entry]) -> None:
    """By law: what is sent and received does not depend on what was before."""
    messages = [w.Pull(number + 1, 3, None, False, (entry,)) for number, entry in enumerate(entries)]
    cold = []
    for message in messages:
        MEMO.clear()
        cold.append(sent(message))
    warm = [sent(message) for message in messages for _ in range(2)]
    assert warm == [data for data in cold for _ in range(2)]
    for data, message in zip(cold, messages, strict=True):
        for _ in range(2):
            (event,) = received(data)
            assert isinstance(event, w.Pull)
            assert event.entries == message.entries
            assert (event.request, event.priority) == (message.request, 3)


@given(ENTRIES, ENTRIES)
def test_short_versions_are_read_as_well(first: w.Entry, second: w.Entry) -> None:
    """Another program packs versions as short as msgpack allows, while this one's headers are remembered."""
    for entry in (first, second, first._replace(version=second.version)):
        sent(w.Pull(1, 0, None, False, (entry,)))
        (event,) = received(frame(18, 7, [0, None, False, 1, 0, [list(entry)]]))
        assert isinstance(event, w.Pull)
        assert event.entries == (entry,)


def test_a_header_that_only_looks_like_it_is_not_remembered() -> None:
    """A shape of (207, 0, 0, 0) and a version of one byte end in CF and eight bytes, too."""
    entry = w.Entry("k", w.Kind.NONE, 11, (207, 0, 0, 0), 0, 0, 0, 0, 5)
    packed = msgpack.packb([0, None, False, 1, 0, [list(entry)]])
    assert packed[-9] == 0xCF
    data = pack_head(18, 7, len(packed), 0) + packed
    for _ in range(2):
        (event,) = received(data)
        assert isinstance(event, w.Pull)
        assert event.entries == (entry,)
    assert MEMO.meaning(18, packed) is None


def test_it_counts_for_its_own_message_only() -> None:
    sent(w.Wait(1, 0, None, (w.Entry("k", version=3),)))
    (event,) = received(sent(w.Delete(1, 0, None, (w.Entry("k", version=3),))))
    assert type(event) is w.Delete


def test_limits_hold_for_what_is_remembered() -> None:
    array = np.ones(INLINE, np.uint8)
    entry = w.Entry("k", w.Kind.DENSE, int(w.DType.UINT8), array.shape, 0, array.nbytes)
    data = sent(w.Push(1, 0, None, (entry,), (w.array_bytes(array),)))
    received(data)
    with pytest.raises(ProtocolError, match="more than"):
        received(data, message=INLINE - 1)
    sender = w.Sender(link(w.Side.CLIENT))
    sender.limits = w.Limits(message=INLINE - 1)
    with pytest.raises(InvalidArgument, match="Split it"):
        sender.put(w.Push(1, 0, None, (entry,), (w.array_bytes(array),)))


@given(st.integers(0, HEAD_SIZE + 60), st.integers(0, 255))
def test_a_changed_byte_is_noticed_or_means_something_else(position: int, value: int) -> None:
    """Warm or cold, the same bytes come to the same end."""
    MEMO.clear()
    data = bytearray(sent(w.Pull(1, 0, None, False, (w.Entry("key", version=9),))))
    data[position % len(data)] = value

    def end() -> object:
        try:
            return [(type(event), event) for event in received(bytes(data))]
        except AkvError as error:
            return type(error), str(error)

    warm = end()
    MEMO.clear()
    assert end() == warm


def test_strangers_cannot_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_MOST", 100)
    monkeypatch.setattr("akv_tcp.wire.memo.MEMO", bounded := memo.Memo())
    for module in ("encoder", "arrivals", "plans", "riding"):
        monkeypatch.setattr(f"akv_tcp.wire.{module}.MEMO", bounded)
    for number in range(1000):
        sent(w.Pull(1, 0, None, False, (w.Entry(f"k{number}"),)))
        sent(w.Pull(1, 0, None, False, (w.Entry("x" * 300 + str(number)),)))
        sent(w.Pull(1, 0, None, False, (w.Entry(f"k{number}"), w.Entry("l"))))
        received(sent(w.Pull(1, 0, None, False, (w.Entry(f"k{number}"), w.Entry("m")))))
        assert max(map(len, (bounded._stems, bounded.meanings, bounded.plans, bounded.lists, bounded.wholes))) <= 100
