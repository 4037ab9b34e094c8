"""Workers that fall silent, and come back or do not: the others end in time, and who comes back is counted again."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from tcp_cases import PATIENCE, serving
from tcp_harm import LIMIT, Harm, Place, Victim, ones, whole, with_victim
from tcp_proxy import Fate, Proxy
from worker_laws import stays

import akv
from akv_tcp.terms import Terms


class TestFrozen(Harm):
    @pytest.mark.parametrize("phase", ["before", "half-sent", "after"])
    async def test_the_others_end_in_time_and_it_comes_back(self, place: Place, phase: str) -> None:
        """Both at a time: most of it is waiting."""
        await asyncio.gather(*[self._freeze(place, phase, policy) for policy in ("abort", "drop")])

    async def _freeze(self, place: Place, phase: str, policy: str) -> None:
        async with with_victim("goes_on", place, phase, policy) as (kv, victim, _):
            await kv.push("w", ones())
            pull = kv.pull("w")
            await victim.stopped()
            start = time.monotonic()
            if phase == "after":
                assert whole(await pull) == 3.0
                await kv.push("w", ones())
                pull = kv.pull("w")
            if policy == "drop":
                assert whole(await pull) == 1.0
            else:
                with pytest.raises(akv.WorkerLost):
                    await pull
            assert time.monotonic() - start <= LIMIT
            version = (await kv.info("w")).version
            victim.go_on()
            await self._comes_back(kv, victim, phase, version)

    async def _comes_back(self, kv: akv.KVStore, victim: Victim, phase: str, version: int) -> None:
        """Its push counts once, whole, in the round that is open then, or it was in an earlier one."""
        if phase == "after":
            assert await victim.hear() == ("pushed", 3)
            assert (await victim.hear())[0] == "pulled"
        else:
            assert await victim.hear() == ("pushed", version + 1)
            await kv.push("w", ones())
            assert whole(await kv.pull("w")) == 3.0
            assert await victim.hear() == ("pulled", 3.0)
        victim.told.send("go on")
        await kv.push("w", ones())
        assert whole(await kv.pull("w")) == 3.0
        assert await victim.hear() == ("pushpulled", 3.0)

    async def test_one_whose_place_was_given_away_is_told(self, place: Place) -> None:
        async with with_victim("goes_on", place, "before", "abort") as (kv, victim, url):
            await victim.stopped()
            await kv.push("w", ones())
            with pytest.raises(akv.WorkerLost):
                await kv.pull("w")
            async with akv.connect(url, rank=1, timeout=PATIENCE) as other:
                await asyncio.gather(kv.push("w", ones()), other.push("w", ones()))
                assert whole(await kv.pull("w")) == 2.0
                victim.go_on()
                kind, text = await victim.hear()
                assert kind == "SessionExpired"
                assert "rank 1 was given to another worker" in text


# -- without processes ----------------------------------------------------------------------------------------


async def test_a_connection_that_swallows_everything_is_a_lost_worker_that_comes_back() -> None:
    terms = Terms(heartbeat=0.05)
    async with (
        serving(terms) as server,
        Proxy(server.port, iter([Fate("swallow", True, 600), *[Fate()] * 9])).run() as url,
    ):
        options = "workers=2&worker_timeout=0.4&timeout=20"
        async with akv.connect(f"{server.url}/job?{options}", rank=0) as kv:
            async with akv.connect(f"{url}/job?{options}", rank=1) as other:
                await asyncio.gather(kv.init("w", np.zeros(64)), other.init("w", np.zeros(64)))
                lost = 0
                for _ in range(4):
                    try:
                        await asyncio.gather(kv.pushpull("w", np.ones(64)), other.pushpull("w", np.ones(64)))
                    except akv.WorkerLost:
                        lost += 1
                await kv.push("w", np.ones(64))
                await other.push("w", np.ones(64))
                assert ((await kv.pull("w")) == 2).all()
                assert (other.rank, lost <= 1) == (1, True)


async def test_a_server_that_stood_still_blames_nobody() -> None:
    async with serving(Terms(heartbeat=0.05)) as server:
        url = f"{server.url}/job?workers=2&worker_timeout=0.2&timeout=20"
        async with akv.connect(url) as kv, akv.connect(url) as other:
            await kv.init("w", np.zeros(1))
            await kv.push("w", np.ones(1))
            for _ in range(3):
                time.sleep(0.3)  # noqa: ASYNC251 - the loop of all three
                await asyncio.sleep(0.01)
            await other.push("w", np.ones(1))
            assert (await kv.pull("w"))[0] == 2


async def test_a_client_that_the_server_forgot_was_lost_and_has_not_left() -> None:
    """With on_worker_loss=wait the others go on waiting for its place to be taken."""
    async with serving(Terms(heartbeat=0.05, lease=0.2)) as server:
        url = f"{server.url}/job?workers=2&worker_timeout=0.2&on_worker_loss=wait&timeout=20"
        async with akv.connect(url, rank=0) as kv:
            async with akv.connect(url, rank=1, reconnect=0.01) as other:
                await kv.init("w", np.zeros(1))
                await kv.push("w", np.ones(1))
                (session,) = [each for each in server.sessions if each.engine.backend.rank == 1]
                session.responder.connection.abort()  # type: ignore[union-attr, attr-defined]
                other.engine.backend._channel.abort()  # type: ignore[attr-defined]
                async with asyncio.timeout(PATIENCE):
                    while len(server.sessions) > 1:
                        await asyncio.sleep(0.01)
            pull = kv.pull("w")
            await stays([pull], False)
            async with akv.connect(url, rank=1) as third:
                await third.push("w", np.full(1, 2.0))
                assert (await pull)[0] == 3
