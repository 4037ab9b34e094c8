"""Several handles, tasks, threads, loops and both faces on one store."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable

import numpy as np
import pytest

import akv
from akv.testing.faces import ASYNC, ASYNC_QUEUED, in_thread
from akv.testing.harness import Hooks, only
from akv.testing.samples import array, same
from akv.testing.subject import Subject

__all__ = ["ConcurrencyTests"]

# 4 MiB is cut into slices, the other goes the shortest way.
every_size = pytest.mark.parametrize("shape", [(2, 3), (1024, 1024)], ids=str)


class ConcurrencyTests(Hooks):
    async def test_what_one_face_writes_the_other_reads(self, subject: Subject) -> None:
        awaited, blocking = await subject.open_async(), subject.open_blocking()
        await awaited.init("a", array())
        blocking.init("b", array(seed=1))
        same(blocking.pull("a"), array())
        same(await awaited.pull("b"), array(seed=1))
        blocking.set_updater("add")
        assert await awaited.push("a", array()) == 2
        assert blocking.push("a", array()) == 3
        same(await awaited.pull("a"), 3 * array())
        assert blocking.keys() == await awaited.keys() == ["a", "b"]
        assert blocking.info("a") == await awaited.info("a")
        await awaited.delete("a")
        with pytest.raises(akv.KeyNotFound):
            blocking.pull("a")
        await subject.check("b", array(seed=1), version=1)

    async def test_one_face_wakes_the_other(self, subject: Subject) -> None:
        awaited, blocking = await subject.open_async(), subject.open_blocking()
        async with asyncio.timeout(subject.patience):
            waiting = in_thread(lambda: blocking.wait_version("w", 2)), awaited.wait_version("w", 2)
            await awaited.init("w", array())
            blocking.push("w", array())
            assert [await each for each in waiting] == [2, 2]

    @every_size
    async def test_no_push_of_many_tasks_is_lost(self, subject: Subject, shape: tuple[int, ...]) -> None:
        handles = [await subject.open() for _ in range(4)]
        await handles[0].init("w", np.zeros(shape, np.int64))
        await handles[0].set_updater("add")
        one = np.ones(shape, np.int64)

        async def work(handle: akv.KVStore) -> list[int]:
            return [await handle.push("w", one) for _ in range(5)]

        versions = await asyncio.gather(*map(work, handles))
        assert sorted(itertools.chain(*versions)) == list(range(2, 22))
        assert all(own == sorted(own) for own in versions)
        await subject.check("w", 20 * one, version=21)

    @every_size
    async def test_no_push_of_many_threads_is_lost(self, subject: Subject, shape: tuple[int, ...]) -> None:
        shared = subject.open_blocking()
        shared.init("w", np.zeros(shape, np.int64))
        shared.set_updater("add")
        one = np.ones(shape, np.int64)
        stores = [shared, shared, subject.open_blocking()]
        async with asyncio.timeout(subject.patience):
            work = [in_thread(lambda store=store: [store.push("w", one) for _ in range(5)]) for store in stores]  # type: ignore[misc]
            own = await subject.open_async()
            versions = [[await own.push("w", one) for _ in range(5)], *await asyncio.gather(*work)]
        assert sorted(itertools.chain(*versions)) == list(range(2, 22))
        await subject.check("w", 20 * one, version=21)

    @every_size
    async def test_nobody_sees_half_a_value(self, subject: Subject, shape: tuple[int, ...]) -> None:
        kv, blocking = await subject.open_async(), subject.open_blocking()
        await kv.init("w", np.zeros(shape, np.int64))
        over = threading.Event()

        def read() -> int:
            count, out = 0, np.zeros(shape, np.int64)
            while not (over.is_set() and count):
                blocking.pull("w", out)
                for seen in (out, blocking.pull("w")):
                    assert (seen == seen.flat[0]).all(), "a half-written value"
                count += 1
            return count

        async with asyncio.timeout(subject.patience):
            reading = in_thread(read)
            for number in range(20):
                await kv.push("w", np.full(shape, number, np.int64))
                seen = await kv.pull("w")
                assert (seen == number).all()
            over.set()
            assert await reading

    async def test_many_threads_may_init(self, subject: Subject) -> None:
        stores = [subject.open_blocking() for _ in range(4)]
        async with asyncio.timeout(subject.patience):
            await asyncio.gather(*[in_thread(_initializer(store.init, seed)) for seed, store in enumerate(stores)])
        first = stores[0].pull("0")
        assert any(np.array_equal(first, array(seed=seed)) for seed in range(4))
        for number in range(10):
            await subject.check(str(number), stores[0].pull(str(number)), version=1)

    @only(ASYNC, ASYNC_QUEUED)
    async def test_loops_in_other_threads_share_the_store(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", np.zeros(3, np.int64))
        await kv.set_updater("add")

        async def work() -> None:
            async with akv.connect(subject.url) as own:
                for _ in range(10):
                    await own.push("w", np.ones(3, np.int64))

        async with asyncio.timeout(subject.patience):
            await asyncio.gather(*[in_thread(lambda: asyncio.run(work())) for _ in range(2)], work())
        await subject.check("w", np.full(3, 30, np.int64), version=31)

    @only(ASYNC, ASYNC_QUEUED)
    async def test_a_busy_pusher_leaves_the_loop_to_others(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        turns = 0

        async def count() -> None:
            nonlocal turns
            while turns < 10:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count())
        pushes = 0
        while turns < 10 and pushes < 100_000:
            await kv.push("w", array())
            pushes += 1
        assert turns == 10
        await other


def _initializer(init: Callable[[str, np.ndarray], None], seed: int) -> Callable[[], None]:
    def work() -> None:
        for number in range(10):
            init(str(number), array(seed=seed))

    return work
