"""The phases of a connection, from both ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_cases import End, messages_of, plain, sent

from akv.errors import InvalidArgument, ProtocolError
from akv_tcp import wire as w
from akv_tcp.wire.table import TABLE

HELLO = w.Hello((1,), bytes(range(16)), "job", w.Role.READER, None, True, w.Settings(w.Consistency.SSP, 3), b"nonce")
WELCOME = w.Welcome(1, bytes(16), 7, 0, 4, w.Limits(), 2.0, w.Settings(w.Consistency.SYNC, 0, 4, w.OnLoss.DROP, 30.0))


def ends() -> tuple[End, End]:
    client, server = End(w.Side.CLIENT), End(w.Side.SERVER)
    client.link.phase = server.link.phase = w.Phase.NEW
    return client, server


def exchange(client: End, server: End, *messages: w.Message) -> None:
    """Each message from the side that may send it, one byte at a time."""
    senders = {row.make: row.sender for row in TABLE}
    for message in messages:
        one, other = (client, server) if senders[type(message)] is w.Side.CLIENT else (server, client)
        assert list(map(plain, other.feed(sent(one, message), 1))) == [plain(message)]
        assert one.link.phase is other.link.phase


@pytest.mark.parametrize("proofs", [0, 1, 2])
def test_a_handshake_opens_the_connection(proofs: int) -> None:
    client, server = ends()
    exchange(client, server, HELLO, *[w.Challenge(b"c"), w.Proof(b"p")] * proofs, WELCOME)
    assert client.link.phase is w.Phase.OPEN
    exchange(client, server, w.Keys(1), w.Result(1), w.Heartbeat(1))


@pytest.mark.parametrize("before", [[], [HELLO], [HELLO, w.Challenge(b"c")]], ids=len)
def test_a_refusal_ends_it(before: list[w.Message]) -> None:
    client, server = ends()
    exchange(client, server, *before, w.Refuse(22, "no"))
    assert client.link.phase is w.Phase.CLOSED


def test_goodbye_ends_it_and_what_comes_then_is_dropped() -> None:
    client, server = ends()
    exchange(client, server, HELLO, WELCOME)
    late = sent(client, w.Keys(1)) * 5000
    assert client.feed(sent(server, w.Goodbye(12, "bye"))) == [w.Goodbye(12, "bye")]
    assert server.feed(late) == []
    for end in (client, server):
        with pytest.raises(InvalidArgument, match="phase closed"):
            end.sender.put(w.Heartbeat(1))


PHASES = {
    w.Phase.NEW: [],
    w.Phase.GREETED: [HELLO],
    w.Phase.CHALLENGED: [HELLO, w.Challenge(b"c")],
    w.Phase.OPEN: [HELLO, WELCOME],
    w.Phase.CLOSED: [w.Refuse(0, "")],
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@given(data=st.data())
@settings(max_examples=15)
def test_a_message_passes_where_the_table_says_and_nowhere_else(row, data) -> None:  # type: ignore[no-untyped-def]
    phase = data.draw(st.sampled_from(w.Phase))
    side = data.draw(st.sampled_from(w.Side))
    message = data.draw(messages_of(row))
    client, server = ends()
    exchange(client, server, *PHASES[phase])
    one, other = (client, server) if side is w.Side.CLIENT else (server, client)
    allowed = row.sender in (side, None) and phase in row.when
    if not allowed:
        with pytest.raises(InvalidArgument, match=row.name):
            one.sender.put(message)
        assert one.link.phase is phase
    one.link.phase = row.when[0]
    one.link.side = row.sender or side
    liar = End(row.sender or side)
    liar.link.phase = row.when[0]
    stream = sent(liar, message)
    if allowed and row.name != "Abort":
        assert len(other.feed(stream)) == 1
    elif phase is not w.Phase.CLOSED:
        with pytest.raises(ProtocolError):
            other.feed(stream)
    else:
        assert other.feed(stream) == []


def test_a_long_hello_is_a_fault_of_this_side() -> None:
    client, _ = ends()
    with pytest.raises(InvalidArgument):
        client.sender.put(w.Hello((1,), bytes(16), "j" * 1025))
    assert client.link.phase is w.Phase.NEW


def test_every_handshake_fits_into_the_small_header() -> None:
    client, server = ends()
    hello = w.Hello(
        tuple(range(240, 256)),
        bytes(16),
        "ä" * 512,
        w.Role.WORKER,
        2**32 - 1,
        False,
        w.Settings(w.Consistency.SSP, 2**32 - 1, 2**32 - 1, w.OnLoss.WAIT, 1e9),
        bytes(256),
    )
    exchange(client, server, hello, w.Challenge(bytes(256)), w.Proof(bytes(256)), w.Refuse(255, "ä" * 1024))


def test_a_link_says_where_it_is() -> None:
    assert repr(w.Link(w.Side.SERVER)) == "<Link server new>"
