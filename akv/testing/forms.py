"""The forms that arguments may have: one key or a list of keys, one value or one per device, a key that repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import akv
from akv.testing.harness import Hooks, needs_functions
from akv.testing.samples import array, same
from akv.testing.subject import Subject
from akv.values.keys import Key

__all__ = ["FormTests"]

KEYS: list[Key] = ["w", "", "layer/0.weight", "..", "a\\b:c*d?", "käse 🧀", "nul\0", "W", 0, 7, -1, 2**63 - 1, -(2**63)]


class FormTests(Hooks):
    @pytest.mark.parametrize("key", KEYS, ids=ascii)
    async def test_keys(self, subject: Subject, kv: akv.KVStore, key: Key) -> None:
        await kv.init(key, array())
        await kv.push(key, array(seed=1))
        await subject.check(key, array(seed=1), version=2)
        (found,) = await kv.keys()
        assert (found, type(found)) == (key, type(key))
        await kv.delete(key)
        assert await kv.keys() == []

    async def test_keys_that_look_alike_are_different(self, subject: Subject, kv: akv.KVStore) -> None:
        names = ["w", "W", " w", "w ", "w.", "w/", "%77", "1", "01"]
        for seed, name in enumerate(names):
            await kv.init(name, array(seed=seed))
        for seed, name in enumerate(names):
            await subject.check(name, array(seed=seed))
        assert await kv.keys() == names

    async def test_numpy_integers_are_integer_keys(self, kv: akv.KVStore) -> None:
        await kv.init(np.int64(3), array())  # type: ignore[arg-type]
        same(await kv.pull(3), array())
        assert [type(key) for key in await kv.keys()] == [int]

    @pytest.mark.parametrize("form", [list, tuple])
    async def test_lists_of_keys(self, subject: Subject, kv: akv.KVStore, form: Callable[[Any], Any]) -> None:
        names, values = form(["b", "a", "c"]), form([array(shape=(n,), seed=n) for n in range(3)])
        await kv.init(names, values)
        assert await kv.keys() == ["b", "a", "c"]
        assert await kv.push(names, values) == [2, 2, 2]
        assert await kv.push("a", values[1]) == 3
        assert [info.version for info in await kv.info(names)] == [2, 3, 2]
        for found, value in zip(await kv.pull(names), values, strict=True):
            same(found, value)
        for name, value in zip(names, values, strict=True):
            await subject.check(name, value)
        await kv.delete(form(["b", "c"]))
        assert await kv.keys() == ["a"]

    async def test_a_list_of_one_key_gives_a_list(self, kv: akv.KVStore) -> None:
        await kv.init(["w"], [array()])
        assert await kv.push(["w"], [array(seed=1)]) == [2]
        (found,) = await kv.pull(["w"])
        same(found, array(seed=1))
        (info,) = await kv.info(["w"])
        assert info.version == 2

    async def test_no_keys_at_all(self, kv: akv.KVStore) -> None:
        await kv.init([], [])
        assert await kv.push([], []) == []
        assert await kv.pull([]) == []
        await kv.delete([])
        assert await kv.keys() == []

    async def test_nested_lists(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [array(), array(shape=(4,))])
        a, b = array(seed=1), array(shape=(4,), seed=1)
        assert await kv.push(["a", "b"], [[a, a, a], b]) == [2, 2]
        await subject.check("a", a + a + a)
        await subject.check("b", b)
        outs = [[np.zeros((2, 3), np.float32), np.zeros((2, 3))], np.zeros(4, np.float32)]
        assert await kv.pull(["a", "b"], outs) is outs
        assert np.array_equal(outs[0][0], a + a + a)
        assert np.array_equal(outs[0][1], a + a + a)
        assert np.array_equal(outs[1], b)

    async def test_the_number_of_devices_may_change(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        for count in (2, 3, 1, 5):
            await kv.push("w", [array(seed=1)] * count)
            await subject.check("w", count * array(seed=1))

    @needs_functions
    async def test_a_key_that_repeats_in_a_push_is_summed(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [array(), array()])
        calls: list[Key] = []

        def add(key: Key, pushed: np.ndarray, stored: np.ndarray) -> None:
            calls.append(key)
            stored += pushed

        await kv.set_updater(add)
        a, b = array(seed=1), array(seed=2)
        assert await kv.push(["a", "b", "a", "a"], [a, b, [a, a], b]) == [2, 2, 2, 2]
        assert sorted(calls, key=str) == ["a", "b"]
        await subject.check("a", array() + a + a + a + b, version=2)
        await subject.check("b", array() + b, version=2)

    async def test_a_key_that_repeats_is_summed_before_an_assign(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        assert await kv.push(["w", "w"], [array(seed=1), array(seed=2)]) == [2, 2]
        await subject.check("w", array(seed=1) + array(seed=2), version=2)

    async def test_a_key_that_repeats_in_a_pull(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        first, second = await kv.pull(["w", "w"])
        first[...] = -1
        same(second, array())
        outs: list[Any] = [np.zeros((2, 3), np.float32), [np.zeros((2, 3), np.float32) for _ in range(2)]]
        await kv.pull(["w", "w"], outs)
        for out in (outs[0], *outs[1]):
            same(out, array())

    async def test_a_key_that_repeats_in_a_pushpull(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        outs = [np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)]
        await kv.pushpull(["w", "w"], [array(seed=1), array(seed=2)], outs)
        for out in outs:
            same(out, array(seed=1) + array(seed=2))
        await subject.check("w", array(seed=1) + array(seed=2), version=2)

    async def test_lists_of_keys_in_pushpull_and_broadcast(self, subject: Subject, kv: akv.KVStore) -> None:
        values = [array(), array(shape=(4,))]
        outs = [np.zeros((2, 3), np.float32), [np.zeros(4, np.float32), np.zeros(4)]]
        assert await kv.broadcast(["a", "b"], values, outs) is outs
        same(outs[0], values[0])
        same(outs[1][0], values[1])
        await kv.pushpull(["a", "b"], [[values[0]] * 2, values[1]], outs)
        same(outs[0], 2 * values[0])
        await subject.check("a", 2 * values[0], version=2)

    @pytest.mark.parametrize("priority", [0, 5, -5, 10**9, np.int64(3)])
    async def test_priorities_are_integers(self, kv: akv.KVStore, priority: int) -> None:
        await kv.init("w", array())
        assert await kv.push("w", array(seed=1), priority) == 2
        same(await kv.pull("w", None, priority), array(seed=1))
        same(await kv.pushpull("w", array(seed=2), np.zeros((2, 3), np.float32), priority), array(seed=2))
