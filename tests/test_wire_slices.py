"""Tensors that come in slices: a recv for each, straight into their memory, and nothing else is ever written to."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_cases import End, dense, pair, pattern, sent

from akv.errors import ProtocolError
from akv_tcp import wire as w
from akv_tcp.wire.frames import slice_lead
from akv_tcp.wire.header import pack_once
from akv_tcp.wire.incoming import Incoming
from akv_tcp.wire.limits import SLICE

MARGIN = 64
SMALL = 8192


class Guarded(End):
    """A server whose tensors have other memory before and behind them."""

    def __init__(self) -> None:
        super().__init__(w.Side.SERVER)
        self.decoder = w.Decoder(self.link, self.landing, self.reserve)
        self.around: list[np.ndarray] = []

    def landing(self, message: w.Message, entry: int, nbytes: int) -> memoryview:
        array = np.full(nbytes + 2 * MARGIN, 0xEE, np.uint8)
        self.around.append(array)
        return array.data[MARGIN:-MARGIN]

    def intact(self) -> bool:
        return all((array[:MARGIN] == 0xEE).all() and (array[-MARGIN:] == 0xEE).all() for array in self.around)


def client_of(slice_nbytes: int) -> End:
    client = End(w.Side.CLIENT)
    client.sender = w.Sender(client.link, slice_nbytes)
    return client


def push(request: int, *sizes: int) -> w.Push:
    entries = tuple(dense(f"w{place}", size) for place, size in enumerate(sizes))
    return w.Push(request, entries=entries, data=[pattern(size, place) for place, size in enumerate(sizes)])


def reads_of(end: End, stream: bytes) -> list[int]:
    """What each recv brings while all of a stream is there to be read."""
    reads: list[int] = []
    while stream:
        buffer = end.decoder.get_buffer()
        size = min(len(buffer), len(stream))
        buffer[:size] = stream[:size]
        end.decoder.buffer_updated(size)
        end.events()
        stream = stream[size:]
        reads.append(size)
    return reads


def test_a_recv_brings_a_slice_and_the_head_of_the_next() -> None:
    client, server = pair()
    count = 8
    for request in (1, 2):
        reads = reads_of(server, sent(client, push(request, count * SLICE)))
    assert len(reads) == count + 1  # the first is what comes with the head of the message, and is copied
    assert reads[0] < 32 * 1024
    assert reads[2:-1] == [len(slice_lead(pack_once, 2, 0, SLICE, SLICE)) + SLICE] * (count - 2)
    assert server.landed[1][2] == pattern(count * SLICE)


def test_small_messages_come_many_at_a_time_again_after_a_tensor() -> None:
    client, server = pair()
    server.feed(sent(client, push(1, 4 * SLICE)))
    beats = sent(client, w.Heartbeat(1, 1)) * 20_000
    assert len(reads_of(server, beats)) < len(beats) / 100_000


@given(
    st.lists(st.sampled_from([w.INLINE, w.INLINE + 100, 200_000]), min_size=1, max_size=3),
    st.sampled_from([64 * 100, SMALL, 65536, SLICE]),
    st.sets(st.integers(0, 30)),
    st.lists(st.integers(50, 70_000), min_size=1, max_size=20),
)
@settings(max_examples=60)
@example([w.INLINE], SMALL, set(range(20)), [1])
@example([200_000, w.INLINE + 100], 65536, {1, 2}, [70_000])
def test_whatever_comes_between_slices(sizes: list[int], nbytes: int, between: set[int], steps: list[int]) -> None:
    client, server = client_of(nbytes), Guarded()
    message = push(1, *sizes)
    client.sender.put(message)
    stream, number = b"", 0
    while batch := client.sender.next_batch(1):
        stream += b"".join(batch)
        if number in between and client.sender.waiting:
            client.sender.put(w.Heartbeat(number), w.URGENT)
        number += 1
    events: list[w.Event] = []
    position = 0
    while position < len(stream):
        step = steps[position % len(steps)]
        events += server.feed(stream[position : position + step])
        position += step
    got = events[-1]
    assert isinstance(got, w.Push)
    assert list(map(bytes, got.data)) == list(map(bytes, message.data))  # type: ignore[arg-type]
    beats = [event.ping for event in events if isinstance(event, w.Heartbeat)]
    assert beats == sorted(between & set(beats))
    assert len(events) == len(beats) + 1
    assert server.intact()


@given(st.integers(0, 160_000), st.sampled_from([1000, 1 << 20]))
def test_a_discarded_tensor_is_not_written_to(cut: int, step: int) -> None:
    client, server = client_of(SMALL), Guarded()
    stream = sent(client, push(1, 150_000), w.Keys(2))
    before = server.feed(stream[:cut], step)
    if not server.decoder.discard(1):
        return
    kept = [array.copy() for array in server.around]
    after = server.feed(stream[cut:], step)
    assert before + after == [w.Keys(2)]
    assert all(np.array_equal(array, copy) for array, copy in zip(server.around, kept, strict=True))
    assert server.decoder.reserved == 0


@pytest.mark.parametrize("nbytes", [100, SMALL, SMALL + 64])
def test_memory_that_was_offered_may_be_let_go_before_it_is_filled(nbytes: int) -> None:
    """And then the head of the next frame, which came there, is not lost."""
    client, server = client_of(SMALL), Guarded()
    stream = sent(client, push(1, 150_000), w.Keys(2))
    begun = stream.index(bytes(pattern(150_000)[SMALL : SMALL + 64]))
    server.feed(stream[:begun])
    buffer = server.decoder.get_buffer()
    size = min(nbytes, len(buffer))
    assert server.decoder.discard(1)
    buffer[:size] = stream[begun : begun + size]
    server.decoder.buffer_updated(size)
    assert server.events() + server.feed(stream[begun + size :]) == [w.Keys(2)]


# What is known by its bytes is what the long way would have taken.

FAULTS = st.sampled_from([0, 0, 0, 0, 0, 0, -64, -1, 1, 64, 100])


@given(
    st.lists(st.sampled_from([w.INLINE, w.INLINE + 100]), min_size=1, max_size=3),
    st.lists(st.tuples(st.sampled_from([64, 100, 4096, 65536, w.INLINE, SLICE]), FAULTS, FAULTS), max_size=9),
    st.sampled_from([1000, 1 << 20]),
)
@settings(max_examples=200)
@example([w.INLINE + 100, w.INLINE], [(65536, 0, 0), (65636, 0, 0), (65636, 0, 0)], 1 << 20)
def test_any_slices_end_as_on_the_long_way(sizes: list[int], cuts: list[tuple[int, int, int]], step: int) -> None:
    stream = sent(End(w.Side.CLIENT), push(1, *sizes))
    stream = stream[: stream.index(bytes(pattern(sizes[0])[:64])) - len(slice_lead(pack_once, 1, 0, 0, sizes[0]))]
    index = offset = 0
    for size, wrong, astray in cuts:
        left = sizes[index] - offset if index < len(sizes) else 64
        taken = min(size, left)
        said = max(0, taken + wrong)
        stream += slice_lead(pack_once, 1, index + (astray == 100), offset + (astray % 100), said) + bytes(said)
        offset += taken
        if taken == left:
            index, offset = index + 1, 0
    with patch.object(Incoming, "look_ahead", lambda incoming, pack: None):
        due = _outcome(stream, step)
    assert _outcome(stream, step) == due


def _outcome(stream: bytes, step: int) -> tuple[object, ...]:
    server = Guarded()
    try:
        events = server.feed(stream, step)
    except ProtocolError as error:
        return str(error), server.decoder.reserved
    finally:
        assert server.intact()
    return len(events), server.decoder.reserved, server.decoder.unread


def test_after_an_abort_no_slice_is_due() -> None:
    client, server = client_of(SMALL), Guarded()
    client.sender.put(push(1, 150_000))
    begun = b"".join(b"".join(client.sender.next_batch(1)) for _ in range(3))
    due = b"".join(client.sender.next_batch(1))
    assert client.sender.withdraw(1) is w.Withdrawn.CUT
    abort = b"".join(client.sender.next_batch())
    assert server.feed(begun + abort) == [w.Aborted(1, w.cost(1, 150_000))]
    with pytest.raises(ProtocolError, match="nothing is open"):
        server.feed(due)


def test_a_number_that_is_used_again_is_another_message() -> None:
    """What was expected of the message that was withdrawn is not taken for a slice of the new one."""
    client, server = client_of(SMALL), Guarded()
    client.sender.put(push(1, 150_000))
    begun = b"".join(b"".join(client.sender.next_batch(1)) for _ in range(3))
    assert client.sender.withdraw(1) is w.Withdrawn.CUT
    client.sender.put(push(1, 200_000))
    rest = b""
    while batch := client.sender.next_batch():
        rest += b"".join(batch)
    aborted, again = server.feed(begun + rest)
    assert aborted == w.Aborted(1, w.cost(1, 150_000))
    assert isinstance(again, w.Push)
    assert bytes(again.data[0]) == pattern(200_000)  # type: ignore[arg-type]
