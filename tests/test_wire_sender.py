"""What goes out next: the most urgent first at every slice, small before large, nobody starved, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_cases import End, dense, frames_in, joined, pair, pattern

from akv.errors import InvalidArgument
from akv_tcp import wire as w
from akv_tcp.wire.limits import BATCH, SLICE

MIB = 1 << 20


def push(request: int, nbytes: int, seed: int = 0) -> w.Push:
    return w.Push(request, entries=(dense("w", nbytes),), data=(pattern(nbytes, seed),))


def deliver(one: End, other: End, budget: int = BATCH) -> list[w.Event]:
    """One batch across, and drained."""
    batch = one.sender.next_batch(budget)
    events = other.feed(b"".join(batch))
    one.sender.drained()
    return events


def moved(one: End, budget: int = BATCH) -> list[tuple[int, int]]:
    """One batch out, and drained: whose frames, and how many bytes of tensors they bring."""
    batch = one.sender.next_batch(budget)
    one.sender.drained()
    return frames_in(b"".join(batch))


def order_of(one: End, budget: int = BATCH) -> list[int]:
    """The same for all that waits: whose frames."""
    order: list[int] = []
    while one.sender.waiting:
        order += [request for request, _ in moved(one, budget)]
    return order


def requests(events: Sequence[w.Event]) -> list[int]:
    """Whose they are."""
    return [event.request for event in events if isinstance(event, w.Request)]


def test_an_urgent_message_waits_for_one_slice_only() -> None:
    client, _ = pair()
    client.sender.put(push(1, 8 * MIB))
    first = moved(client, SLICE + 100)
    client.sender.put(w.Pull(2, entries=(w.Entry("v"),)), 5)
    second = moved(client, SLICE + 100)
    assert first == [(1, 0), (1, SLICE)]
    assert second == [(2, 0), (1, SLICE)]


def test_a_more_urgent_tensor_overtakes_at_a_slice() -> None:
    client, _ = pair()
    client.sender.put(push(1, 2 * MIB), 1)
    assert moved(client, SLICE + 200) == [(1, 0), (1, SLICE)]
    client.sender.put(push(2, 2 * MIB), 2)
    assert order_of(client, SLICE + 200) == [2] * 5 + [1] * 3


def test_equal_tensors_go_one_after_the_other() -> None:
    client, _ = pair()
    for request in (1, 2, 3):
        client.sender.put(push(request, MIB))
    assert order_of(client) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_small_message_passes_a_large_one_of_the_same_priority() -> None:
    client, server = pair()
    client.sender.put(push(1, 64 * MIB))
    deliver(client, server)
    client.sender.put(push(2, 64))
    assert requests(deliver(client, server))[0] == 2
    client.sender.clear()


def test_small_messages_without_end_leave_half_of_the_bytes_to_a_large_one() -> None:
    client, _ = pair()
    client.sender.put(push(1, 64 * MIB))
    small = large = 0
    numbers = count(2)
    for _ in range(40):
        for _ in range(40):
            client.sender.put(push(next(numbers), 32_000))
        for request, nbytes in moved(client):
            if request == 1:
                large += nbytes
            else:
                small += nbytes
    assert 0.8 < small / large < 1.25


def test_a_less_urgent_tensor_gets_nothing_before_the_rest_is_out() -> None:
    client, _ = pair()
    client.sender.put(push(1, MIB), -1)
    for request in range(2, 60):
        client.sender.put(push(request, 60_000))
    assert order_of(client) == [*range(2, 60), 1, 1, 1]


@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0, 64, 5000]))))
def test_small_messages_go_by_priority_then_by_age(puts: list[tuple[int, int]]) -> None:
    client, server = pair()
    for request, (priority, nbytes) in enumerate(puts, 1):
        client.sender.put(push(request, nbytes), priority)
    order: list[int] = []
    while client.sender.waiting:
        order += requests(deliver(client, server))
    assert order == sorted(range(1, len(puts) + 1), key=lambda request: (-puts[request - 1][0], request))


def test_goodbye_is_the_last_word_whatever_its_priority() -> None:
    client, server = pair()
    client.sender.put(push(1, MIB), -(2**63))
    client.sender.put(w.Goodbye(0, "done"), w.URGENT)
    events: list[w.Event] = []
    while client.sender.waiting:
        events += deliver(client, server)
    assert events[-1] == w.Goodbye(0, "done")
    assert requests(events[:-1]) == [1]


# Batches.


@given(st.lists(st.integers(0, 3 * MIB), max_size=6), st.integers(1, 2 * MIB), st.sampled_from([64, 65536, SLICE]))
@settings(max_examples=50, deadline=None)
def test_a_batch_keeps_to_its_budget_or_is_one_frame(sizes: list[int], budget: int, slice_nbytes: int) -> None:
    client, server = pair()
    slice_nbytes = max(slice_nbytes, 4096)
    client.sender = w.Sender(client.link, slice_nbytes)
    for request, size in enumerate(sizes, 1):
        client.sender.put(push(request, size, request))
    events: list[w.Event] = []
    frame = max(slice_nbytes, w.INLINE) + 100
    while batch := client.sender.next_batch(budget):
        assert sum(map(len, batch)) <= max(budget, frame)
        events += server.feed(b"".join(batch))
    got = {event.request: joined(event.data[0]) for event in events if isinstance(event, w.Push)}
    assert got == {request: bytes(pattern(size, request)) for request, size in enumerate(sizes, 1)}


def test_small_frames_are_one_buffer_and_slices_are_views() -> None:
    client, _ = pair()
    for request in range(1, 301):
        client.sender.put(push(request, 64))
    [corked] = client.sender.next_batch()
    assert len(corked) > 300 * 64
    assert not client.sender.waiting
    array = np.zeros(MIB, np.uint8)
    client.sender.put(w.Push(1, entries=(dense("w", MIB),), data=(w.array_bytes(array),)))
    head, first, lead, second = client.sender.next_batch()  # 1 MiB goes out at once
    assert len(head) + len(lead) < 200
    assert len(first) == len(second) == SLICE
    for piece in (first, second):
        assert np.shares_memory(np.frombuffer(piece, np.uint8), array)


def test_an_idle_sender_has_nothing_to_write() -> None:
    client, _ = pair()
    assert client.sender.next_batch() == []
    assert client.sender.drained() == []
    assert not client.sender.waiting


# Whose memory is free.


def test_memory_is_free_when_the_transport_has_drained_and_not_before() -> None:
    client, _ = pair()
    tiny, small, large = push(3, 64), push(1, 32 * 1024), push(2, MIB)
    assert not client.sender.put(tiny), "copied"
    assert client.sender.put(small)
    assert client.sender.put(large)
    assert client.sender.drained() == []
    client.sender.next_batch()  # the small ones, and half of the large one
    assert client.sender.drained() == [small]
    client.sender.next_batch()
    assert client.sender.drained() == [large]
    assert client.sender.drained() == []


def test_withdrawn_before_its_first_byte_a_message_never_was() -> None:
    client, server = pair()
    client.sender.put(push(1, MIB))
    assert client.sender.withdraw(1) is w.Withdrawn.UNSENT
    assert not client.sender.waiting
    assert client.sender.next_batch() == []
    assert client.sender.withdraw(1) is w.Withdrawn.SENT
    client.sender.put(push(1, 64))
    assert requests(deliver(client, server)) == [1]


def test_withdrawn_in_the_middle_it_ends_with_an_abort() -> None:
    client, server = pair(budget=1 << 40)
    message = push(1, 8 * MIB)
    client.sender.put(message)
    deliver(client, server)
    client.sender.put(push(2, 64), 9)
    assert client.sender.withdraw(1) is w.Withdrawn.CUT
    events = server.feed(b"".join(client.sender.next_batch()))
    assert client.sender.drained()[0] is message
    aborted, other = events
    assert aborted == w.Aborted(1, w.cost(1, 8 * MIB))
    assert requests([other]) == [2]
    assert server.decoder.reserved == 0
    assert not client.sender.waiting


def test_withdrawn_when_it_is_out_it_is_too_late() -> None:
    client, _ = pair()
    message = push(1, 32 * 1024)
    client.sender.put(message)
    client.sender.next_batch()
    assert client.sender.withdraw(1) is w.Withdrawn.SENT
    assert client.sender.drained() == [message]
    assert not client.sender.waiting


def test_a_cancel_is_no_message_of_its_request() -> None:
    client, server = pair()
    client.sender.put(w.Cancel(1), w.URGENT)
    client.sender.put(push(1, 64))
    assert client.sender.withdraw(1) is w.Withdrawn.UNSENT
    assert deliver(client, server) == [w.Cancel(1)]


def test_a_number_is_free_again_once_its_abort_is_out() -> None:
    client, server = pair(budget=1 << 40)
    client.sender.put(push(1, 8 * MIB))
    deliver(client, server)
    assert client.sender.withdraw(1) is w.Withdrawn.CUT
    client.sender.put(push(1, MIB))
    assert deliver(client, server, 1) == [w.Aborted(1, w.cost(1, 8 * MIB))]
    assert client.sender.withdraw(1) is w.Withdrawn.UNSENT


@pytest.mark.parametrize("nbytes", [32 * 1024, MIB])
def test_withdrawing_lets_go_of_the_memory(nbytes: int) -> None:
    client, _ = pair()
    memory = bytearray(nbytes)
    client.sender.put(push(9, 64), 1)
    client.sender.put(w.Push(1, entries=(dense("w", nbytes),), data=(memory,)))
    with pytest.raises(BufferError):
        memory.clear()
    assert client.sender.withdraw(1) is w.Withdrawn.UNSENT
    memory.clear()  # nobody refers to it


def test_what_goes_out_after_clear_is_new() -> None:
    client, server = pair()
    client.sender.put(push(1, 8 * MIB))
    client.sender.put(push(2, 64))
    client.sender.clear()
    client.sender.put(push(1, 64))
    assert requests(deliver(client, server)) == [1]


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(-2, 2), st.sampled_from([0, 64, 30_000, 70_000, 600_000, 1_500_000])),
    st.tuples(st.just("withdraw"), st.integers(1, 12), st.just(0)),
    st.tuples(st.just("batch"), st.sampled_from([1, 100_000, BATCH]), st.just(0)),
    st.tuples(st.just("drained"), st.just(0), st.just(0)),
)


@given(st.lists(ACTIONS, max_size=40), st.sampled_from([4096, 65536, SLICE]))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_each_message_arrives_whole_or_is_withdrawn(
    actions: list[tuple[str, int, int]], slice_nbytes: int
) -> None:
    client, server = pair(budget=1 << 40)
    client.sender = w.Sender(client.link, slice_nbytes)
    put: dict[int, w.Push] = {}
    holding: list[int] = []
    fates: dict[int, w.Withdrawn] = {}
    events: list[w.Event] = []
    freed: list[w.Message] = []
    for action, number, nbytes in [*actions, *[("batch", BATCH, 0)] * 40]:
        if action == "put":
            request = len(put) + 1
            put[request] = push(request, nbytes, request)
            if client.sender.put(put[request], number):
                holding.append(request)
        elif action == "withdraw":
            fate = client.sender.withdraw(number)
            if fate is not w.Withdrawn.SENT:
                fates[number] = fate
        elif action == "batch":
            events += server.feed(b"".join(client.sender.next_batch(number)), 200_000)
        else:
            freed += client.sender.drained()
    freed += client.sender.drained()
    arrived = {event.request: event for event in events if isinstance(event, w.Push)}
    aborted = {event.request for event in events if isinstance(event, w.Aborted)}
    assert aborted == {request for request in put if fates.get(request) is w.Withdrawn.CUT}
    unsent = {request for request in put if fates.get(request) is w.Withdrawn.UNSENT}
    assert set(arrived) == set(put) - aborted - unsent
    assert {request: joined(got.data[0]) for request, got in arrived.items()} == {
        request: joined(put[request].data[0]) for request in arrived
    }
    assert sorted(requests(freed)) == [request for request in holding if request not in unsent]
    assert server.decoder.reserved == 0
    assert not client.sender.waiting


# Faults of this side.


def test_a_faulty_message_changes_nothing() -> None:
    client, server = pair()
    wide = memoryview(np.zeros(4, np.float32))
    faults: list[w.Message] = [
        w.Push(1, entries=(dense("w", 16),), data=(wide,)),
        w.Push(1, entries=(dense("w", 4),), data=(wide,)),
        w.Push(1, entries=(dense("w", 2),), data=(wide.cast("B").cast("B", (2, 8)),)),
        w.Push(1, entries=(dense("w", 8),), data=(wide.cast("B")[::2],)),
        w.Push(1, entries=(dense("w", 16),), data=(wide.cast("B"), wide.cast("B"))),
        w.Push(1, entries=(dense("w", 15),), data=(wide.cast("B"),)),
        w.Push(1, entries=(dense("w", 16),)),
        w.Push(1, entries=(dense(None, 16),), data=(wide.cast("B"),)),
        w.Push(1, entries=(dense("\ud800", 16),), data=(wide.cast("B"),)),
        w.Push(1, entries=(dense(2**63, 16),), data=(wide.cast("B"),)),
        w.Push(0, entries=(dense("w", 16),), data=(wide.cast("B"),)),
        w.Push(2**32, entries=(dense("w", 16),), data=(wide.cast("B"),)),
        w.Push(1, 2**63),
        w.Push(1, 0, -1.0),
        w.Push(1, 0, float("nan")),
        w.Push(1, entries=tuple(w.Entry(i, 3, 6) for i in range(16 * 1024 + 1))),
        w.Pull(1, entries=(dense("w", 0),)),
        w.SetLearningRate(1, 0, None, float("inf")),
        w.SetLearningRate(1, 0, None, 10**400),
        w.SetOptimizer(1, 0, None, "x" * (12 * 1024 + 1)),
        w.SetCompression(1, 0, None, "2bit", (("threshold", 1.0), ("threshold", 2.0))),
        w.SetCompression(1, 0, None, "2bit", tuple((f"{i:0>1000}", 1.0) for i in range(20))),
        w.SetUpdater(1, 0, None, "x" * 1025),
        w.Result(1),
        w.Hello((1,), bytes(16), "job"),
        w.Abort(0),
    ]
    for message in faults:
        with pytest.raises(InvalidArgument):
            client.sender.put(message)
        assert not client.sender.waiting
        assert client.sender.withdraw(1) is w.Withdrawn.SENT
    client.sender.put(push(1, 16))
    assert requests(deliver(client, server)) == [1]


def test_a_request_has_one_message_at_a_time() -> None:
    client, _ = pair()
    client.sender.put(push(1, 64))
    with pytest.raises(InvalidArgument, match="request 1"):
        client.sender.put(push(1, 64))


def test_the_limits_of_the_peer_hold() -> None:
    client, _ = pair()
    client.sender.limits = w.Limits(entries=1, message=100)
    for entries in ((dense("w", 101),), (dense("v", 1), dense("w", 1))):
        with pytest.raises(InvalidArgument, match="100"):
            client.sender.put(w.Push(1, entries=entries, data=[pattern(entry.nbytes) for entry in entries]))


@pytest.mark.parametrize("slice_nbytes", [0, -64, 100])
def test_a_slice_is_a_multiple_of_64(slice_nbytes: int) -> None:
    with pytest.raises(InvalidArgument):
        w.Sender(w.Link(w.Side.CLIENT), slice_nbytes)


@pytest.mark.parametrize("priority", [2**63 + 1, -(2**63) - 1])
def test_a_priority_has_bounds(priority: int) -> None:
    client, _ = pair()
    with pytest.raises(InvalidArgument):
        client.sender.put(w.Heartbeat(1), priority)
