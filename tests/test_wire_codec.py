"""Messages survive the wire: however the bytes are cut, in few frames, into the memory they are meant for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_cases import End, dense, messages_of, pair, pattern, plain, rows_of, sent

from akv.errors import InvalidArgument
from akv_tcp import wire as w
from akv_tcp.wire.head import HEAD_SIZE
from akv_tcp.wire.receive_buffer import RECEIVE
from akv_tcp.wire.row import Row
from akv_tcp.wire.table import TABLE

CLIENT, SERVER = w.Side.CLIENT, w.Side.SERVER
ROWS = [(side, row) for side in w.Side for row in rows_of(side)]


def peers(side: w.Side) -> tuple[End, End]:
    client, server = pair()
    return (client, server) if side is CLIENT else (server, client)


@pytest.mark.parametrize(("side", "row"), ROWS, ids=lambda value: getattr(value, "name", str(value)))
@given(data=st.data())
@settings(max_examples=40)
def test_every_message_arrives_as_it_was(side: w.Side, row: Row, data: st.DataObject) -> None:
    message = data.draw(messages_of(row))
    step = data.draw(st.sampled_from([1, 7, 1 << 20]))
    one, other = peers(side)
    assert list(map(plain, other.feed(sent(one, message), step))) == [plain(message)]


@given(data=st.data())
@settings(max_examples=100)
def test_any_sequence_arrives_however_it_is_cut(data: st.DataObject) -> None:
    side = data.draw(st.sampled_from(w.Side))
    messages = data.draw(st.lists(st.sampled_from(rows_of(side)).flatmap(messages_of), max_size=6))
    one, other = peers(side)
    stream = sent(one, *messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    events: list[w.Event] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += other.feed(stream[start:stop])
    assert list(map(plain, events)) == list(map(plain, messages))


@given(st.integers(1, HEAD_SIZE + 40), st.integers(1, 200))
def test_an_incomplete_frame_is_no_event_until_its_last_byte(missing: int, nbytes: int) -> None:
    client, server = pair()
    stream = sent(client, w.Push(1, entries=(dense("w", nbytes),), data=(pattern(nbytes),)))
    cut = max(0, len(stream) - missing)
    assert server.feed(stream[:cut]) == []
    assert len(server.feed(stream[cut:])) == 1


def test_what_follows_a_frame_belongs_to_the_next() -> None:
    client, server = pair()
    beat = sent(client, w.Heartbeat(7, 3))
    assert server.feed(beat + beat[:5]) == [w.Heartbeat(7, 3)]
    assert server.feed(beat[5:]) == [w.Heartbeat(7, 3)]


@pytest.mark.parametrize("step", [1000, 65536, 1 << 30])
@pytest.mark.parametrize("nbytes", [w.INLINE - 1, w.INLINE, w.INLINE + 1, 1_300_001])
def test_a_tensor_of_any_size_arrives_with_its_neighbours(nbytes: int, step: int) -> None:
    client, server = pair()
    entries = (dense("a", 10), dense("b", nbytes), dense("c", 0), dense("d", nbytes))
    data = [pattern(entry.nbytes, seed) for seed, entry in enumerate(entries)]
    events = server.feed(sent(client, w.Push(9, entries=entries, data=data)), step)
    message = events[-1]
    assert isinstance(message, w.Push)
    assert [bytes(payload) for payload in message.data] == list(map(bytes, data))
    assert all(memoryview(payload).readonly for payload in message.data if len(payload) < w.INLINE)
    assert [(request, entry) for request, entry, _ in server.landed] == ([(9, 1), (9, 3)] if nbytes >= w.INLINE else [])
    assert events == [message]


@pytest.mark.parametrize("nbytes", [0, -1, RECEIVE + 1])
def test_a_transport_fills_what_it_was_given(nbytes: int) -> None:
    _, server = pair()
    server.decoder.get_buffer()
    with pytest.raises(InvalidArgument, match=str(nbytes)):
        server.decoder.buffer_updated(nbytes)


def test_nothing_holds_the_memory_of_a_message_that_is_out() -> None:
    client, server = pair()
    memory = bytearray(200_000)
    server.decoder = w.Decoder(server.link, lambda message, entry, nbytes: memory, server.reserve)
    server.feed(sent(client, w.Push(1, entries=(dense("w", 200_000),), data=(pattern(200_000),))))
    assert memory == pattern(200_000)
    memory.clear()  # BufferError if anybody did


def test_many_small_frames_take_one_recv() -> None:
    client, server = pair()
    push = sent(client, w.Push(1, entries=(dense("layer0.weight", 64),), data=(pattern(64),)))
    many = push * 500
    assert len(server.decoder.get_buffer()) >= len(many)
    assert len(server.feed(many)) == 500


def test_a_rowsparse_travels_from_two_arrays_into_one_run() -> None:
    client, server = pair()
    indices, values = np.arange(3000) * 2, np.ones((3000, 7), np.float32)
    nbytes = w.rows_nbytes(w.DType.FLOAT32, (9000, 7), 3000)
    entry = w.Entry("table", w.Kind.ROWS, w.DType.FLOAT32, (9000, 7), 3000, nbytes)
    payload = (w.array_bytes(indices), w.array_bytes(values))
    message = server.feed(sent(client, w.Push(1, entries=(entry,), data=(payload,))))[-1]
    assert isinstance(message, w.Push)
    got = np.frombuffer(message.data[0], np.uint8)
    np.testing.assert_array_equal(got[: 8 * 3000].view(np.int64), indices)
    np.testing.assert_array_equal(got[8 * 3000 :].view(np.float32).reshape(3000, 7), values)


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_thousands_of_keys_take_a_few_frames(step: int) -> None:
    client, server = pair()
    count = 5000 if step > 1 else 1000
    entries = tuple(dense(f"encoder.layer.{i:04}.weight", 64, number=i) for i in range(count))
    data = [pattern(64, i) for i in range(count)]
    message = w.PushPull(3, 5, entries=entries, data=data)
    frames = w.Encoder(client.link).encode(message).frames
    assert len(frames) <= count / 250
    events = server.feed(sent(client, message), step)
    assert list(map(plain, events)) == [plain(message)]


def test_each_of_those_frames_is_told() -> None:
    client, server = pair()
    entries = tuple(w.Entry(f"encoder.layer.{i:04}.weight") for i in range(2000))
    frames = len(w.Encoder(client.link).encode(w.Pull(3, entries=entries)).frames)
    stream = sent(client, w.Pull(3, entries=entries))
    server.decoder.get_buffer()[: len(stream)] = stream
    server.decoder.buffer_updated(len(stream))
    *parts, message = server.events()
    assert parts == [w.Part(3)] * (frames - 1)
    assert frames > 2
    assert message == w.Pull(3, entries=entries, data=[None] * len(entries))


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=60), st.integers(1, 1000))
@settings(max_examples=40)
@example([40_000] * 40, 10)
def test_batches_are_split_by_their_bytes_too(sizes: list[int], length: int) -> None:
    client, server = pair()
    entries = tuple(dense("k" * length + str(index), size) for index, size in enumerate(sizes))
    message = w.Push(1, entries=entries, data=[pattern(size) for size in sizes])
    for frame in w.Encoder(client.link).encode(message).frames:
        assert sum(map(len, frame)) <= HEAD_SIZE + 16 * 1024 + 512 * 1024
    assert list(map(plain, server.feed(sent(client, message), 100_000))) == [plain(message)]


def test_an_error_with_everything_in_it_still_fits() -> None:
    client, server = pair()
    entries = tuple(w.Entry("ä" * 512, number=2**63, version=2**63) for _ in range(50))
    error = w.Error(1, 3, "x" * 2048, "k" * 1024, tuple(range(2**32 - 1024, 2**32)), 1.5, entries)
    [got] = client.feed(sent(server, error))
    assert plain(got)[1] == plain(error)[1]


def test_the_encoder_refers_to_the_memory_of_the_tensors() -> None:
    client, _ = pair()
    array = np.zeros((600, 5), np.float64)
    entry = w.Entry("w", w.Kind.DENSE, w.DType.FLOAT64, (600, 5), nbytes=24_000)
    [[_, payload]] = w.Encoder(client.link).encode(w.Push(1, entries=(entry,), data=(w.array_bytes(array),))).frames
    assert np.shares_memory(np.frombuffer(payload, np.uint8), array)


def test_the_table_has_every_message_once() -> None:
    codes = [row.code for row in TABLE]
    assert len(set(codes)) == len(codes)
    bases = {w.Message, w.Request, w.Batch, w.Read}
    made = {kind for kind in vars(w).values() if isinstance(kind, type) and issubclass(kind, w.Message)}
    assert {row.make for row in TABLE} == made - bases
