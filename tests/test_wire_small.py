"""Briefs: the short way says the same as the long one, byte by byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire_cases import KEYS, U64, End, dense, pair, pattern, plain, sent

from akv.errors import ProtocolError
from akv_tcp import wire as w
from akv_tcp.wire.memo import MEMO

KEYED = st.builds(
    lambda make, request, key, nbytes, version: _message(make, request, key, nbytes, version),
    st.sampled_from([w.Push, w.Pull, w.Info]),
    st.integers(1, 2**32 - 1),
    KEYS,
    st.sampled_from([0, 1, 64, 5000, w.INLINE - 1, w.INLINE]),
    U64,
)


def _message(make: type[w.Message], request: int, key: str | int, nbytes: int, version: int) -> w.Message:
    if make is w.Push:
        return w.Push(request, 3, None, (dense(key, nbytes, version=version),), (pattern(nbytes),))
    if make is w.Pull:
        return w.Pull(request, -2, None, False, (w.Entry(key, version=version),))
    return w.Info(request, 0, None, (w.Entry(key, version=version),))


def _small(end: End) -> w.Decoder:
    end.decoder = w.Decoder(end.link, end.landing, end.reserve, small=True)
    return end.decoder


def _fed(end: End, stream: bytes, step: int) -> list[tuple[object, ...]]:
    """What messages say that come in pieces of so many bytes; looked at before the next piece takes their memory."""
    return [
        _understood(event) for start in range(0, len(stream), step) for event in end.feed(stream[start : start + step])
    ]


def _understood(event: w.Event) -> tuple[object, ...]:
    message = event.message() if isinstance(event, w.SmallMessage) else event
    assert isinstance(message, w.Message)
    return plain(message)


@given(st.lists(KEYED, min_size=1, max_size=5), st.integers(100, 50_000))
@settings(max_examples=60, deadline=None)
@example([_message(w.Push, 1, "w", 64, 0)] * 3, 1)
def test_they_say_what_the_messages_say(messages: list[w.Message], step: int) -> None:
    client, server = pair()
    stream = sent(client, *messages)
    _, long = pair()
    _small(server)
    assert _fed(server, stream, step) == _fed(long, stream, step)


def test_most_small_messages_are_small() -> None:
    client, server = pair()
    messages = [w.Push(number, entries=(dense("w", 64),), data=(pattern(64),)) for number in (1, 2, 3)]
    _small(server)
    MEMO.clear()
    kinds = [type(event) for event in server.feed(sent(client, *messages))]
    assert kinds == [w.SmallMessage] * 3  # what this process has packed itself, it knows
    assert server.budget == 1 << 40  # and nothing was reserved


@given(KEYS, st.integers(1, 2**32 - 1), st.sampled_from([0, 1, 64, 5000]), U64)
@settings(max_examples=60, deadline=None)
def test_a_template_makes_the_bytes_of_the_encoder(key: str | int, request: int, nbytes: int, version: int) -> None:
    client, _ = pair()
    data = pattern(nbytes)
    push = w.Push(request, 3, None, (dense(key, nbytes, version=version),), (data,))
    assert w.FrameTemplate(w.Push(1, 3, None, (dense(key, nbytes),))).fill(request, version, data) == sent(client, push)
    pull = w.Pull(request, 0, None, True, (w.Entry(key, version=version),))
    assert w.FrameTemplate(w.Pull(1, 0, None, True, (w.Entry(key),))).fill(request, version) == sent(client, pull)


def test_a_template_takes_an_array_of_any_shape() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    frame = w.FrameTemplate(w.Push(1, 0, None, (dense("w", 96),))).fill(7, 0, array.data)
    assert frame.endswith(array.tobytes())


def test_what_the_protocol_does_not_allow_has_no_template() -> None:
    with pytest.raises(ValueError, match="key"):
        w.FrameTemplate(w.Push(1, 0, None, (dense(None, 8),)))


@pytest.mark.parametrize("harm", ["payload", "request", "magic", "version"])
def test_what_is_wrong_is_found_on_the_long_way(harm: str) -> None:
    client, server = pair()
    good = sent(client, w.Push(1, entries=(dense("w", 64),), data=(pattern(64),)))
    bad = bytearray(good)
    place, value = {"payload": (10, 63), "request": (4, 0), "magic": (0, 0), "version": (2, 9)}[harm]
    bad[place] = value
    _small(server)
    assert isinstance(server.feed(good)[0], w.SmallMessage)
    with pytest.raises(ProtocolError):
        server.feed(bytes(bad))


def test_a_small_waits_for_its_last_byte() -> None:
    client, server = pair()
    stream = sent(client, w.Push(1, entries=(dense("w", 64),), data=(pattern(64),)))
    _small(server)
    assert server.feed(stream[:-1]) == []
    (event,) = server.feed(stream[-1:])
    assert isinstance(event, w.SmallMessage)
    assert bytes(event.data) == bytes(pattern(64))


def test_a_number_that_is_still_coming_is_an_error() -> None:
    client, server = pair()
    nbytes = 2 * w.INLINE
    client.sender.put(w.Push(1, entries=(dense("w", nbytes),), data=(pattern(nbytes),)))
    begun = b"".join(client.sender.next_batch(1))  # the first frame, and no slice
    other, _ = pair()
    small = sent(other, w.Push(1, entries=(dense("w", 64),), data=(pattern(64),)))
    _small(server)
    assert server.feed(begun) == []
    with pytest.raises(ProtocolError, match="open"):
        server.feed(small)


def test_what_is_put_back_comes_again_as_a_message_and_asks_for_budget() -> None:
    client, server = pair()
    stream = sent(client, *[w.Push(n, entries=(dense("w", 64),), data=(pattern(64, n),)) for n in (1, 2)])
    decoder = _small(server)
    decoder.get_buffer()[: len(stream)] = stream
    decoder.buffer_updated(len(stream))
    first = decoder.next_event()
    assert isinstance(first, w.SmallMessage)
    due = plain(first.message())
    decoder.put_back()
    server.budget = 0
    assert decoder.next_event() is None
    assert decoder.blocked
    server.budget = 1 << 20
    again = decoder.next_event()
    assert isinstance(again, w.Push)
    assert plain(again) == due
    assert server.budget == (1 << 20) - w.cost(1, 64)
    assert isinstance(decoder.next_event(), w.SmallMessage)  # and what comes after it is small again
