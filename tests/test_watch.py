"""A watch gives out the versions of a key: the newest wins, and the reader learns how many it has missed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest
from store_cases import PATIENCE, jammed, named, ones, turns, until

import akv
from akv.operations import Wait


@pytest.fixture(params=[True, False], ids=["inline", "threads"])
async def kv(request: pytest.FixtureRequest) -> AsyncIterator[akv.KVStore]:
    store = await akv.connect("memory://", inline=request.param)
    await store.init("w", ones())
    yield store
    await store.aclose()


async def step(watch: akv.Watch) -> int:
    async with asyncio.timeout(PATIENCE):
        return await anext(watch)


class TestVersions:
    async def test_it_starts_with_the_current_one(self, kv: akv.KVStore) -> None:
        for _ in range(3):
            await kv.push("w", ones())
        watch = kv.watch("w")
        assert await step(watch) == 4
        assert watch.skipped == 0

    async def test_it_gives_each_version_once(self, kv: akv.KVStore) -> None:
        watch, seen = kv.watch("w"), []
        seen.append(await step(watch))
        for _ in range(5):
            await kv.push("w", ones())
            seen.append(await step(watch))
            assert watch.skipped == 0
        assert seen == [1, 2, 3, 4, 5, 6]

    async def test_a_slow_reader_gets_the_newest_and_the_number_it_missed(self, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        await step(watch)
        for _ in range(10):
            await kv.push("w", ones())
        assert await step(watch) == 11
        assert watch.skipped == 9
        await kv.push("w", ones())
        assert await step(watch) == 12
        assert watch.skipped == 0

    async def test_whatever_is_skipped_is_counted(self, kv: akv.KVStore) -> None:
        """Versions given out and versions skipped make all of them, in order, whoever is quicker."""
        watch = kv.watch("w")

        async def follow() -> None:
            last = 0
            while last < 201:
                version = await step(watch)
                assert version == last + watch.skipped + 1 or not last
                last = version

        following = asyncio.ensure_future(follow())
        for number in range(200):
            await kv.push("w", ones())
            if number % 7 == 0:
                await turns(number % 3)
        await following

    async def test_it_waits_for_the_next(self, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        await step(watch)
        waiting = asyncio.ensure_future(step(watch))
        await turns(20)
        assert not waiting.done()
        await kv.push("w", ones())
        assert await waiting == 2

    async def test_a_push_that_fails_is_no_version(self, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        await step(watch)
        waiting = asyncio.ensure_future(step(watch))
        await turns(2)
        with pytest.raises(akv.ShapeMismatch):
            await kv.push("w", np.ones(5, np.float32))
        await turns(20)
        assert not waiting.done()
        await kv.push("w", ones())
        assert await waiting == 2

    async def test_several_watches_of_one_key(self, kv: akv.KVStore) -> None:
        watches = [kv.watch("w") for _ in range(5)]
        assert [await step(watch) for watch in watches] == [1] * 5
        waiting = [asyncio.ensure_future(step(watch)) for watch in watches]
        await turns(3)
        await kv.push("w", ones())
        assert await asyncio.gather(*waiting) == [2] * 5

    async def test_it_follows_another_handle_of_another_thread(self) -> None:
        url, seen = named(), []

        def push() -> None:
            async def pushes() -> None:
                async with akv.connect(url) as other:
                    for version in range(2, 12):
                        await other.wait_version("echo", version)
                        await other.push("w", ones())

            asyncio.run(pushes())

        async with akv.connect(url) as kv:
            await kv.init(["w", "echo"], [ones(), ones()])
            thread = threading.Thread(target=push)
            thread.start()
            async with asyncio.timeout(PATIENCE):
                async for version in kv.watch("w"):
                    seen.append(version)
                    if version == 11:
                        break
                    await kv.push("echo", ones())
            thread.join(PATIENCE)
        assert seen == list(range(1, 12))

    async def test_it_does_not_queue_behind_pushes(self) -> None:
        """What is waited for is there: nothing has to be carried out, so no thread of the store is needed."""
        async with jammed() as (kv, gate):
            waiting = kv.wait_version(gate.gates[0], 2)
            for key in "abc":
                kv.push(key, ones())
            gate.open(gate.gates[0])
            kv.push("gate", ones())
            await until(lambda: "gate" in gate.arrived)  # all threads are busy again
            assert await waiting == 2

    @pytest.mark.parametrize("key", [None, 1.5, True, b"w"])
    async def test_no_key(self, kv: akv.KVStore, key: object) -> None:
        with pytest.raises(akv.KeyTypeError):
            kv.watch(key)  # type: ignore[arg-type]


class TestKeysThatComeAndGo:
    async def test_a_key_that_does_not_exist_yet(self, kv: akv.KVStore) -> None:
        waiting = asyncio.ensure_future(step(kv.watch("later")))
        await turns(3)
        assert not waiting.done()
        await kv.init("later", ones())
        assert await waiting == 1

    async def test_versions_go_on_after_a_delete(self, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        await kv.push("w", ones())
        assert await step(watch) == 2
        await kv.delete("w")
        waiting = asyncio.ensure_future(step(watch))
        await turns(10)
        assert not waiting.done()
        await kv.init("w", np.zeros((2, 2)))
        assert await waiting == 3
        assert watch.skipped == 0

    async def test_a_key_deleted_before_the_reader_looked(self, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        await step(watch)
        for _ in range(3):
            await kv.push("w", ones())
        await kv.delete("w")
        await kv.init("w", ones())
        assert await step(watch) == 5
        assert watch.skipped == 3

    async def test_a_wait_tells_no_version_that_was_not_reached(self, kv: akv.KVStore) -> None:
        """A delete comes between the push that ends the wait and the look at the version."""
        op = Wait("w", 2)
        storage = kv.engine.backend.storage  # type: ignore[attr-defined]
        await kv.push("w", ones())
        await kv.delete("w")
        assert op.perform(storage) == 2


class TestEnd:
    async def test_aclose_ends_the_loop_of_another_task(self, kv: akv.KVStore) -> None:
        watch, seen = kv.watch("w"), []

        async def follow() -> str:
            async for version in watch:
                seen.append(version)
            return "ended"

        following = asyncio.ensure_future(follow())
        await until(lambda: seen)
        await turns(5)
        await watch.aclose()
        assert await following == "ended"
        await kv.push("w", ones())
        assert seen == [1]
        with pytest.raises(StopAsyncIteration):
            await anext(watch)

    async def test_closing_twice_and_before_the_first_step(self, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        await watch.aclose()
        await watch.aclose()
        assert [version async for version in watch] == []

    async def test_a_cancelled_reader_is_cancelled(self, kv: akv.KVStore) -> None:
        """Also where the watch was closed at the same time: a cancellation is never swallowed."""
        for close in (False, True):
            watch = kv.watch("w")
            await step(watch)
            waiting = asyncio.ensure_future(step(watch))
            await turns(3)
            waiting.cancel()
            if close:
                await watch.aclose()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    async def test_a_cancelled_step_loses_no_version(self, kv: akv.KVStore) -> None:
        watch = kv.watch("w")
        await step(watch)
        waiting = asyncio.ensure_future(step(watch))
        await turns(3)
        await kv.push("w", ones())
        waiting.cancel()
        await asyncio.wait([waiting])
        if waiting.cancelled():
            assert await step(watch) == 2

    async def test_the_close_of_the_store_ends_it_with_an_error(self) -> None:
        kv = await akv.connect("memory://")
        watch = kv.watch("w")
        waiting = asyncio.ensure_future(step(watch))
        await turns(3)
        await kv.aclose()
        with pytest.raises(akv.StoreClosed, match="'w'"):
            await waiting
        with pytest.raises(akv.StoreClosed):
            await step(watch)

    async def test_the_close_of_another_handle_does_not(self) -> None:
        url = named()
        async with akv.connect(url) as kv:
            waiting = asyncio.ensure_future(step(kv.watch("w")))
            await turns(3)
            async with akv.connect(url) as other:
                await other.init("w", ones())
            assert await waiting == 1

    async def test_nothing_is_left_of_it(self, kv: akv.KVStore) -> None:
        """Neither of one that was left by `break`, nor of one that was closed."""
        async for _ in kv.watch("w"):
            break
        watch = kv.watch("not there")
        waiting = asyncio.ensure_future(step(watch))
        await turns(3)
        await watch.aclose()
        await asyncio.wait([waiting])
        assert isinstance(waiting.exception(), StopAsyncIteration | RuntimeError)
        assert not kv.engine._waits.parked
