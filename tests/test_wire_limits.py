"""Hostile bytes cost at most the limits: one ProtocolError, no memory that was not reserved, nothing else."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_cases import End, dense, pair, pattern, sent

from akv.errors import InvalidArgument, ProtocolError, QueueFull, ShapeMismatch
from akv_tcp import wire as w
from akv_tcp.wire.head import HEAD_SIZE, MAGIC, pack_head
from akv_tcp.wire.limits import GREETING_HEADER, MAX_HEADER
from akv_tcp.wire.table import DATA, MORE

GIB = 1 << 30
PUSH, PULL, HEARTBEAT = 17, 18, 81


def frame(code: int, request: int, header: object, payload: bytes = b"", nbytes: int | None = None) -> bytes:
    """A frame as a peer of any mind would make it."""
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    return pack_head(code, request, len(packed), len(payload) if nbytes is None else nbytes) + packed + payload


def push(*entries: list[object], count: object = None, total: object = None, payload: bytes = b"") -> bytes:
    count = len(entries) if count is None else count
    total = sum(entry[5] for entry in entries if isinstance(entry[5], int)) if total is None else total
    return frame(PUSH, 1, [0, None, count, total, entries], payload)


def entry(**changes: object) -> list[object]:
    fields: dict[str, object] = dict(zip(w.Entry._fields, w.Entry("w", 1, 6, (4,), 0, 4), strict=True))
    return list((fields | changes).values())


def server(**options: Any) -> End:
    return End(w.Side.SERVER, **options)


def test_the_frame_of_these_tests_is_one() -> None:
    [message] = server().feed(push(entry(), payload=b"abcd"))
    assert isinstance(message, w.Push)
    assert bytes(message.data[0]) == b"abcd"


HEADS = {
    "another magic": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "another version": frame(HEARTBEAT, 0, [1, 1]).replace(b"\xab\x56\x01", b"\xab\x56\x02", 1),
    "an unknown type": frame(120, 1, []),
    "a type of the other side": frame(64, 1, [0, 0, []]),
    "a type of the handshake": frame(1, 0, []),
    "a long header": pack_head(PUSH, 1, MAX_HEADER + 1, 0),
    "no request": frame(PUSH, 0, [0, None, 0, 0, []]),
    "a request where none belongs": frame(HEARTBEAT, 1, [1, 1]),
    "a payload where none belongs": frame(HEARTBEAT, 0, [1, 1], b"x"),
    "more of nothing": frame(MORE, 1, [entry()]),
    "a slice of nothing": frame(DATA, 1, [0, 0], b"x"),
    "an abort of nothing": frame(80, 1, []),
}


@pytest.mark.parametrize("stream", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_bad_head_is_a_protocol_error(stream: bytes, step: int) -> None:
    with pytest.raises(ProtocolError):
        server().feed(stream, step)


HEADERS: dict[str, object] = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "cut off": b"\x95\x00",
    "two values": b"\x90\x90",
    "no list": 5,
    "a map": {},
    "a timestamp": b"\xd6\xff\0\0\0\0",
    "an empty extension": b"\xc7\x00\x05",
    "an extension in a list": b"\x91\xc7\x00\x05",
    "an array bomb": b"\xdd\xff\xff\xff\xff",
    "a text bomb": b"\xdb\xff\xff\xff\xff",
    "a bin bomb": b"\xc6\xff\xff\xff\xff",
    "a map bomb": b"\xdf\xff\xff\xff\xff",
    "deep lists": b"\x91" * 5000 + b"\x90",
    "lists as deep as msgpack goes": b"\x91" * 1000 + b"\x90",
    "a deep list for a field": b"\x95" + b"\x91" * 900 + b"\x90" + b"\xc0\x00\x00\x90",
    "a deep list for an entry": b"\x95\x00\xc0\x01\x00" + b"\x91" * 900 + b"\x90",
    "bad UTF-8": [0, None, 1, 0, [entry(key=b"\xff")]],
    "too few fields": [0, None, 0, 0],
    "too many fields": [0, None, 0, 0, [], 0],
    "a priority of text": ["0", None, 0, 0, []],
    "a priority of 65 bits": [2**63, None, 0, 0, []],
    "a timeout before now": [0, -1.0, 0, 0, []],
    "a timeout that is none": [0, float("nan"), 0, 0, []],
    "endless": [0, float("inf"), 0, 0, []],
    "entries that are no list": [0, None, 0, 0, 7],
    "fewer entries than none": [0, None, -1, 0, []],
    "entries by half": [0, None, 1.0, 4, [entry()]],
    "true entries": [0, None, True, 4, [entry()]],
    "no entry of one": [0, None, 1, 0, []],
    "an entry of none": [0, None, 0, 0, [entry(nbytes=0, shape=[0])]],
    "less than no bytes": [0, None, 0, -1, []],
    "bytes of nothing": [0, None, 0, 4, []],
    "more entries than allowed": [0, None, 16 * 1024 + 1, 0, []],
    "more bytes than allowed": [0, None, 1, (1 << 40) + 1, [entry(nbytes=(1 << 40) + 1, shape=[(1 << 40) + 1])]],
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_bad_header_is_a_protocol_error(header: object) -> None:
    with pytest.raises(ProtocolError):
        server().feed(frame(PUSH, 1, header))


ENTRIES: dict[str, dict[str, object]] = {
    "no key": {"key": None},
    "a float for a key": {"key": 1.5},
    "true for a key": {"key": True},
    "bytes for a key": {"key": b"w"},
    "a key of 65 bits": {"key": 2**63},
    "a long key": {"key": "k" * 1025},
    "a long key of wide characters": {"key": "ä" * 513},
    "an unknown kind": {"kind": 4},
    "a kind that pushes do not have": {"kind": 0, "nbytes": 0},
    "a kind by half": {"kind": 1.0},
    "true for a kind": {"kind": True},
    "text for a dtype": {"dtype": "f4"},
    "an unknown dtype": {"dtype": 20},
    "a negative dtype": {"dtype": -1},
    "no dtype": {"dtype": 0, "nbytes": 0},
    "true for a dtype": {"dtype": True},
    "a float for a dtype": {"dtype": 6.0},
    "a negative dimension": {"shape": [-4]},
    "two negative dimensions": {"shape": [-2, -2]},
    "a dimension by half": {"shape": [4.0]},
    "true for a dimension": {"shape": [True, 4]},
    "text for a shape": {"shape": "\x04"},
    "33 dimensions": {"shape": [1] * 32 + [4]},
    "a product that numpy would call 0": {"shape": [2**32, 2**32], "nbytes": 0},
    "a shape that numpy cannot make": {"shape": [0, 2**63], "nbytes": 0},
    "fewer bytes than elements": {"nbytes": 3},
    "more bytes than elements": {"nbytes": 5},
    "bytes by half": {"nbytes": 4.0},
    "bytes below zero": {"nbytes": -4, "shape": [-4]},
    "rows of a dense tensor": {"rows": 1},
    "more rows than the table": {"kind": 2, "shape": [4, 0], "rows": 5, "nbytes": 40},
    "rows of a scalar": {"kind": 2, "shape": [], "rows": 0, "nbytes": 0},
    "true for a number": {"number": True},
    "a negative number": {"number": -1},
    "a version of text": {"version": "1"},
    "a negative version": {"version": -1},
}


@pytest.mark.parametrize("changes", ENTRIES.values(), ids=ENTRIES)
def test_a_bad_entry_is_a_protocol_error(changes: dict[str, object]) -> None:
    nbytes = changes.get("nbytes", 4)
    payload = bytes(nbytes if isinstance(nbytes, int) and nbytes >= 0 else 4)
    with pytest.raises(ProtocolError, match=r"request 1: (an entry|a key|the key|a dimension|a shape|rows, nbytes)"):
        server().feed(push(entry(**changes), total=len(payload), payload=payload))


def test_an_entry_of_another_length_is_a_protocol_error() -> None:
    for raw in (entry()[:-1], [*entry(), 0], 5, "wwwwwwwww", None):
        with pytest.raises(ProtocolError):
            server().feed(frame(PUSH, 1, [0, None, 1, 4, [raw]], b"abcd"))


@pytest.mark.parametrize(("total", "payload"), [(4, b"abc"), (4, b"abcde"), (3, b"abcd"), (5, b"abcde"), (0, b"")])
def test_bytes_that_do_not_add_up_are_a_protocol_error(total: int, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        server().feed(push(entry(), total=total, payload=payload) + b"\0" * 100)


@pytest.mark.parametrize("header", [[], [1], [1, 2, 3]])
def test_a_message_without_entries_has_its_fields_and_no_more(header: list[int]) -> None:
    with pytest.raises(ProtocolError, match="header fields"):
        server().feed(frame(HEARTBEAT, 0, header))


def test_entries_may_not_bring_more_than_was_reserved() -> None:
    huge = entry(shape=[60_000], nbytes=60_000)
    stream = push(huge, count=2, total=10)[:10] + (60_000).to_bytes(8, "little") + push(huge, count=2, total=10)[18:]
    assert peak_of(server(), stream + b"x") < 40_000
    with pytest.raises(ProtocolError, match="as were announced"):
        server().feed(stream)


def test_entries_must_bring_all_that_was_announced() -> None:
    end = server()
    end.feed(push(entry(), count=2, total=9, payload=b"abcd"))
    with pytest.raises(ProtocolError, match="as were announced"):
        end.feed(frame(MORE, 1, [entry()], b"abcd"))


@pytest.mark.parametrize("limits", [w.Limits(entries=1), w.Limits(message=7)])
def test_a_message_within_all_but_the_limits_is_a_protocol_error(limits: w.Limits) -> None:
    stream = push(entry(), entry(), payload=b"abcdefgh")
    assert server().feed(stream)
    with pytest.raises(ProtocolError, match="more than"):
        server(limits=limits).feed(stream)


def test_a_slice_may_not_reach_into_the_next_entry() -> None:
    end = server()
    large = entry(shape=[w.INLINE], nbytes=w.INLINE)
    end.feed(push(large, large))
    with pytest.raises(ProtocolError, match="a slice ends at"):
        end.feed(frame(DATA, 1, [0, 0], bytes(w.INLINE + 64)))


def test_a_refused_message_keeps_to_its_length_too() -> None:
    end = server()
    end.refuse = ShapeMismatch("no")
    end.feed(push(entry(shape=[2 * w.INLINE], nbytes=2 * w.INLINE)) + frame(DATA, 1, [0, 0], bytes(w.INLINE)))
    with pytest.raises(ProtocolError, match="were due"):
        end.feed(frame(DATA, 1, [0, w.INLINE], bytes(w.INLINE + 64)))


def test_a_large_tensor_may_not_hide_in_a_small_frame() -> None:
    small, large = entry(), entry(shape=[w.INLINE], nbytes=w.INLINE)
    with pytest.raises(ProtocolError):
        server().feed(push(small, large, total=4, payload=b"abcd"))
    with pytest.raises(ProtocolError):
        server().feed(push(large, payload=bytes(w.INLINE)))


INDICES = st.sampled_from([0, 1, -1, 0.0, False])
OFFSETS = st.sampled_from([w.INLINE, 0, w.INLINE - 64, w.INLINE + 64, float(w.INLINE), -1])
SIZES = st.sampled_from([64, 1, 0, 100, 2 * w.INLINE, 2 * w.INLINE + 64])


@given(INDICES, OFFSETS, SIZES)
def test_slices_come_in_order_or_not_at_all(index: float, offset: float, size: int) -> None:
    nbytes = 3 * w.INLINE
    end = server()
    end.feed(push(entry(shape=[nbytes], nbytes=nbytes), total=nbytes))
    end.feed(frame(DATA, 1, [0, 0], bytes(w.INLINE)))
    good = type(index) is type(offset) is int and (index, offset) == (0, w.INLINE) and size in (64, 2 * w.INLINE)
    if good:
        assert bool(end.feed(frame(DATA, 1, [index, offset], bytes(size)))) is (size == 2 * w.INLINE)
    else:
        with pytest.raises(ProtocolError):
            end.feed(frame(DATA, 1, [index, offset], bytes(size)))


def test_more_entries_than_announced_are_a_protocol_error() -> None:
    end = server()
    end.feed(push(entry(), count=3, total=12, payload=b"abcd"))
    with pytest.raises(ProtocolError):
        end.feed(frame(MORE, 1, [entry()] * 3, b"abcd" * 3))


def test_a_frame_without_entries_is_a_protocol_error() -> None:
    end = server()
    end.feed(push(entry(), count=3, total=12, payload=b"abcd"))
    with pytest.raises(ProtocolError):
        end.feed(frame(MORE, 1, []))


def test_a_slice_before_all_entries_is_a_protocol_error() -> None:
    end = server()
    large = entry(shape=[w.INLINE], nbytes=w.INLINE)
    end.feed(push(large, count=2, total=2 * w.INLINE))
    with pytest.raises(ProtocolError):
        end.feed(frame(DATA, 1, [0, 0], bytes(w.INLINE)))


def test_a_request_cannot_begin_twice() -> None:
    end = server()
    half = push(entry(), count=2, total=8, payload=b"abcd")
    end.feed(half)
    with pytest.raises(ProtocolError):
        end.feed(half)


def test_after_an_error_nothing_more_is_read() -> None:
    end = server()
    with pytest.raises(ProtocolError):
        end.feed(frame(120, 1, []))
    assert end.feed(push(entry(), payload=b"abcd") * 2000) == []


# Memory.


def peak_of(end: End, stream: bytes) -> int:
    tracemalloc.start()
    try:
        end.feed(stream)
        return tracemalloc.get_traced_memory()[1]
    except ProtocolError:
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_announcing_a_gibibyte_allocates_nothing() -> None:
    end = server(budget=GIB // 2)
    stream = push(entry(shape=[GIB], nbytes=GIB)) + frame(DATA, 1, [0, 0], b"x" * 100, nbytes=GIB)
    assert peak_of(end, stream) < 100_000
    assert end.decoder.blocked
    assert end.landed == []
    assert end.decoder.reserved == 0


def test_small_tensors_are_reserved_before_they_are_allocated() -> None:
    many = [entry(key=index, shape=[60_000], nbytes=60_000) for index in range(300)]
    end = server(budget=10_000_000)
    head = pack_head(PUSH, 1, len(header := msgpack.packb([0, None, 300, 18_000_000, many])), 18_000_000) + header
    assert peak_of(end, head + b"x") < 1_000_000
    assert end.decoder.blocked
    end.budget = 1 << 40
    assert end.events() == []
    assert end.decoder.reserved == w.cost(300, 18_000_000)


BOMBS = {
    "empty lists": msgpack.packb([[]] * (MAX_HEADER - 5)),
    "lists in lists": msgpack.packb([[[]]] * (MAX_HEADER // 2 - 5)),
    "floats": msgpack.packb([1.5] * (MAX_HEADER // 9 - 5)),
    "small texts": msgpack.packb([chr(40 + i % 80) * 2 for i in range(MAX_HEADER // 3 - 5)]),
    "wide texts": msgpack.packb(["\U0001f600a"] * (MAX_HEADER // 6 - 5)),
    "shapes": msgpack.packb([0, None, 90, 0, [entry(shape=[300] * 32, nbytes=0)] * 90]),
}


@pytest.mark.parametrize("header", BOMBS.values(), ids=BOMBS)
def test_a_header_unpacks_to_less_than_a_megabyte(header: bytes) -> None:
    assert len(header) <= MAX_HEADER
    assert peak_of(server(), frame(PUSH, 1, header)) < 1_000_000


@given(st.integers(1, 250))
def test_the_cost_of_entries_is_what_they_take(count: int) -> None:
    entries = [entry(key=f"layer{index}.weight", shape=[1000, 10**6, 0], nbytes=0) for index in range(count)]
    stream = push(*entries, total=0)
    end = server()
    tracemalloc.start()
    events = end.feed(stream)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < w.cost(count, 0) + 20_000
    del events


# The budget.


def test_what_is_reserved_is_known_until_somebody_has_it() -> None:
    end = server(budget=1_000_000)
    stream = push(entry(shape=[w.INLINE], nbytes=w.INLINE)) + frame(DATA, 1, [0, 0], bytes(w.INLINE))
    cost = w.cost(1, w.INLINE)
    end.feed(stream[:-1])
    assert (end.budget, end.decoder.reserved) == (1_000_000 - cost, cost)
    [message] = end.feed(stream[-1:])
    assert (end.budget, end.decoder.reserved) == (1_000_000 - cost, 0)
    assert isinstance(message, w.Push)
    assert w.cost_of(message) == cost


def test_a_blocked_decoder_goes_on_where_it_stopped() -> None:
    end = server(budget=0)
    stream = push(entry(), payload=b"abcd") + frame(HEARTBEAT, 0, [1, 2])
    assert end.feed(stream) == []
    assert end.decoder.blocked
    end.budget = 5000
    message, beat = end.events()
    assert isinstance(message, w.Push)
    assert beat == w.Heartbeat(1, 2)
    assert not end.decoder.blocked


def test_reading_on_while_blocked_ends_in_an_error_of_this_side() -> None:
    end = server(budget=0)
    with pytest.raises(InvalidArgument, match="pause reading"):
        end.feed(push(entry(), payload=b"abcd") * 8000)


def test_a_message_that_reserve_refuses_is_dropped_alone() -> None:
    end = server()
    end.decoder = w.Decoder(end.link, end.landing, refusing(QueueFull("full")))
    large = entry(shape=[2 * w.INLINE], nbytes=2 * w.INLINE)
    stream = push(entry(), large, count=3, total=2 * w.INLINE + 8, payload=b"abcd")
    stream += frame(MORE, 1, [entry()], b"abcd") + frame(DATA, 1, [1, 0], bytes(2 * w.INLINE))
    stream += frame(HEARTBEAT, 0, [1, 2])
    for step in (1 << 20, 999):
        refused, beat = end.feed(stream, step)
        assert isinstance(refused, w.Refused)
        assert (refused.request, refused.reserved, str(refused.error)) == (1, 0, "full")
        assert beat == w.Heartbeat(1, 2)
        assert (end.decoder.reserved, end.landed) == (0, [])


def test_nothing_is_allocated_for_a_message_that_reserve_refuses() -> None:
    many = [entry(key=index, shape=[60_000], nbytes=60_000) for index in range(100)]
    stream = push(*many)
    end = server()
    end.decoder = w.Decoder(end.link, end.landing, refusing(QueueFull("full")))
    announced = pack_head(PUSH, 1, len(stream) - HEAD_SIZE, 6_000_000) + stream[HEAD_SIZE:]
    assert peak_of(end, announced + b"x") < 1_000_000


def refusing(error: Exception) -> Any:
    def reserve(nbytes: int) -> bool:
        raise error

    return reserve


@pytest.mark.parametrize("step", [999, 1 << 20])
def test_a_message_that_landing_refuses_is_dropped_alone(step: int) -> None:
    client, end = pair(budget=1 << 30)
    end.refuse = ShapeMismatch("no")
    entries = (dense("a", 8), dense("b", 700_000), dense("c", 100_000))
    stream = sent(client, w.Push(1, entries=entries, data=[pattern(entry.nbytes) for entry in entries]), w.Keys(2))
    refused, after = end.feed(stream, step)
    assert isinstance(refused, w.Refused)
    assert refused.error is end.refuse
    assert refused.reserved == w.cost(3, 800_008)
    assert after == w.Keys(2)
    assert end.decoder.reserved == 0


@given(st.integers(0, 200_000))
def test_discarding_lets_go_of_the_memory_and_of_nothing_else(cut: int) -> None:
    client, end = pair(budget=1 << 30)
    message = w.Push(1, entries=(dense("w", 150_000),), data=(pattern(150_000),))
    stream = sent(client, message, w.Keys(2))
    cut = min(cut, len(stream))
    before = end.feed(stream[:cut])
    released = end.decoder.discard(1)
    kept = [bytes(memory) for _, _, memory in end.landed]
    after = end.feed(stream[cut:])
    if released:
        assert released == w.cost(1, 150_000)
        assert [bytes(memory) for _, _, memory in end.landed] == kept
        assert not [event for event in before + after if isinstance(event, w.Push)]
    assert (before + after)[-1] == w.Keys(2)
    assert end.decoder.reserved == 0
    assert end.decoder.discard(1) == 0


@pytest.mark.parametrize("begun", [False, True])
def test_an_abort_ends_a_message_half_sent(begun: bool) -> None:
    end = server(budget=1 << 30)
    nbytes = 2 * w.INLINE
    end.feed(push(entry(shape=[nbytes], nbytes=nbytes)) + (frame(DATA, 1, [0, 0], bytes(w.INLINE)) if begun else b""))
    aborted, again = end.feed(frame(80, 1, []) + push(entry(), payload=b"abcd"))
    assert aborted == w.Aborted(1, w.cost(1, nbytes))
    assert isinstance(again, w.Push)
    assert end.decoder.reserved == 0


def test_the_abort_of_a_refused_message_is_no_event() -> None:
    end = server()
    end.refuse = ShapeMismatch("no")
    nbytes = 2 * w.INLINE
    events = end.feed(push(entry(shape=[nbytes], nbytes=nbytes)) + frame(DATA, 1, [0, 0], bytes(w.INLINE)))
    assert len(events) == 1
    assert end.feed(frame(80, 1, [])) == []


@pytest.mark.parametrize("memory", [bytearray(100), bytes(w.INLINE), bytearray(w.INLINE + 1)])
def test_memory_that_does_not_fit_is_a_fault_of_this_side(memory: bytes) -> None:
    end = server()
    end.decoder = w.Decoder(end.link, lambda message, index, nbytes: memory, end.reserve)
    with pytest.raises(InvalidArgument, match=str(len(memory))):
        end.feed(push(entry(shape=[w.INLINE], nbytes=w.INLINE)) + frame(DATA, 1, [0, 0], bytes(w.INLINE)))


# Lengths beyond 32 bits.


def test_lengths_beyond_32_bits_are_right_without_a_byte_touched() -> None:
    nbytes = 5 * GIB + 64
    memory = memoryview(np.empty(nbytes, np.uint8)).cast("B")  # pages that nobody writes are not allocated
    client, end = pair()
    end.decoder = w.Decoder(end.link, lambda message, index, size: memory, end.reserve)
    sender = w.Sender(client.link, slice_nbytes=nbytes)
    sender.put(w.Push(1, entries=(dense("w", nbytes),), data=(memory,)))
    announced, payload = sender.next_batch(1 << 40)
    assert len(payload) == nbytes
    assert end.feed(bytes(announced)) == []
    left = nbytes
    while left:
        size = min(len(end.decoder.get_buffer()), left)
        end.decoder.buffer_updated(size)
        left -= size
    [message] = end.events()
    assert isinstance(message, w.Push)
    assert message.data == [memory]


def test_offsets_beyond_32_bits_are_right() -> None:
    nbytes = 5 * GIB
    memory = memoryview(np.empty(nbytes, np.uint8)).cast("B")
    client, _ = pair()
    client.sender = w.Sender(client.link, slice_nbytes=nbytes - 640)
    client.sender.put(w.Push(1, entries=(dense("w", nbytes),), data=(memory,)))
    client.sender.next_batch(1)
    assert len(client.sender.next_batch(1)[1]) == nbytes - 640
    [last] = client.sender.next_batch(1)
    assert msgpack.unpackb(last[HEAD_SIZE:-640]) == [0, nbytes - 640]


# Before WELCOME.


def fresh(side: w.Side) -> End:
    end = End(side)
    end.link.phase = w.Phase.NEW
    return end


def test_a_stranger_gets_a_small_header_only() -> None:
    long, laden = pack_head(1, 0, GREETING_HEADER + 1, 0), pack_head(1, 0, 10, 1)
    for stream in (long, laden, frame(PUSH, 1, [0, None, 0, 0, []])):
        with pytest.raises(ProtocolError):
            fresh(w.Side.SERVER).feed(stream)


def test_magic_is_told_from_http() -> None:
    with pytest.raises(ProtocolError, match=f"{MAGIC:#06x}"):
        fresh(w.Side.SERVER).feed(b"POST /api HTTP/1.1\r\n\r\n")
