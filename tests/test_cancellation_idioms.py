"""What asyncio offers to cancel with: time-outs, task groups, gather, shield."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from store_cases import jammed, named, ones, turns, until

import akv
from akv.backend.thread_pool import ThreadPool


class TestIdioms:
    async def test_timeout_around_a_wait(self) -> None:
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            for call in (lambda: kv.wait_version("w", 2), lambda: kv.pull("w", min_version=2)):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await call()
            assert await kv.push("w", ones()) == 2

    async def test_timeout_around_something_queued(self) -> None:
        async with jammed() as (kv, gate):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await kv.push("a", ones())
            gate.open()
            assert await kv.push("a", ones()) == 2

    async def test_timeout_of_the_store(self) -> None:
        """`timeout` of the URL: the call is withdrawn, and says what it waited for."""
        async with akv.connect("memory://", timeout=0.001) as impatient:
            await impatient.init("w", ones())
            with pytest.raises(akv.AkvTimeout, match=r"'w'.*0\.001 s.*version 3.*'w' is at version 1"):
                await impatient.wait_version("w", 3)
            with pytest.raises(akv.AkvTimeout, match=r"0\.001 s"):
                await anext(impatient.watch("not there"))
            assert await impatient.push("w", ones()) == 2

    async def test_timeout_of_the_store_for_something_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is cut off where that leaves nothing behind; the error is the same as for what was queued."""
        async with akv.connect(url := named(), inline=False) as patient:
            kv = await akv.connect(url, timeout=0.001)  # too impatient to close
            await patient.init("w", ones())
            work: list[Callable[[], None]] = []
            with monkeypatch.context() as patch:
                patch.setattr(ThreadPool, "submit", lambda pool, item, copies=1: work.append(item))
                pending = kv.push("w", ones(2))
                await until(lambda: pending.op.cancelled)
            assert not pending.done()
            work[0]()
            with pytest.raises(akv.AkvTimeout, match=r"push of key 'w'.*0\.001 s; it has started"):
                await pending
            assert (await patient.pull("w") == 1).all()

    async def test_a_task_group_that_fails_withdraws_the_rest(self) -> None:
        async def push(kv: akv.KVStore, key: str) -> None:
            await kv.push(key, ones())

        async def fail(kv: akv.KVStore) -> None:
            await kv.push("a", np.zeros(5, np.float32))

        async with jammed() as (kv, gate), akv.connect("memory://") as other:
            await other.init("a", ones())
            with pytest.RaisesGroup(akv.ShapeMismatch):
                async with asyncio.TaskGroup() as group:
                    for key in "abc":
                        group.create_task(push(kv, key))
                    group.create_task(fail(other))
            gate.open()
            assert [info.version for info in await kv.info([*"abc"])] == [1] * 3

    async def test_gather_takes_the_awaitables_themselves(self) -> None:
        async with jammed() as (kv, gate):
            pushes = [kv.push(key, ones()) for key in "abc"]
            gathered = asyncio.gather(*pushes)
            await turns(1)
            gathered.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gathered
            assert all(push.cancelled() for push in pushes)
            gate.open()
            assert await asyncio.gather(*(kv.push(key, ones()) for key in "abc")) == [2, 2, 2]

    async def test_shield_leaves_the_push_alone(self) -> None:
        async with jammed() as (kv, gate):
            push = kv.push("a", ones())
            outer = asyncio.shield(push)
            outer.cancel()
            gate.open()
            assert await push == 2

    async def test_the_message_of_a_cancellation_arrives(self) -> None:
        async with jammed() as (kv, _):
            queued = kv.push("a", ones())
            queued.cancel("why")
            with pytest.raises(asyncio.CancelledError, match="why"):
                await queued
