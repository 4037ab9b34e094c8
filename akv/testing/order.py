"""The order of things: one handle reads its own writes, fences, flush, and priority among what waits."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import akv
from akv.optim import SGD
from akv.testing.faces import ASYNC, ASYNC_QUEUED
from akv.testing.gate import held, many_held
from akv.testing.harness import Hooks, needs_functions, only
from akv.testing.samples import array, same
from akv.testing.subject import Subject
from akv.values.keys import Key

__all__ = ["OrderTests"]


class OrderTests(Hooks):
    async def test_a_handle_reads_its_own_writes(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.set_updater("add")
        pending = []
        for _ in range(1, 20):
            pending += [kv.push("w", array()), kv.pull("w")]
        for count in range(1, 20):
            assert await pending[2 * count - 2] == count + 1
            same(await pending[2 * count - 1], (count + 1) * array())

    async def test_calls_take_effect_without_being_awaited(self, subject: Subject, kv: akv.KVStore) -> None:
        kv.init("w", array())
        kv.push("w", array(seed=1))
        kv.push("w", array(seed=2))
        await kv.flush()
        await subject.check("w", array(seed=2), version=3)

    async def test_updaters_and_optimizers_are_fences(self, subject: Subject, kv: akv.KVStore) -> None:
        kv.init("w", 8 * array())
        kv.push("w", 4 * array())
        kv.set_updater("add")
        kv.push("w", 4 * array())
        kv.set_optimizer(SGD(learning_rate=1.0))
        kv.push("w", array())
        kv.set_learning_rate(2.0)
        kv.push("w", array())
        kv.set_updater("assign")
        before = kv.pull("w")
        kv.push("w", array())
        same(await before, 5 * array())
        await kv.flush()
        await subject.check("w", array(), version=6)

    async def test_keys_sees_what_came_before(self, kv: akv.KVStore) -> None:
        await kv.init("a", array())  # of two that are under way either may come first
        kv.init("b", array())
        first = kv.keys()
        kv.delete("a")
        second = kv.keys()
        kv.init("a", array())
        assert await first == ["a", "b"]
        assert await second == ["b"]
        assert await kv.keys() == ["b", "a"]

    async def test_barrier(self, kv: akv.KVStore) -> None:
        assert (kv.rank, kv.num_workers) == (0, 1)
        kv.init("w", array())
        for _ in range(3):
            await kv.barrier()
            await kv.barrier("epoch")

    @only(ASYNC, ASYNC_QUEUED)
    async def test_flush_waits_for_all_that_came_before(self, kv: akv.KVStore) -> None:
        big = np.zeros(1 << 20, np.float32)
        pending = [kv.init(["a", "b"], [big, big])]
        pending += [kv.push(key, big) for key in ("a", "b", "a")]
        await kv.flush()
        assert all(each.done() for each in pending)

    @only(ASYNC, ASYNC_QUEUED)
    async def test_flush_raises_what_nobody_has_seen_once(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        kv.push("not there", array())
        kv.push("w", array(shape=(3, 2)))
        with pytest.raises(akv.KeyNotFound, match="not there"):
            await kv.flush()
        with pytest.raises(akv.ShapeMismatch):
            await kv.flush()
        await kv.flush()

    @only(ASYNC, ASYNC_QUEUED)
    async def test_flush_is_silent_about_what_was_seen(self, kv: akv.KVStore) -> None:
        with pytest.raises(akv.KeyNotFound):
            await kv.pull("w")
        await asyncio.gather(kv.pull("w"), kv.push("w", array()), return_exceptions=True)
        await kv.flush()

    @needs_functions
    @only(ASYNC_QUEUED)
    async def test_a_fence_holds_back_its_own_handle_only(self, subject: Subject, kv: akv.KVStore) -> None:
        other = await subject.open()
        await kv.init(["w", "v"], [array(), array()])
        async with held(subject, kv):
            waiting = kv.push("gate", array(seed=1)), kv.barrier(), kv.push("w", array(seed=1))
            async with asyncio.timeout(subject.patience):
                assert await other.push("v", array(seed=1)) == 2
            assert not any(each.done() for each in waiting)
            assert (await other.info("w")).version == 1
        assert await waiting[2] == 2

    @needs_functions
    @only(ASYNC_QUEUED)
    async def test_the_urgent_goes_first(self, subject: Subject, kv: akv.KVStore) -> None:
        # As many pushes as the store starts at a time are held; what comes after them waits, and goes by priority.
        most = kv.engine.backend.budget.operations
        if most > 64:
            pytest.skip(f"this backend starts {most} operations at a time")
        gates: list[Key] = [f"gate {number}" for number in range(most)]
        late: list[Key] = ["low", "middle 1", "middle 2", "urgent"]
        await kv.init(late, [array()] * 4)
        async with asyncio.timeout(subject.patience), many_held(subject, kv, gates) as gate:
            pending = [kv.push(key, array(), priority) for key, priority in zip(late, (-5, 0, 0, 10), strict=True)]
            gate.open(gates[0])
            await asyncio.gather(*pending)
            assert gate.calls[most:] == ["urgent", "middle 1", "middle 2", "low"]

    @needs_functions
    @only(ASYNC_QUEUED)
    async def test_the_queue_is_bounded(self, subject: Subject) -> None:
        kv = await subject.open(max_queued=3)
        async with held(subject, kv):
            waiting = [kv.push("gate", array(seed=seed)) for seed in range(3)]
            with pytest.raises(akv.QueueFull, match="3"):
                await kv.push("gate", array())
        assert [await each for each in waiting] == [3, 4, 5]
        assert await kv.push("gate", array()) == 6
