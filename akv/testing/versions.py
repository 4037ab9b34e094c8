"""Versions: each push makes one, they never go back, and one can wait for them."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import akv
from akv.testing.harness import Hooks
from akv.testing.samples import array, same
from akv.testing.subject import Subject

__all__ = ["VersionTests"]


class VersionTests(Hooks):
    async def test_each_push_makes_one_version(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [array(), array()])
        for number in range(2, 7):
            assert await kv.push("a", array(seed=number)) == number
            await subject.check("a", array(seed=number), version=number)
        assert await kv.push(["b", "a"], [array(), array()]) == [2, 7]
        assert await kv.push(["a", "b", "a"], [[array(), array()], array(), array()]) == [8, 3, 8]
        await kv.pushpull("a", array(), np.zeros((2, 3), np.float32))
        assert (await kv.info("a")).version == 9

    @pytest.mark.parametrize("updater", ["assign", "add"])
    async def test_a_push_that_changes_nothing_is_a_version_too(self, kv: akv.KVStore, updater: str) -> None:
        await kv.init("w", np.zeros(3))
        await kv.set_updater(updater)
        assert [await kv.push("w", np.zeros(3)) for _ in range(3)] == [2, 3, 4]

    async def test_an_error_makes_no_version(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        with pytest.raises(akv.ShapeMismatch):
            await kv.push("w", array(shape=(3, 2)))
        await subject.check("w", array(), version=1)
        assert await kv.push("w", array()) == 2

    async def test_a_second_init_makes_no_version(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        other = await subject.open()
        await other.init("w", array(seed=1))
        await subject.check("w", array(), version=1)

    async def test_versions_do_not_go_back_across_delete(self, subject: Subject, kv: akv.KVStore) -> None:
        last = 0
        for _ in range(3):
            await kv.init("w", array())
            first = (await kv.info("w")).version
            assert first > last
            assert await kv.push("w", array()) == first + 1
            last = first + 1
            await kv.delete("w")
        await kv.init("v", array())
        assert (await kv.info("v")).version == 1

    async def test_wait_version_that_is_there(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.push("w", array())
        numbers: list[Any] = [0, 1, 2, np.int64(2)]
        for version in numbers:
            assert await kv.wait_version("w", version) == 2
        assert await kv.wait_version("not there", 0) == 0

    async def test_wait_version_that_comes(self, subject: Subject, kv: akv.KVStore) -> None:
        other = await subject.open()
        waiting = [asyncio.ensure_future(kv.wait_version("w", version)) for version in (3, 1, 2)]
        await other.init("w", array())
        async with asyncio.timeout(subject.patience):
            assert await waiting[1] >= 1
            assert not waiting[0].done()
            await other.push("w", array())
            assert await waiting[2] >= 2
            assert not waiting[0].done()
            await other.push("w", array())
            assert await waiting[0] == 3

    async def test_pull_with_min_version(self, subject: Subject, kv: akv.KVStore) -> None:
        other = await subject.open()
        out = np.zeros((2, 3), np.float32)
        fresh = asyncio.ensure_future(kv.pull("w", min_version=1))
        into = asyncio.ensure_future(kv.pull("w", out, min_version=2))
        both = asyncio.ensure_future(kv.pull(["w", "v"], min_version=2))
        async with asyncio.timeout(subject.patience):
            await other.init(["w", "v"], [array(), array()])
            same(await fresh, array())
            await other.push("v", array(seed=2))
            assert not into.done()
            assert not both.done()
            assert not out.any()
            await other.push("w", array(seed=1))
            assert await into is out
            same(out, array(seed=1))
            w, v = await both
        same(w, array(seed=1))
        same(v, array(seed=2))

    async def test_who_waits_holds_nobody_up(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        waiting = asyncio.ensure_future(kv.wait_version("w", 4))
        async with asyncio.timeout(subject.patience):
            for number in range(2, 5):
                assert await kv.push("w", array()) == number
            assert await waiting == 4

    async def test_waiting_across_a_delete(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        waiting = asyncio.ensure_future(kv.wait_version("w", 3))
        async with asyncio.timeout(subject.patience):
            await kv.delete("w")
            await kv.init("w", array())
            await kv.push("w", array())
            assert await waiting == 3

    async def test_watch_gives_every_version_to_a_quick_reader(self, subject: Subject, kv: akv.KVStore) -> None:
        other = await subject.open()
        watch = kv.watch("w")
        async with asyncio.timeout(subject.patience):
            step = asyncio.ensure_future(anext(watch))
            await other.init("w", array())
            assert await step == 1
            for number in range(2, 5):
                step = asyncio.ensure_future(anext(watch))
                await other.push("w", array())
                assert (await step, watch.skipped) == (number, 0)

    async def test_watch_gives_the_newest_to_a_slow_reader(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.push("w", array())
        watch = kv.watch("w")
        async with asyncio.timeout(subject.patience):
            assert (await anext(watch), watch.skipped) == (2, 0)
            for _ in range(3):
                await kv.push("w", array())
            assert (await anext(watch), watch.skipped) == (5, 2)
            await kv.push("w", array())
            assert (await anext(watch), watch.skipped) == (6, 0)

    async def test_watch_goes_on_after_a_delete(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        watch = kv.watch("w")
        async with asyncio.timeout(subject.patience):
            assert await anext(watch) == 1
            step = asyncio.ensure_future(anext(watch))
            await kv.delete("w")
            await kv.init("w", array())
            assert await step == 2

    async def test_several_watches(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [array(), array()])
        watches = [kv.watch("a"), (await subject.open()).watch("a"), kv.watch("b")]
        async with asyncio.timeout(subject.patience):
            assert [await anext(watch) for watch in watches] == [1, 1, 1]
            steps = [asyncio.ensure_future(anext(watch)) for watch in watches]
            await kv.push("a", array())
            assert [await step for step in steps[:2]] == [2, 2]
            assert not steps[2].done()
            await kv.push("b", array())
            assert await steps[2] == 2

    async def test_a_wait_ends_with_its_time(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        hasty = await subject.open(timeout=0.02)
        for wait in (
            lambda: hasty.wait_version("w", 7),
            lambda: hasty.pull("w", min_version=7),
            lambda: anext(hasty.watch("v")),
        ):
            with pytest.raises(akv.AkvTimeout, match=r"'w' is at version 1|'v' is at version 0") as caught:
                await wait()
            assert "0.02 s" in str(caught.value)
            assert isinstance(caught.value, TimeoutError)
        assert await kv.push("w", array()) == 2
