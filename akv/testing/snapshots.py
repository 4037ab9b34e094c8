"""Snapshots: the value as it is now, for ever, and nobody can write to it. A capability: snapshots."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import numpy as np
import pytest

import akv
from akv.optim import SGD
from akv.testing.harness import Hooks, needs_snapshots
from akv.testing.samples import DTYPES, SHAPES, array, same
from akv.testing.subject import Subject
from akv.values.keys import Key

__all__ = ["SnapshotTests"]


async def assign(kv: akv.KVStore) -> None:
    await kv.push("w", array(seed=5))


async def assign_sum(kv: akv.KVStore) -> None:
    await kv.push("w", [array(seed=5), array(seed=6)])


async def donate(kv: akv.KVStore) -> None:
    await kv.push("w", array(seed=5), donate=True)
    await kv.push("w", array(seed=6))


async def add(kv: akv.KVStore) -> None:
    await kv.set_updater("add")
    await kv.push("w", array(seed=5) + 1)


async def add_rows(kv: akv.KVStore) -> None:
    await kv.set_updater("add")
    await kv.push("w", akv.RowSparse([1], np.ones((1, 3), np.float32), (2, 3)))


async def assign_rows(kv: akv.KVStore) -> None:
    await kv.push("w", akv.RowSparse([1], np.ones((1, 3), np.float32), (2, 3)))


async def call(kv: akv.KVStore) -> None:
    def fill(key: Key, pushed: np.ndarray, stored: np.ndarray) -> None:
        stored[...] = -1

    await kv.set_updater(fill)
    await kv.push("w", array())


async def optimize(kv: akv.KVStore) -> None:
    await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
    await kv.push("w", array(seed=5) + 1)


async def pushpull(kv: akv.KVStore) -> None:
    await kv.pushpull("w", array(seed=5), np.zeros((2, 3), np.float32))


async def delete(kv: akv.KVStore) -> None:
    await kv.delete("w")
    await kv.init("w", array(seed=5))


CHANGES = [assign, assign_sum, donate, add, add_rows, assign_rows, call, optimize, pushpull, delete]
Change = Callable[[akv.KVStore], Awaitable[None]]
every_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)


class SnapshotTests(Hooks):
    @needs_snapshots
    async def test_a_snapshot_is_the_value(self, kv: akv.KVStore) -> None:
        values = [array(dtype, shape) for dtype in DTYPES for shape in SHAPES]
        names = [f"{value.dtype} {value.shape}" for value in values]
        await kv.init(names, values)
        for snapshot, value in zip(await kv.snapshot(names), values, strict=True):
            same(snapshot, value)

    @needs_snapshots
    async def test_nobody_can_write_to_it(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        snapshot = await kv.snapshot("w")
        for view in (snapshot, snapshot[:1], snapshot.reshape(-1), snapshot.T, snapshot.view(np.uint8)):
            assert not view.flags.writeable
            with pytest.raises(ValueError, match="WRITEABLE"):
                view.flags.writeable = True
            with pytest.raises(ValueError, match="read-only"):
                view[...] = 0
        assert memoryview(snapshot).readonly
        same(await kv.pull("w"), array())

    @needs_snapshots
    @every_change
    async def test_nothing_changes_it(self, kv: akv.KVStore, change: Change) -> None:
        await kv.init("w", array())
        snapshot = await kv.snapshot("w")
        if change is call:
            self.need_functions()
        await change(kv)
        same(snapshot, array())
        assert not np.array_equal(await kv.pull("w"), array())
        same(await kv.snapshot("w"), await kv.pull("w"))

    @needs_snapshots
    @every_change
    async def test_its_memory_is_not_used_again_while_a_view_lives(self, kv: akv.KVStore, change: Change) -> None:
        await kv.init("w", array())
        view = (await kv.snapshot("w"))[1:]
        reshaped = (await kv.snapshot("w")).reshape(-1).view(np.int32)
        if change is call:
            self.need_functions()
        await change(kv)
        await kv.set_updater("assign")
        await kv.push("w", array(seed=7))
        same(view, array()[1:])
        same(reshaped, array().reshape(-1).view(np.int32))

    @needs_snapshots
    async def test_each_snapshot_keeps_its_own_version(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        snapshots = []
        for seed in range(5):
            await kv.push("w", array(seed=seed))
            snapshots.append(await kv.snapshot("w"))
        del snapshots[1]
        await kv.push("w", array(seed=9))
        for seed, snapshot in zip((0, 2, 3, 4), snapshots, strict=True):
            same(snapshot, array(seed=seed))

    @needs_snapshots
    async def test_two_of_the_same_version(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        first, second = await kv.snapshot(["w", "w"])
        del first
        await kv.push("w", array(seed=1))
        same(second, array())

    @needs_snapshots
    async def test_a_snapshot_can_be_pushed(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        snapshot = await kv.snapshot("w")
        await kv.push("w", [snapshot, snapshot, snapshot])
        await subject.check("w", 3 * array(), version=2)
        await kv.push("w", snapshot, donate=True)
        await kv.push("w", array(seed=1))
        same(snapshot, array())

    @needs_snapshots
    async def test_a_pulled_array_is_no_snapshot(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        snapshot = await kv.snapshot("w")
        pulled = await kv.pull("w")
        pulled[...] = -1
        same(snapshot, array())

    @needs_snapshots
    async def test_it_outlives_its_store(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        snapshot = await kv.snapshot("w")
        await subject.close()
        self.forget(subject.url)
        same(snapshot, array())
