"""Workers in processes of their own that are killed and replaced: the others end in time, nothing counts in part."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from tcp_cases import PATIENCE
from tcp_harm import IN_TIME, LIMIT, TIMEOUT, Harm, Place, Victim, ones, whole, with_victim
from worker_laws import stays

import akv

KILLS = 20


class TestKilled(Harm):
    @pytest.mark.parametrize("phase", ["before", "half-sent", "after"])
    async def test_the_others_end_in_time(self, place: Place, phase: str) -> None:
        """All at a time: one after the other they would take a minute."""
        policies = ["abort", "drop"] * (KILLS // 2)
        waited = await asyncio.gather(*[self._kill(place, phase, policy) for policy in policies])
        assert np.median(waited) <= IN_TIME
        assert max(waited) <= LIMIT

    async def _kill(self, place: Place, phase: str, policy: str) -> float:
        """The seconds that the other needs to go on, or to hear of it."""
        async with with_victim("dies", place, phase, policy) as (kv, victim, _):
            await kv.push("w", ones())
            pull = kv.pull("w")
            await victim.ended()
            start = time.monotonic()
            if phase == "after":  # its push had been accepted whole
                assert whole(await pull) == 3.0
                await kv.push("w", ones())
                pull = kv.pull("w")
            if policy == "drop":
                assert whole(await pull) == 1.0
            else:
                with pytest.raises(akv.WorkerLost, match=r"tcp://.*'w' needs ranks \[1\]") as info:
                    await pull
                assert info.value.ranks == (1,)
            waited = time.monotonic() - start
            if policy == "abort":
                assert whole(await kv.pull("w")) == 3.0
            return waited

    async def test_what_it_had_sent_ahead_does_not_count_as_a_sign_of_life(self, place: Place) -> None:
        async with with_victim("runs_ahead", place, "", "drop") as (kv, victim, _):
            await victim.ended()
            value = np.full(4, 2.0, np.float32)
            barrier = kv.barrier()
            await barrier  # until it is lost
            start = time.monotonic()
            seen = []
            for _ in range(5):
                await kv.push("w", value)
                seen.append(whole(await kv.pull("w")))
            # The two pushes that were accepted count, the one that was held does not.
            assert seen == [3.0, 3.0, 2.0, 2.0, 2.0]
            assert time.monotonic() - start < TIMEOUT  # not one of them had to wait for it to be lost again

    async def test_wait_waits_for_somebody_to_take_the_place(self, place: Place) -> None:
        async with with_victim("dies", place, "half-sent", "wait") as (kv, victim, url):
            await kv.push("w", ones())
            pull = kv.pull("w")
            await victim.ended()
            await asyncio.sleep(1.5 * TIMEOUT)
            await stays([pull], False)
            async with akv.connect(url, timeout=PATIENCE) as other:
                assert other.rank == 1
                await other.push("w", ones())
                assert whole(await pull) == whole(await other.pull("w")) == 2.0

    @pytest.mark.parametrize("policy", ["abort", "drop", "wait"])
    async def test_one_that_is_started_anew_takes_its_place_at_once(self, place: Place, policy: str) -> None:
        """Between rounds; several times with one server."""
        async with with_victim("dies", place, "after", policy) as (kv, victim, url):
            await kv.push("w", ones())
            assert whole(await kv.pull("w")) == 3.0
            await victim.ended()
            for _ in range(3):
                start = time.monotonic()
                again = await Victim.born("dies", place, url, "after")
                try:
                    # Whether it comes in before this push or after it, it is counted.
                    while True:
                        try:
                            await kv.push("w", ones())
                            value = whole(await kv.pull("w"))
                        except akv.WorkerLost:
                            continue
                        if value == 3.0:
                            break
                    assert await again.hear() == "ready"
                    await kv.push("w", ones())
                    assert whole(await kv.pull("w")) == 3.0
                    await again.ended()
                    assert time.monotonic() - start < PATIENCE
                finally:
                    again.end()
