"""Cancelling: what is queued is withdrawn, what has begun ends wholly or not at all, and no other call is harmed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import numpy as np
import pytest

import akv
from akv.testing.faces import ASYNC, ASYNC_QUEUED
from akv.testing.gate import held, many_held
from akv.testing.harness import Hooks, needs_functions, only
from akv.testing.samples import array, same
from akv.testing.subject import Subject

__all__ = ["CancellationTests"]


class CancellationTests(Hooks):
    @only(ASYNC_QUEUED)
    @needs_functions
    async def test_a_queued_push_is_withdrawn(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        async with held(subject, kv):
            before = kv.push("gate", array(seed=1))
            lost = kv.push(["gate", "w"], [array(seed=2), array(seed=2)])
            after = kv.push("gate", array(seed=3))
            assert lost.cancel()
            with pytest.raises(asyncio.CancelledError):
                await lost
            assert not lost.cancel()
            assert not before.done()
        async with asyncio.timeout(subject.patience):
            assert [await before, await after] == [3, 4]
        await subject.check("gate", array(seed=3), version=4)
        await subject.check("w", array(), version=1)

    @needs_functions
    @only(ASYNC_QUEUED)
    async def test_a_queued_pull_writes_nothing(self, subject: Subject, kv: akv.KVStore) -> None:
        out = np.full((2, 3), -1, np.float32)
        async with held(subject, kv):
            lost, kept = kv.pull("gate", out), kv.pull("gate")
            lost.cancel()
        async with asyncio.timeout(subject.patience):
            same(await kept, array(seed=9))
        assert lost.cancelled()
        assert (out == -1).all()

    @needs_functions
    @only(ASYNC_QUEUED)
    async def test_a_queued_fence_is_withdrawn(self, subject: Subject, kv: akv.KVStore) -> None:
        async with held(subject, kv):
            first, fence, after = kv.push("gate", array(seed=1)), kv.set_updater("add"), kv.push("gate", array(seed=2))
            fence.cancel()
        async with asyncio.timeout(subject.patience):
            assert [await first, await after] == [3, 4]
        await subject.check("gate", array(seed=2))

    @needs_functions
    @only(ASYNC_QUEUED)
    async def test_what_has_begun_is_done_for_all_keys_or_for_none(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [array(), array()])
        async with many_held(subject, kv, []) as gate:
            gate.close("a")
            begun = kv.push(["a", "b"], [array(seed=1), array(seed=1)])
            await gate.entered()
            begun.cancel()
            gate.open("a")
            await subject.settled(begun)
        async with asyncio.timeout(subject.patience):
            a, b = await kv.info(["a", "b"])
            assert a.version == b.version
            assert await kv.push(["a", "b"], [array(seed=2), array(seed=2)]) == [a.version + 1] * 2
        await subject.check("a", array(seed=2))
        await subject.check("b", array(seed=2))

    @only(ASYNC, ASYNC_QUEUED)
    @pytest.mark.parametrize("updater", ["assign", "add"])
    @pytest.mark.parametrize("turns", range(6))
    async def test_a_big_push_happens_wholly_or_not_at_all(
        self, subject: Subject, kv: akv.KVStore, updater: str, turns: int
    ) -> None:
        shape = (1 << 20,)
        zeros, ones = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        await kv.init(["a", "b"], [zeros, zeros])
        await kv.set_updater(updater)
        pending = kv.push(["a", "b"], [[ones, ones], ones])
        for _ in range(turns):
            await asyncio.sleep(0)
        pending.cancel()
        await subject.settled(pending)
        async with asyncio.timeout(subject.patience):
            # The buffers are the caller's again, whatever has become of the push.
            ones[...] = 5
            a, b = await kv.info(["a", "b"])
            assert a.version == b.version
            await subject.check("a", np.full(shape, 2 * (a.version - 1), np.float32))
            await subject.check("b", np.full(shape, a.version - 1, np.float32))
            assert await kv.push("a", zeros) == a.version + 1

    @only(ASYNC, ASYNC_QUEUED)
    async def test_a_cancelled_wait_is_forgotten(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        out = np.full((2, 3), -1, np.float32)
        for waiting in (kv.wait_version("w", 2), kv.pull("w", out, min_version=2)):
            await asyncio.sleep(0)
            assert waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await kv.push("w", array()) == 2
        await kv.flush()
        assert (out == -1).all()

    @only(ASYNC, ASYNC_QUEUED)
    async def test_a_task_that_waits_can_be_cancelled(self, subject: Subject, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        for wait in (kv.wait_version("w", 2), anext(watch)):
            task = asyncio.create_task(_awaits(wait))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await kv.init("w", array())
        assert await anext(watch) == 1

    @only(ASYNC, ASYNC_QUEUED)
    async def test_a_watch_can_be_closed_while_it_waits(self, subject: Subject, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        seen: list[int] = []
        some = asyncio.Event()

        async def follow() -> None:
            async for version in watch:
                seen.append(version)
                some.set()

        task = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await kv.init("w", array())
        async with asyncio.timeout(subject.patience):
            await some.wait()
            await watch.aclose()
            await task
        assert seen == [1]
        with pytest.raises(StopAsyncIteration):
            await anext(watch)

    @needs_functions
    @only(ASYNC_QUEUED)
    async def test_a_blocking_call_that_runs_out_of_time_is_withdrawn(self, subject: Subject, kv: akv.KVStore) -> None:
        blocking = subject.open_blocking()
        async with held(subject, kv):
            with pytest.raises(akv.AkvTimeout, match=r"push of key 'gate'.*0\.01 s"):
                blocking.push("gate", array(seed=1), timeout=0.01)
        await kv.push("gate", array(seed=2))
        await subject.check("gate", array(seed=2), version=3)

    @needs_functions
    @only(ASYNC_QUEUED)
    async def test_leaving_by_an_exception_withdraws_what_is_queued(self, subject: Subject, kv: akv.KVStore) -> None:
        other = await subject.open_async()
        async with held(subject, kv):
            lost = other.push("gate", array(seed=1))
            with pytest.raises(ZeroDivisionError):
                await _leave(other, ZeroDivisionError())
            with pytest.raises(akv.StoreClosed, match="gate"):
                await lost
        await subject.check("gate", array(seed=9), version=2)


async def _leave(kv: akv.KVStore, error: Exception) -> None:
    async with kv:
        raise error


async def _awaits(awaitable: Awaitable[object]) -> None:
    await awaitable
