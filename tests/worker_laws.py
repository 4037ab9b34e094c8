"""The laws of several workers, for every backend that has them: a test module says where the job is."""

from __future__ import annotations

import asyncio
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

import akv
from akv import sync
from akv.optim.kernels import sum_into

names = (f"workers-{number}" for number in itertools.count())


def gradient(rank: int, step: int, size: int = 1000, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(rank * 1000 + step).normal(size=size).astype(dtype)


async def stays(calls: Sequence[asyncio.Future[Any]], *done: bool) -> None:
    """Wait until these calls are done, and those are not, and see that it stays so for some round trips."""
    async with asyncio.timeout(20):
        while [call.done() for call in calls] != [*done]:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert [call.done() for call in calls] == [*done]


class WorkerLaws(ABC):
    """What holds for the workers of one job, wherever it is.

    Attributes:
        kind: what a handle's `type` is; worker_timeout: a short one; short: the time of a call that is to time out.
    """

    kind: str
    worker_timeout: float
    short: float

    @abstractmethod
    def url(self, options: str, on_nonfinite: str = "allow") -> str:
        """The URL of a new job."""

    def together(self, workers: int, body: Callable[[sync.KVStore], Any], **options: Any) -> list[Any]:
        """Run `body` with a handle of its own in a thread for each rank; return what each returned."""
        url = self.url(f"workers={workers}&timeout=20")
        results: list[Any] = [None] * workers
        errors: list[BaseException] = []

        def work(rank: int) -> None:
            try:
                with sync.connect(url, **options, rank=rank) as kv:
                    results[rank] = body(kv)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        if errors:
            raise errors[0]
        return results

    async def tasks(self, workers: int, body: Callable[[akv.KVStore], Awaitable[Any]], **options: Any) -> list[Any]:
        """Like `together`, with a task for each rank on one loop."""
        url = self.url(f"workers={workers}&timeout=20")

        async def work(rank: int) -> Any:
            async with akv.connect(url, **options, rank=rank) as kv:
                return await body(kv)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            started = [group.create_task(work(rank)) for rank in range(workers)]
        return [task.result() for task in started]

    # -- sync -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
    @pytest.mark.parametrize("size", [1000, 1 << 20])
    def test_sums_are_bit_equal_to_a_sum_in_rank_order(self, dtype: Any, size: int) -> None:
        def body(kv: sync.KVStore) -> list[np.ndarray]:
            kv.init("w", np.zeros(size, dtype))
            pulled = []
            for step in range(3):
                assert kv.push("w", gradient(kv.rank, step, size, dtype)) == step + 2
                pulled.append(kv.pull("w"))
            return pulled

        results = self.together(3, body)
        for step in range(3):
            expected = np.empty(size, dtype)
            sum_into(expected, [gradient(rank, step, size, dtype) for rank in range(3)])
            for pulled in results:
                np.testing.assert_array_equal(pulled[step], expected, strict=True)

    async def test_sums_through_the_async_face(self) -> None:
        async def body(kv: akv.KVStore) -> list[np.ndarray]:
            await kv.init("w", np.zeros(1000, np.float32))
            return [await kv.pushpull("w", gradient(kv.rank, step)) for step in range(5)]

        results = await self.tasks(4, body)
        for step in range(5):
            expected = np.empty(1000, np.float32)
            sum_into(expected, [gradient(rank, step) for rank in range(4)])
            assert all((pulled[step] == expected).all() for pulled in results)

    def test_an_optimizer_that_every_worker_sets_runs_once_a_round(self) -> None:
        def body(kv: sync.KVStore) -> np.ndarray:
            kv.init("w", np.ones(4, np.float32))
            kv.set_optimizer(akv.optim.SGD(learning_rate=0.5))
            for _ in range(3):
                kv.push("w", np.full(4, 1.0, np.float32))
            value: np.ndarray = kv.pull("w")
            return value

        for value in self.together(2, body):
            np.testing.assert_array_equal(value, np.full(4, 1.0 - 3 * 0.5 * 2, np.float32))

    async def test_workers_that_push_keys_in_different_order_do_not_wait_for_each_other(self) -> None:
        keys = ["a", "b", "c", "d"]

        async def body(kv: akv.KVStore) -> Any:
            order = keys if kv.rank == 0 else keys[::-1]
            for key in order:
                await kv.init(key, np.zeros(2))
            for key in order:
                assert await kv.push(key, np.full(2, kv.rank + 1.0)) == 2
            return await kv.pull(keys)

        for values in await self.tasks(2, body):
            assert all((value == 3.0).all() for value in values)

    async def test_a_worker_ahead_of_the_others_is_held_and_mixes_no_rounds(self) -> None:
        url = self.url("workers=2&timeout=20")
        async with akv.connect(url, rank=0) as first, akv.connect(url, rank=1) as second:
            await first.init("w", np.zeros(1))
            pushes = [first.push("w", np.full(1, 10.0**step)) for step in range(4)]
            await stays(pushes, True, True, False, False)
            seen = []
            for step in range(4):
                await second.push("w", np.full(1, 2 * 10.0**step))
                seen.append(float((await second.pull("w"))[0]))
            assert seen == [3.0, 30.0, 300.0, 3000.0]
            assert await asyncio.gather(*pushes) == [2, 3, 4, 5]

    async def test_the_callers_array_is_free_when_its_push_is_accepted(self) -> None:
        url = self.url("workers=2&timeout=20")
        async with akv.connect(url, rank=0) as first, akv.connect(url, rank=1) as second:
            for key, size in (("small", 4), ("large", 1 << 20)):
                array = np.ones(size, np.float32)
                await first.init(key, array)
                await first.push(key, array)
                array[:] = 7
                await second.push(key, np.ones(size, np.float32))
                assert ((await first.pull(key)) == 2).all()

    async def test_a_pull_waits_for_its_own_round_only_and_keeps_nobody_out(self) -> None:
        url = self.url("workers=2&timeout=20")
        async with akv.connect(url, rank=0) as first, akv.connect(url, rank=1) as second:
            await first.init("w", np.zeros(1))
            await first.push("w", np.ones(1))
            assert (await second.pull("w"))[0] == 0
            pull = first.pull("w")
            await stays([pull], False)
            await second.push("w", np.ones(1))
            assert (await pull)[0] == 2

    async def test_several_values_and_rows(self) -> None:
        async def body(kv: akv.KVStore) -> Any:
            await kv.init("w", np.zeros((3, 2)))
            await kv.set_updater("add")
            await kv.push("w", [np.ones((3, 2)), np.ones((3, 2))])
            await kv.push("w", akv.RowSparse([kv.rank], np.ones((1, 2)), (3, 2)))
            rows = await kv.row_sparse_pull("w", row_ids=[0, 2])
            return rows.todense()

        for dense in await self.tasks(2, body):
            np.testing.assert_array_equal(dense, [[5, 5], [0, 0], [4, 4]])

    # -- init, barriers, members ----------------------------------------------------------------------------------

    async def test_rank_0s_value_counts_and_the_others_wait_for_it(self) -> None:
        url = self.url("workers=2&timeout=20")
        async with akv.connect(url, rank=1) as second:
            init = second.init("w", np.full(2, 5.0))
            await stays([init], False)
            async with akv.connect(url, rank=0) as first:
                await first.init("w", np.full(2, 3.0))
                await init
                assert (await second.pull("w"))[0] == 3.0
                with pytest.raises(akv.KeyExists):
                    await first.init("w", np.zeros(2))
                with pytest.raises(akv.KeyExists):
                    await second.broadcast("w", np.zeros(2))

    def test_barriers_hold_all_workers_any_number_of_times(self) -> None:
        counts = [0, 0, 0]

        def body(kv: sync.KVStore) -> None:
            for number in range(1, 20):
                counts[kv.rank] = number
                kv.barrier()
                assert min(counts) == number
                kv.barrier("other")

        self.together(3, body)

    async def test_what_a_handle_knows_of_its_place(self) -> None:
        async def body(kv: akv.KVStore) -> tuple[int, int, bool, str]:
            return kv.rank, kv.num_workers, kv.is_capable("collective"), kv.type

        assert await self.tasks(2, body) == [(0, 2, True, self.kind), (1, 2, True, self.kind)]

    async def test_ranks_are_assigned_and_free_again_after_close(self) -> None:
        url = self.url("workers=2")
        first, second = await akv.connect(url), await akv.connect(url)
        assert [first.rank, second.rank] == [0, 1]
        with pytest.raises(akv.InvalidArgument, match="taken"):
            await akv.connect(url)
        await first.aclose()
        third = await akv.connect(url)
        assert third.rank == 0
        await second.aclose()
        await third.aclose()

    async def test_a_closed_handle_is_not_waited_for(self) -> None:
        url = self.url("workers=2&timeout=20")
        first, second = await akv.connect(url), await akv.connect(url)
        await first.init("w", np.zeros(1))
        await first.push("w", np.ones(1))
        pull, barrier = first.pull("w"), first.barrier()
        await second.aclose()
        assert (await pull)[0] == 1
        await barrier
        await first.aclose()

    async def test_readers_see_every_version_and_change_nothing(self) -> None:
        url = self.url("workers=1&timeout=20")
        async with akv.connect(url) as kv, akv.connect(url, role="reader") as reader:
            assert reader.rank == -1
            wait = reader.wait_version("w", 3)
            await kv.init("w", np.zeros(1))
            await kv.push("w", np.ones(1))
            await stays([wait], False)
            await kv.push("w", np.full(1, 2.0))
            assert await wait == 3
            assert (await reader.pull("w", min_version=3))[0] == 2
            for call in (
                reader.push("w", np.ones(1)),
                reader.init("v", np.ones(1)),
                reader.barrier(),
                reader.delete("w"),
            ):
                with pytest.raises(akv.InvalidArgument, match="reader"):
                    await call
            with pytest.raises(akv.InvalidArgument, match="reader"):
                await reader.set_optimizer(akv.optim.SGD(learning_rate=1.0))

    async def test_a_worker_may_wait_for_a_version_that_its_own_push_makes(self) -> None:
        async with akv.connect(self.url("workers=1&timeout=20")) as kv:
            pull, watch = kv.pull("w", min_version=2), kv.watch("w")
            await kv.init("w", np.zeros(1))
            assert await anext(watch) == 1
            await kv.push("w", np.ones(1))
            assert (await pull)[0] == 1
            assert await anext(watch) == 2
            await watch.aclose()

    # -- async and ssp --------------------------------------------------------------------------------------------

    def test_async_assigns_the_newest_push(self) -> None:
        def body(kv: sync.KVStore) -> None:
            kv.init("w", np.zeros(100))
            for step in range(50):
                version = kv.push("w", np.full(100, kv.rank * 1000.0 + step))
                value = kv.pull("w")
                assert (value == value[0]).all()
                assert version >= step + 2
            kv.barrier()
            assert kv.info("w").version == 101

        self.together(2, body, consistency="async")

    async def test_async_adds_every_push_once(self) -> None:
        async def body(kv: akv.KVStore) -> Any:
            await kv.init("w", np.zeros(8))
            await kv.set_updater("add")
            await asyncio.gather(*[kv.push("w", np.ones(8)) for _ in range(100)])
            await kv.barrier()
            return await kv.pull("w")

        for value in await self.tasks(3, body, consistency="async"):
            np.testing.assert_array_equal(value, np.full(8, 300.0))

    async def test_ssp_holds_the_worker_that_is_too_far_ahead(self) -> None:
        url = self.url("workers=2&consistency=ssp&staleness=1&timeout=20")
        async with akv.connect(url) as first, akv.connect(url) as second:
            await first.init("w", np.zeros(1))
            pushes = [first.push("w", np.ones(1)) for _ in range(4)]
            await stays(pushes, True, True, False, False)
            await second.push("w", np.ones(1))
            assert await pushes[2] == 5
            assert not pushes[3].done()
            await second.push("w", np.ones(1))
            await pushes[3]

    # -- what goes wrong ------------------------------------------------------------------------------------------

    async def test_an_error_in_a_push_leaves_the_round_to_a_better_one(self) -> None:
        url = self.url("workers=2&timeout=20", on_nonfinite="reject")
        async with akv.connect(url) as first, akv.connect(url) as second:
            await first.init(["v", "w"], [np.zeros(2), np.zeros(2)])
            for wrong, error in (
                (np.zeros(3), akv.ShapeMismatch),
                (np.zeros(2, np.float32), akv.DTypeMismatch),
                (np.array([1.0, np.nan]), akv.NonFinite),
            ):
                with pytest.raises(error):
                    await first.push(["v", "w"], [np.ones(2), wrong])
            with pytest.raises(akv.KeyNotFound, match="push"):
                await first.push("x", np.zeros(1))
            with pytest.raises(akv.ShapeMismatch):
                await first.pushpull("w", np.ones(2), out=np.zeros(3))
            await first.push("w", np.ones(2))
            await second.push("w", np.ones(2))
            assert ((await first.pull("w")) == 2).all()
            assert ((await first.pull("v")) == 0).all()

    async def test_skip_leaves_out_one_contribution(self) -> None:
        url = self.url("workers=2&timeout=20", on_nonfinite="skip")
        async with akv.connect(url) as first, akv.connect(url) as second:
            await first.init("w", np.zeros(2))
            await first.push("w", np.array([1.0, np.inf]))
            await second.push("w", np.ones(2))
            assert ((await first.pull("w")) == 1).all()

    async def test_a_round_of_which_all_is_skipped_makes_the_version_that_its_pushes_were_told(self) -> None:
        url = self.url("workers=2&timeout=20", on_nonfinite="skip")
        async with akv.connect(url) as first, akv.connect(url) as second:
            await first.init("w", np.ones(2))
            bad = np.full(2, np.nan)
            told = [await kv.push("w", bad) for kv in (first, second)]
            value = await first.pull("w", min_version=max(told))
            np.testing.assert_array_equal(value, np.ones(2))
            assert told == [2, 2]
            assert (await second.info("w")).version == 2

    async def test_a_call_that_waits_can_be_cancelled_or_time_out_and_harms_nobody(self) -> None:
        url = self.url("workers=2")
        first, second = await akv.connect(url, timeout=self.short), await akv.connect(url, timeout=20)
        await first.init("w", np.zeros(1))
        await first.push("w", np.ones(1))
        pull, barrier = first.pull("w"), second.barrier()
        with pytest.raises(akv.AkvTimeout, match=r"pull.*'w'.* ranks \[1\]"):
            await pull
        barrier.cancel()
        with pytest.raises(asyncio.CancelledError):
            await barrier
        cancelled = first.pull("w")
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await second.push("w", np.ones(1))
        assert (await first.pull("w"))[0] == 2
        await asyncio.gather(first.barrier(), second.barrier())
        await first.aclose()
        await second.aclose()

    def test_a_blocked_call_times_out(self) -> None:
        with sync.connect(self.url("workers=2")) as kv:
            kv.init("w", np.zeros(1))
            kv.push("w", np.ones(1))
            with pytest.raises(akv.AkvTimeout, match=r"'w'.* ranks \[1\]"):
                kv.pull("w", timeout=0.02)
            with pytest.raises(akv.AkvTimeout, match=r"barrier.* ranks \[1\]"):
                kv.barrier(timeout=0.02)

    async def test_a_worker_that_never_comes(self) -> None:
        url = self.url(f"workers=2&worker_timeout={self.worker_timeout}&timeout=20")
        async with akv.connect(url) as kv:
            await kv.init("w", np.zeros(1))
            await kv.push("w", np.ones(1))
            pull, wait, barrier = kv.pull("w"), kv.wait_version("w", 2), kv.barrier()
            for call in (pull, wait, barrier):
                with pytest.raises(akv.WorkerLost, match="1"):
                    await call
            with pytest.raises(akv.WorkerLost):
                await kv.push("w", np.ones(1))
            async with akv.connect(url) as late:
                await asyncio.gather(late.push("w", np.ones(1)), kv.push("w", np.ones(1)))
                assert (await kv.pull("w"))[0] == 2

    async def test_delete_and_a_new_beginning(self) -> None:
        url = self.url("workers=2&timeout=20")
        async with akv.connect(url) as first, akv.connect(url) as second:
            await first.init("w", np.zeros(1))
            await first.push("w", np.ones(1))
            await second.delete("w")
            with pytest.raises(akv.KeyNotFound):
                await first.pull("w")
            await first.init("w", np.zeros(3))
            await first.push("w", np.ones(3))
            await second.push("w", np.ones(3))
            assert ((await first.pull("w")) == 2).all()

    async def test_large_and_small_keys_of_many_workers_at_once(self) -> None:
        sizes = {f"k{place}": size for place, size in enumerate((1, 100, 1 << 18, 1 << 20, 7))}

        async def body(kv: akv.KVStore) -> None:
            for key, size in sizes.items():
                await kv.init(key, np.zeros(size, np.float32))
            for step in range(4):
                for place, (key, size) in enumerate(sizes.items()):
                    kv.push(key, np.full(size, kv.rank + step, np.float32), priority=-place)
                for key, value in zip(sizes, await kv.pull(list(sizes)), strict=True):
                    assert (value == sum(rank + step for rank in range(3))).all(), key

        await self.tasks(3, body)
