"""Who is let in: the handshake, strangers of all kinds, jobs, and the addresses of servers."""

from __future__ import annotations

import asyncio
import itertools
import socket

import numpy as np
import pytest
from tcp_cases import PATIENCE, QUICK, Stranger, serving, stored, until

import akv
from akv import sync
from akv_tcp import wire as w
from akv_tcp.terms import Terms
from akv_tcp.wire.head import pack_head

# -- strangers at a server ------------------------------------------------------------------------------------


async def refusal(client: Stranger) -> akv.AkvError:
    answer = await client.event()
    assert isinstance(answer, w.Refuse)
    assert await client.event() is None
    return w.error_from(answer.code, answer.text)


async def test_another_version_is_refused() -> None:
    async with serving() as server, Stranger(server) as client:
        await client.send(w.Hello((7, 9), bytes(16), "job"))
        error = await refusal(client)
    assert isinstance(error, akv.ProtocolError)
    assert "1" in str(error)
    assert "[7, 9]" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(100),
        b"\xff" * 100_000,
        pack_head(1, 0, 3, 0)[:2] + b"\x09" + pack_head(1, 0, 3, 0)[3:],
        pack_head(17, 1, 3, 1 << 40) + b"abc",
        pack_head(1, 0, 5000, 0),
    ],
    ids=["http", "zeros", "ones", "version of frames", "push first", "long greeting"],
)
async def test_garbage_is_refused(data: bytes) -> None:
    async with serving() as server, Stranger(server) as client, akv.connect(f"{server.url}/job") as kv:
        await client.send_bytes(data)
        try:
            assert isinstance(await refusal(client), akv.ProtocolError)
        except ConnectionError:
            pass  # the rest of it came when the server had closed
        assert await kv.keys() == []
        await until(lambda: server.connections == 1)


async def test_garbage_after_the_greeting_ends_the_connection() -> None:
    async with serving() as server, Stranger(server) as client:
        await client.greet()
        await client.send_bytes(b"nonsense" * 10)
        goodbye = await client.event()
        assert isinstance(goodbye, w.Goodbye)
        assert goodbye.code == w.code_of(akv.ProtocolError())
        assert await client.event() is None
        await until(lambda: server.connections == 0)


async def test_a_silent_stranger_has_to_leave() -> None:
    async with serving(QUICK) as server, Stranger(server) as client:
        await until(lambda: server.connections == 1)
        assert await client.event() is None
        await until(lambda: server.connections == 0)


async def test_a_slow_stranger_has_to_leave() -> None:
    async with serving(QUICK) as server, Stranger(server) as client:
        with pytest.raises(OSError):  # noqa: PT011 - a reset, or a broken pipe
            for byte in pack_head(1, 0, 1000, 0) + bytes(1000):
                await client.send_bytes(bytes([byte]))
                await asyncio.sleep(0.01)


async def test_there_is_a_most_of_connections() -> None:
    async with serving(Terms(connections=2)) as server, akv.connect(f"{server.url}/job") as kv, Stranger(server):
        await until(lambda: server.connections == 2)
        with pytest.raises(akv.BackendUnavailable, match=f"{server.url}.*connections"):
            await akv.connect(f"{server.url}/job")
        assert await kv.keys() == []


# -- servers that are none ------------------------------------------------------------------------------------


class Impostor(asyncio.Protocol):
    """Says something, and nothing else."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._data:
            transport.write(self._data)  # type: ignore[attr-defined]


async def answer_of(data: bytes, **options: object) -> akv.AkvError:
    """What a client says that connects to an impostor."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Impostor(data), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(akv.AkvError, match=f"tcp://127.0.0.1:{port}") as caught:
            async with asyncio.timeout(PATIENCE):
                await akv.connect(f"tcp://127.0.0.1:{port}/job", **options)
        return caught.value
    finally:
        server.close()


async def test_a_server_that_is_none() -> None:
    assert isinstance(await answer_of(b"220 mail.example.org ESMTP\r\n"), akv.ProtocolError)


@pytest.mark.parametrize("kind", [akv.AuthError, akv.ConnectionLost, akv.AkvTimeout, akv.InvalidArgument])
async def test_a_server_that_refuses_is_quoted(kind: type[akv.AkvError]) -> None:
    """Some of akv's errors are OSErrors as well, such as those of a server that is not there."""
    link = w.Link(w.Side.SERVER)
    link.phase = w.Phase.GREETED
    sender = w.Sender(link)
    sender.put(w.Refuse(w.code_of(kind()), "not you"))
    error = await answer_of(b"".join(sender.next_batch()))
    assert type(error) is kind
    assert str(error).endswith(": not you")


