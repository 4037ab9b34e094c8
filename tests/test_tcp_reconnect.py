"""Connections that break, servers that end, peers that freeze."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest
from store_cases import Gate
from tcp_cases import PATIENCE, QUICK, Running, Stranger, process, serving, stored, until
from tcp_proxy import CALM, Fate, Proxy
from wire_cases import End, dense

import akv
from akv import sync
from akv.optim.updaters import FunctionUpdater
from akv_tcp import wire as w

ONES = np.ones(4, np.float32)


def broken(server: Running) -> None:
    """Break all connections."""
    for peer in list(server._peers):
        peer.connection.abort()


# -- it breaks, and comes back --------------------------------------------------------------------------------


async def test_what_waits_for_an_answer_is_asked_again() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, akv.connect(f"{server.url}/job") as other:
        await kv.init(["w", "v"], [ONES, ONES])
        watch = kv.watch("w")
        assert await anext(watch) == 1
        waiting = [kv.wait_version("w", 2), kv.pull("v", min_version=2), asyncio.ensure_future(anext(watch))]
        await kv.flush()
        for _ in range(3):
            broken(server)
            await kv.keys()
            await other.keys()
        assert not any(each.done() for each in waiting)
        await other.push(["w", "v"], [ONES, 2 * ONES])
        async with asyncio.timeout(PATIENCE):
            assert await waiting[0] == await waiting[2] == 2
            assert (await waiting[1] == 2).all()
        assert len(server.sessions) == 2


async def test_calls_made_while_there_is_no_connection() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", ONES)
        await kv.set_updater("add")
        broken(server)
        pending = [kv.push("w", ONES), kv.pull("w"), kv.info("w")]
        assert await pending[0] == 2
        assert (await pending[1] == 2).all()
        assert (await pending[2]).version == 2


async def test_blocking_calls_go_on() -> None:
    with process() as (url, _), sync.connect(f"{url}/job") as kv:
        kv.init("w", ONES)
        kv.set_updater("add")
        assert kv._portal is not None
        for version in range(2, 6):
            connection = kv._engine.backend._channel.connection  # type: ignore[attr-defined]
            kv._portal._loop.call_soon_threadsafe(connection.abort)
            assert kv.push("w", ONES) == version
        assert (kv.pull("w") == 5).all()


async def test_a_connection_that_always_breaks_is_given_up() -> None:
    # It can be made, but is cut before anything useful came: each time the client waits longer.
    fate = iter([CALM, *repeat(Fate("cut", up=False, after=150), 100)])
    async with serving() as server:
        proxy = Proxy(server.port, fate)
        async with proxy.run() as url:
            kv = await akv.connect(f"{url}/job", reconnect=0.5)
            await kv.init("w", np.zeros(100))
            broken(server)
            with pytest.raises(akv.ConnectionLost, match="pull of key 'w'"):
                await kv.pull("w")
            assert proxy.count < 12
            await kv.aclose()


@pytest.mark.parametrize("begun", [False, True])
async def test_where_an_answer_had_begun_to_come_the_pauses_begin_anew(begun: bool) -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        channel = kv.engine.backend._channel  # type: ignore[attr-defined]
        connection = channel.connection
        channel._pause, channel._broke = 0.01, asyncio.get_running_loop().time()  # it broke a moment ago, too
        if begun:
            stream = beginning_of_an_answer()
            connection.get_buffer(-1)[: len(stream)] = stream
            connection.buffer_updated(len(stream))
        channel.lost(connection, None)
        assert channel._pause == (0.0 if begun else 0.01)
        connection.abort()
        await kv.init("w", ONES)


def beginning_of_an_answer() -> bytes:
    """Its first frame, which announces a tensor."""
    sender = End(w.Side.SERVER).sender
    sender.put(w.Result(1000, (dense(None, 1 << 20),), (bytes(1 << 20),)))
    return b"".join(sender.next_batch(1))


async def test_nothing_is_left_when_closed_while_away() -> None:
    async with serving() as server:
        kv = await akv.connect(f"{server.url}/job")
        await kv.init("w", ONES)
        assert server._server is not None
        server._server.close()
        broken(server)
        lost = kv.push("w", ONES)
        other = akv.connect(f"{server.url}/job")
        with pytest.raises(ZeroDivisionError):
            async with kv:
                raise ZeroDivisionError
        with pytest.raises(akv.StoreClosed, match="push of key 'w'"):
            await lost
        with pytest.raises(akv.BackendUnavailable):
            await other
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (stored(server, "job", "w") == 1).all()


# -- it does not come back ------------------------------------------------------------------------------------


async def test_a_server_that_vanished() -> None:
    server = Running(lambda job: pytest.fail("no job"), None)  # only its port is wanted
    await server.run()
    await server.stop()
    async with serving(port=server.port) as first:
        kv = await akv.connect(f"{first.url}/job", reconnect=0.3)
        await kv.init("w", ONES)
        assert first._server is not None
        first._server.close()
        broken(first)
        started = time.monotonic()
        with pytest.raises(akv.ConnectionLost, match=rf"push of key 'w'.*{first.url}.*restored in \d\.\d s"):
            await kv.push("w", ONES)
        assert time.monotonic() - started < PATIENCE
        # It stays lost, and says so at once.
        with pytest.raises(akv.ConnectionLost, match="pull of key 'w'"):
            await kv.pull("w")
        with pytest.raises(akv.ConnectionLost, match="'v'"):
            await kv.wait_version("v", 1)
        await kv.aclose()
        assert (stored(first, "job", "w") == 1).all()


async def test_a_server_that_was_started_anew_knows_nobody() -> None:
    async with serving() as first:
        kv = await akv.connect(f"{first.url}/job")
        await kv.init("w", ONES)
        assert first._server is not None
        first._server.close()  # and no wait_closed: from 3.12.1 on that waits for the clients to go
        await asyncio.sleep(0)
        async with serving(port=first.port) as second:
            broken(first)
            with pytest.raises(akv.SessionExpired, match=rf"pull of key 'w'.*{second.url}.*started anew.*connect anew"):
                await kv.pull("w")
            await kv.aclose()
            async with akv.connect(f"{second.url}/job") as fresh:
                assert await fresh.keys() == []


async def test_a_client_that_was_away_for_too_long() -> None:
    async with serving(replace(QUICK, lease=0.2)) as server:
        fate = iter([Fate("swallow", up=True, after=5000), Fate("swallow", up=True, after=0), CALM])
        async with Proxy(server.port, fate).run() as url:
            kv = await akv.connect(f"{url}/job")
            await kv.init("w", np.zeros(300))
            with pytest.raises(akv.SessionExpired, match=r"0\.2 s"):
                await asyncio.gather(*[kv.push("w", np.zeros(300)) for _ in range(5)])
            await kv.aclose()
        assert server.sessions == []


# -- the server is stopped ------------------------------------------------------------------------------------


async def test_stopping_finishes_what_is_at_work() -> None:
    async with serving() as server:
        kv = await akv.connect(f"{server.url}/job")
        gate, big = Gate(3), np.ones(1 << 20, np.float32)
        await kv.init([*gate.gates, "w"], [big] * 4)
        server.jobs.store("job").storage.set_updater(FunctionUpdater(gate))
        pending = [kv.push(key, big) for key in gate.gates]
        waiting = [kv.wait_version("w", 99), kv.pull("w", min_version=99)]
        session = server.sessions[0]
        await until(lambda: gate.arrived and session.busy == 5 and not session.preparing)
        stopping = asyncio.ensure_future(server.stop())
        await until(lambda: server._stopping)
        waiting.append(kv.push("w", big))  # which comes too late
        gate.open()
        await stopping
        assert await asyncio.gather(*pending) == [2, 2, 2]
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(end, akv.StoreClosed) for end in ends)
        # All that was applied was acknowledged.
        assert [int(stored(server, "job", key).sum()) >> 20 for key in [*gate.gates, "w"]] == [2, 2, 2, 1]
        with pytest.raises(akv.StoreClosed, match=rf"pull of key 'w'.*{server.url}.*was stopped"):
            await kv.pull("w")
        await kv.aclose()


async def test_a_server_process_ends_when_told_to() -> None:
    with process() as (url, server):
        kv = await akv.connect(f"{url}/job")
        await kv.init("w", ONES)
        server.send_signal(signal.SIGTERM)
        with pytest.raises(akv.StoreClosed, match="was stopped"):
            await kv.wait_version("w", 2)
        await kv.aclose()
        await asyncio.to_thread(server.wait, PATIENCE)
        with pytest.raises(akv.BackendUnavailable):
            await akv.connect(f"{url}/job")


# -- heartbeats -----------------------------------------------------------------------------------------------

_QUICK_SERVER = """
import asyncio, signal
from akv.loop import run
from akv_tcp.hosting import host
from akv_tcp.server import Server
from akv_tcp.terms import Terms

