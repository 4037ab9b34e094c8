"""What the simulation has found, without it."""

from __future__ import annotations

import asyncio

import numpy as np
from tcp_cases import QUICK, Stranger, serving, until

import akv
from akv_tcp import wire as w
from akv_tcp.terms import Terms


def pull(number: int) -> w.Pull:
    return w.Pull(number, 0, None, False, (w.Entry("w"),))


async def test_who_waits_for_a_version_may_push_more_than_its_window() -> None:
    """Its own push is what it waits for: the wait counted as something the connection holds, and kept the push out."""
    async with serving(Terms(window=10_000)) as server, akv.connect(f"{server.url}/job", timeout=5.0) as kv:
        await kv.init("w", np.zeros(20_000, np.uint8))
        waiting = kv.wait_version("w", 2)
        await until(lambda: server.sessions[0].busy)
        assert await kv.push("w", np.ones(20_000, np.uint8)) == 2
        assert await waiting == 2


async def test_who_comes_back_may_ask_for_what_is_on_its_way_already() -> None:
    """What was carried out while it was away is answered on its new connection, before it has asked again."""
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(64 << 20, np.uint8))  # a socket of this system may take 36 MiB
        async with Stranger(server) as client:
            await client.greet()
        async with Stranger(server) as client:
            await client.greet(resume=True)
            await client.send(pull(1))
            await until(lambda: server.budget.backlog)
            await client.send(pull(1), pull(2))
            for number in (1, 2):
                answer = await client.event()
                assert isinstance(answer, w.Result)
                assert answer.request == number


async def test_a_handle_that_says_good_bye_as_its_connection_breaks_does_not_come_back() -> None:
    async with serving(QUICK) as server:
        kv = await akv.connect(f"{server.url}/job")
        kv._close()
        await until(lambda: server.connections)
        for peer in list(server._peers):
            peer.connection.abort()
        await until(lambda: not server.connections)
        await asyncio.sleep(0.15)  # the first pause before an attempt to connect again is 50 ms
        assert not server.connections