@pytest.mark.parametrize("usual", [True, False])
async def test_a_silent_server(usual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for as long as usual, or for as long as any call of the handle if that is less."""
    monkeypatch.setattr("akv_tcp.farewell._MOST", 0.05)
    monkeypatch.setattr("akv_tcp.channel.ATTEMPT", 0.1 if usual else 10 * PATIENCE)
    error = await answer_of(b"", timeout=10 * PATIENCE if usual else 0.1)
    assert isinstance(error, akv.BackendUnavailable)
    assert "has sent no welcome within 0.1 s" in str(error)
    assert "akv serve" not in str(error), "something runs there already"


async def test_no_way_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_comes_back(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", nothing_comes_back)
    with pytest.raises(akv.BackendUnavailable, match=r"no connection was made within 0\.1 s\)$"):
        await akv.connect("tcp://127.0.0.1:1/job", timeout=0.1)


async def test_no_server_at_all() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(akv.BackendUnavailable, match=f"akv serve --bind 127.0.0.1:{port}"):
        await akv.connect(f"tcp://127.0.0.1:{port}/job")
    with pytest.raises(akv.BackendUnavailable, match=f"akv serve --bind localhost:{port}"):
        await akv.connect(f"tcp://localhost:{port}/job")  # of several addresses, it may be
    with pytest.raises(akv.BackendUnavailable, match="does not answer"):
        sync.connect(f"tcp://127.0.0.1:{port}/job")


@pytest.mark.parametrize("place", ["", "host", ":7", "host:", "host:x", "host:65536", "host:-1"])
async def test_bad_addresses(place: str) -> None:
    with pytest.raises(akv.InvalidArgument, match="host:port"):
        await akv.connect(f"tcp://{place}/job")


async def test_a_name_that_is_too_long_for_the_wire() -> None:
    async with serving() as server:
        async with akv.connect(f"{server.url}/{'j' * 1024}"):
            pass
        with pytest.raises(akv.InvalidArgument, match="1026 bytes, the most is 1024"):
            await akv.connect(f"{server.url}/" + "\u00e9" * 513)


async def test_names_are_looked_up() -> None:
    async with serving() as server, akv.connect(f"tcp://localhost:{server.port}/job") as kv:
        assert await kv.keys() == []
        assert repr(kv).startswith(f"<akv.KVStore tcp://localhost:{server.port}/job")


# -- jobs and clients -----------------------------------------------------------------------------------------


async def test_jobs_are_separate() -> None:
    async with serving() as server:
        async with akv.connect(f"{server.url}/a") as a, akv.connect(f"{server.url}/b") as b:
            await a.init("w", np.zeros(3))
            await b.init(7, np.ones(4, np.float32))  # keys of another kind
            await a.set_updater("add")
            await b.set_optimizer(akv.optim.SGD(learning_rate=1.0))
            assert await a.push("w", np.ones(3)) == 2
            assert await b.push(7, np.ones(4, np.float32)) == 2
            assert (await a.keys(), await b.keys()) == (["w"], [7])
            assert (await a.pull("w") == 1).all()
            assert (await b.pull(7) == 0).all()
            async with akv.connect(server.url) as unnamed:
                assert await unnamed.keys() == []
        assert (stored(server, "a", "w") == 1).all()


async def test_a_job_outlives_its_clients() -> None:
    async with serving() as server:
        async with akv.connect(f"{server.url}/job") as kv:
            await kv.init("w", np.zeros(3))
        assert server.sessions == []
        async with akv.connect(f"{server.url}/job") as kv:
            await kv.init("w", np.ones(3))  # a new handle may, and finds the old value
            assert (await kv.pull("w") == 0).all()


async def test_many_clients_add_up() -> None:
    async with serving() as server:
        async with akv.connect(f"{server.url}/job") as kv:
            await kv.init("w", np.zeros(8, np.int64))
            await kv.set_updater("add")

            async def work() -> list[int]:
                async with akv.connect(f"{server.url}/job") as own:
                    return await asyncio.gather(*[own.push("w", np.ones(8, np.int64)) for _ in range(20)])

            async with asyncio.timeout(PATIENCE):
                versions = await asyncio.gather(*[work() for _ in range(20)])
            assert sorted(itertools.chain.from_iterable(versions)) == list(range(2, 402))
            assert (await kv.pull("w") == 400).all()
        assert server.sessions == []
        await until(lambda: server.connections == 0)


async def test_a_client_that_leaves_takes_what_it_waits_for_with_it() -> None:
    async with serving() as server:
        kv = await akv.connect(f"{server.url}/job")
        waiting = kv.wait_version("w", 1)
        await kv.keys()
        (session,) = server.sessions
        await until(lambda: session.busy == 1)
        other = await akv.connect(f"{server.url}/job")
        with pytest.raises(ZeroDivisionError):
            async with kv:
                raise ZeroDivisionError
        with pytest.raises(akv.StoreClosed, match="'w'"):
            await waiting
        await other.aclose()
        assert server.sessions == []


async def test_the_least_used_session_makes_room() -> None:
    async with serving(Terms(connections=2)) as server:
        for number in range(5):
            async with Stranger(server) as client:
                await client.greet(client=bytes([number] * 16))
            await until(lambda: server.connections == 0)
        assert [session.place[1][0] for session in server.sessions] == [1, 2, 3, 4]
        async with Stranger(server) as client:
            await client.send(w.Hello((1,), bytes(16), "job", resume=True))
            assert isinstance(await refusal(client), akv.SessionExpired)