async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = Server(host("memory://"), Terms(heartbeat=0.2))
    print("tcp://%s:%d" % await server.start("127.0.0.1", 0), flush=True)
    await stopped.wait()
    await server.stop()

run(main())
"""


async def test_a_frozen_server_is_noticed() -> None:
    with process(_QUICK_SERVER) as (url, server):
        kv = await akv.connect(f"{url}/job", reconnect=0.1)
        await kv.init("w", ONES)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(akv.ConnectionLost, match="pull of key 'w'"):
                await kv.pull("w")
            # Three heartbeats without a sign of life, then the time for a new connection.
            assert 0.4 < time.monotonic() - started < PATIENCE / 2
            await kv.aclose()
        finally:
            os.kill(server.pid, signal.SIGCONT)


async def test_a_server_that_was_frozen_goes_on() -> None:
    with process(_QUICK_SERVER) as (url, server):
        async with akv.connect(f"{url}/job") as kv:
            await kv.init("w", ONES)
            await kv.set_updater("add")
            os.kill(server.pid, signal.SIGSTOP)
            pending = [kv.push("w", ONES) for _ in range(5)]
            await asyncio.sleep(0.8)
            os.kill(server.pid, signal.SIGCONT)
            assert await asyncio.gather(*pending) == [2, 3, 4, 5, 6]


async def test_a_silent_client_is_cut_off_and_may_come_back() -> None:
    async with serving(QUICK) as server, Stranger(server) as client:
        await client.greet()
        started = time.monotonic()
        await until(lambda: server.connections == 0)
        assert 0.2 < time.monotonic() - started < PATIENCE / 2
        assert [session.responder for session in server.sessions] == [None]
        async with Stranger(server) as again:
            assert (await again.greet(resume=True)).resumed


async def test_heartbeats_keep_an_idle_connection() -> None:
    async with serving(QUICK) as server, akv.connect(f"{server.url}/job") as kv:
        connection = kv.engine.backend._channel.connection  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
        assert kv.engine.backend._channel.connection is connection  # type: ignore[attr-defined]
        assert server.connections == 1


async def test_a_client_whose_loop_stood_still_does_not_blame_the_server() -> None:
    with process(_QUICK_SERVER.replace("heartbeat=0.2", "heartbeat=0.4")) as (url, _):
        async with akv.connect(f"{url}/job") as kv:
            connection = kv.engine.backend._channel.connection  # type: ignore[attr-defined]
            time.sleep(0.9)  # noqa: ASYNC251 - that is the point; the server waits for 1.2 s
            await asyncio.sleep(0.05)
            assert kv.engine.backend._channel.connection is connection  # type: ignore[attr-defined]


@asynccontextmanager
async def deaf(server: Running) -> AsyncIterator[tuple[Stranger, list[w.Message]]]:
    """A client that only beats."""
    async with Stranger(server) as client:
        await client.greet()

        async def beat() -> None:
            for number in range(1, 1000):
                await client.send(w.Heartbeat(number))
                await asyncio.sleep(QUICK.heartbeat)

        beating = asyncio.create_task(beat())
        try:
            yield client, []
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


async def test_a_server_answers_heartbeats() -> None:
    async with serving(QUICK) as server, Stranger(server) as client:
        await client.greet()
        await client.send(w.Heartbeat(41))
        seen: list[int] = []
        while 41 not in seen:
            await client.send(w.Heartbeat(41))
            count = await asyncio.get_running_loop().sock_recv_into(client.socket, client.decoder.get_buffer())
            client.decoder.buffer_updated(count)
            while (event := client.decoder.next_event()) is not None:
                assert isinstance(event, w.Heartbeat)
                seen.append(event.pong)
