"""Whose memory it is: a pushed array is the caller's again when the call is done, a pulled one the caller's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import akv
from akv.optim import SGD
from akv.testing.harness import Hooks
from akv.testing.samples import array, same
from akv.testing.subject import Subject

__all__ = ["OwnershipTests"]

# 4 MiB goes to the threads of a store, the other is small enough for the shortest way there is.
every_size = pytest.mark.parametrize("shape", [(), (2, 3), (1024, 1024)], ids=str)
Shape = tuple[int, ...]


class OwnershipTests(Hooks):
    @every_size
    async def test_an_initial_value_is_copied(self, subject: Subject, kv: akv.KVStore, shape: Shape) -> None:
        value, table = array(shape=shape), array(shape=(4, 2))
        rows = akv.RowSparse([0, 2], table[[0, 2]], table.shape)
        await kv.init(["w", "rows"], [value, rows])
        expected = rows.todense()
        value[...], rows.values[...], rows.indices[...] = -1, -1, 1
        await subject.check("w", array(shape=shape))
        await subject.check("rows", expected)

    @every_size
    @pytest.mark.parametrize("updater", ["assign", "add"])
    async def test_a_pushed_array_is_copied(
        self, subject: Subject, kv: akv.KVStore, shape: Shape, updater: str
    ) -> None:
        await kv.init("w", np.zeros(shape, np.float32))
        await kv.set_updater(updater)
        expected = np.zeros(shape, np.float32)
        for devices in (1, 3):
            values = [array(shape=shape, seed=seed) for seed in range(devices)]
            expected = sum(values, expected if updater == "add" else np.zeros(shape, np.float32))
            await kv.push("w", values if devices > 1 else values[0])
            for value in values:
                value[...] = -1
            await subject.check("w", expected)

    async def test_pushed_rows_are_copied(self, subject: Subject, kv: akv.KVStore) -> None:
        rows = akv.RowSparse([0, 2], array(shape=(2, 3)), (4, 3))
        expected = rows.todense()
        await kv.init("w", np.zeros((4, 3), np.float32))
        await kv.push("w", rows)
        rows.values[...], rows.indices[...] = -1, 1
        await subject.check("w", expected)

    async def test_lists_are_copied(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [array(), array()])
        names, values = ["a", "b"], [[array(seed=1), array(seed=2)], array(seed=3)]
        pending = kv.push(names, values)
        names.clear()
        values.clear()
        assert await pending == [2, 2]
        await subject.check("a", array(seed=1) + array(seed=2))
        await subject.check("b", array(seed=3))

    @every_size
    @pytest.mark.parametrize("updater", ["assign", "add", "function", "optimizer"])
    async def test_what_is_pushed_is_never_written_to(self, kv: akv.KVStore, shape: Shape, updater: str) -> None:
        if updater == "function":
            self.need_functions()
        await kv.init("w", array(shape=shape))
        await _set(kv, updater)
        values = [array(shape=shape, seed=seed) for seed in range(3)]
        out = np.zeros(shape, np.float32)
        for pushed in (values[0], values):
            await kv.push("w", pushed)
            await kv.pushpull("w", pushed, out)
            await kv.pull("w", out)
        for seed, value in enumerate(values):
            same(value, array(shape=shape, seed=seed))
            assert value.flags.writeable

    @every_size
    async def test_a_pulled_array_is_the_callers_own(self, subject: Subject, kv: akv.KVStore, shape: Shape) -> None:
        await kv.init("w", array(shape=shape))
        out = np.zeros(shape, np.float32)
        first, second, (third, fourth) = await kv.pull("w"), await kv.pull("w"), await kv.pull(["w", "w"])
        await kv.pull("w", out)
        for found in (first, second, third, fourth, out):
            same(found, array(shape=shape))
            assert found.flags.writeable
            assert found.flags.c_contiguous
            found[...] = -1
        await subject.check("w", array(shape=shape))

    @every_size
    async def test_a_pulled_array_does_not_change(self, kv: akv.KVStore, shape: Shape) -> None:
        await kv.init("w", array(shape=shape))
        out = np.zeros(shape, np.float32)
        pulled = [await kv.pull("w"), await kv.pull("w", out)]
        for updater in ("assign", "add", "optimizer", *["function"] * self.calls_functions):
            await _set(kv, updater)
            await kv.push("w", 1 + array(shape=shape, seed=1))
        for found in pulled:
            same(found, array(shape=shape))

    @every_size
    async def test_results_of_pushpull_and_broadcast_are_the_callers_own(
        self, subject: Subject, kv: akv.KVStore, shape: Shape
    ) -> None:
        first, second = array(shape=shape), array(shape=shape, seed=1)
        out = np.zeros(shape, np.float32)
        (await kv.broadcast("w", first))[...] = -1
        same(first, array(shape=shape))
        await subject.check("w", first)
        (await kv.pushpull("w", second, out))[...] = -1
        same(second, array(shape=shape, seed=1))
        await subject.check("w", second)

    async def test_one_array_for_several_keys(self, subject: Subject, kv: akv.KVStore) -> None:
        value = array()
        await kv.init(["a", "b"], [value, value])
        await kv.push(["a", "b"], [value, [value, value]])
        await kv.push("a", array(seed=1))
        await subject.check("a", array(seed=1))
        await subject.check("b", 2 * array())
        same(value, array())

    async def test_a_donated_array_can_be_pushed_over(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        kept = array()
        await kv.push("w", array(seed=1), donate=True)
        await kv.push("w", kept)
        kept[...] = -1
        await subject.check("w", array(), version=3)

    async def test_the_list_of_keys_is_the_callers_own(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        (await kv.keys()).clear()
        assert await kv.keys() == ["w"]


async def _set(kv: akv.KVStore, updater: str) -> None:
    def subtract(key: Any, pushed: np.ndarray, stored: np.ndarray) -> None:
        stored -= pushed

    if updater == "optimizer":
        await kv.set_updater("assign")
        await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
    else:
        await kv.set_updater(subtract if updater == "function" else updater)
