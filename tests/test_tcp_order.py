"""What is urgent goes first, on its way to the server and back; order is looked at, never time."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from tcp_cases import PATIENCE, serving
from test_tcp_cancel import connection_of, hold, stuck

import akv
from akv.engine import Engine
from akv.values.keys import Key
from akv_tcp import wire as w
from akv_tcp.hosting import host
from akv_tcp.memory_budget import Share
from akv_tcp.session import Session

LARGE = 64 << 20
SMALL = np.zeros(16, np.float32)


class Witness(Session):
    """Keeps the keys of requests, in the order in which they came whole."""

    seen: list[Key | None]

    def __init__(self, job: str, client: bytes, engine: Engine) -> None:
        super().__init__(job, client, engine)
        self.seen = []

    def take(self, request: w.Request, share: Share) -> None:
        if isinstance(request, w.Batch | w.Read):
            self.seen.append(request.entries[0].key)
        super().take(request, share)


@pytest.mark.parametrize("priority", [0, 5])
async def test_a_small_pull_overtakes_a_large_push(priority: int) -> None:
    async with serving(make_engine=host("memory://")) as server, akv.connect(f"{server.url}/job", timeout=5.0) as kv:
        large = np.zeros(LARGE, np.uint8)
        await kv.init("large", large)
        await kv.init("small", SMALL)
        pushing = kv.push("large", large)
        await kv.pull("small", np.empty_like(SMALL), priority)
        assert not pushing.done()
        assert await pushing == 2


@pytest.mark.parametrize("priority", [0, 5])
async def test_a_small_push_overtakes_a_large_pull(priority: int) -> None:
    async with serving(make_engine=host("memory://")) as server, akv.connect(f"{server.url}/job", timeout=5.0) as kv:
        large, out = np.ones(LARGE, np.uint8), np.zeros(LARGE, np.uint8)
        await kv.init("large", large)
        await kv.init("small", SMALL)
        connection = connection_of(kv)
        start, pulling = connection.count, kv.pull("large", out)
        while connection.count == start:
            await asyncio.sleep(0)
        assert await kv.push("small", SMALL, priority) == 2
        assert not pulling.done()
        await pulling
        assert out.all()


async def test_a_large_push_overtakes_one_that_is_less_urgent() -> None:
    async with serving(new_session=Witness) as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init(["low", "high"], [np.zeros(LARGE // 4, np.uint8)] * 2)
        go_on = hold(server)
        low = kv.push("low", np.ones(LARGE // 4, np.uint8), -1)
        await stuck(connection_of(kv))
        high = kv.push("high", np.ones(LARGE // 4, np.uint8), 1)
        await asyncio.sleep(0)
        go_on()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(low, high)
        (session,) = server.sessions
        assert isinstance(session, Witness)
        assert session.seen[-2:] == ["high", "low"]


async def test_a_large_pull_overtakes_one_that_is_less_urgent() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, asyncio.timeout(PATIENCE):
        for key in ("low", "high"):
            await kv.init(key, np.ones(LARGE // 2, np.uint8))
        connection = connection_of(kv)
        start, low = connection.count, kv.pull("low", None, -1)
        while connection.count == start:
            await asyncio.sleep(0)
        await kv.pull("high", None, 1)
        assert not low.done()
        await low


async def test_small_ones_go_by_priority_then_by_age() -> None:
    async with serving(new_session=Witness) as server, akv.connect(f"{server.url}/job") as kv:
        names = [f"w{number}" for number in range(50)]
        await kv.init(names, [SMALL] * 50)
        (session,) = server.sessions
        assert isinstance(session, Witness)
        session.seen.clear()
        priorities = [number * 7 % 5 for number in range(50)]
        await asyncio.gather(*[kv.push(name, SMALL, priorities[place]) for place, name in enumerate(names)])
        assert session.seen == [names[place] for place in sorted(range(50), key=lambda place: -priorities[place])]


async def test_one_handle_sees_its_own_writes_whatever_the_sizes() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, asyncio.timeout(PATIENCE):
        await kv.init("w", np.zeros(300_000, np.int64))
        pending = []
        for number in range(1, 8):
            pending += [kv.push("w", np.full(300_000, number), -number), kv.pull("w", None, number)]
        for number in range(1, 8):
            assert await pending[2 * number - 2] == number + 1
            assert (await pending[2 * number - 1] == number).all()
