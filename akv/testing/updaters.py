"""Updaters: what a push does to the stored value, by name or by a function of the user's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import akv
from akv.testing.harness import Hooks, needs_functions
from akv.testing.samples import DTYPES, array, same, summed
from akv.testing.subject import Subject
from akv.values.keys import Key

__all__ = ["UpdaterTests"]


class Recorder:
    """An updater that adds, and remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Key, Any, np.ndarray]] = []

    def __call__(self, key: Key, pushed: Any, stored: np.ndarray) -> str:
        self.calls.append((key, pushed, stored.copy()))
        stored += pushed.todense() if isinstance(pushed, akv.RowSparse) else pushed
        return "the result is ignored"


class UpdaterTests(Hooks):
    async def test_assign_is_the_default(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        for seed in (1, 2):
            await kv.push("w", array(seed=seed))
        await subject.check("w", array(seed=2), version=3)

    async def test_add(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.set_updater("add")
        for dtype in DTYPES:
            first, second, third = (array(dtype, seed=seed) for seed in range(3))
            await kv.init(str(dtype), first)
            await kv.push(str(dtype), second)
            await subject.check(str(dtype), summed(first, second), version=2)
            await kv.push(str(dtype), [third, second])
            await subject.check(str(dtype), summed(first, second, third, second), version=3)

    async def test_overflow_is_no_warning(self, subject: Subject, kv: akv.KVStore) -> None:
        big = np.full(3, 6e4, np.float16)
        await kv.init("w", big)
        await kv.set_updater("add")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await kv.push("w", [big, big])
        await subject.check("w", np.full(3, np.inf, np.float16))

    @needs_functions
    @pytest.mark.parametrize("key", ["w", "", 7])
    async def test_a_function_gets_the_key_the_sum_and_the_value(
        self, subject: Subject, kv: akv.KVStore, key: Key
    ) -> None:
        await kv.init(key, array())
        await kv.set_updater(recorder := Recorder())
        assert await kv.push(key, [array(seed=1), array(seed=2)]) == 2
        ((got, pushed, stored),) = recorder.calls
        assert (got, type(got)) == (key, type(key))
        same(pushed, array(seed=1) + array(seed=2))
        same(stored, array())
        await subject.check(key, array() + array(seed=1) + array(seed=2), version=2)

    @needs_functions
    async def test_what_was_pushed_is_read_only(self, kv: akv.KVStore) -> None:
        value, parts = array(), array(seed=1)
        await kv.init("w", value)
        await kv.set_updater(recorder := Recorder())
        for pushed in (parts, [parts, parts], akv.RowSparse([1], np.ones((1, 3), np.float32), (2, 3))):
            await kv.push("w", pushed)
        for _, pushed, _ in recorder.calls:
            values = pushed.values if isinstance(pushed, akv.RowSparse) else pushed
            assert not values.flags.writeable
        assert parts.flags.writeable

    @needs_functions
    async def test_rows_arrive_as_rows(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.set_updater(recorder := Recorder())
        parts = [akv.RowSparse([1, 1], np.ones((2, 3), np.float32), (2, 3))] * 2
        await kv.push("w", parts)
        ((_, pushed, _),) = recorder.calls
        assert isinstance(pushed, akv.RowSparse)
        same(pushed.indices, np.array([1]))
        same(pushed.values, np.full((1, 3), 4, np.float32))
        await subject.check("w", array() + pushed.todense(), version=2)

    @needs_functions
    async def test_the_value_is_as_before_until_the_function_returns(self, subject: Subject, kv: akv.KVStore) -> None:
        seen = []

        def update(key: Key, pushed: np.ndarray, stored: np.ndarray) -> None:
            stored[...] = -1
            seen.append(subject.peek("w"))
            stored += pushed

        await kv.init("w", array())
        await kv.set_updater(update)
        await kv.push("w", array(seed=1))
        same(seen[0], array())
        await subject.check("w", array(seed=1) - 1, version=2)

    @needs_functions
    async def test_an_exception_changes_nothing_and_reaches_the_pusher(self, subject: Subject, kv: akv.KVStore) -> None:
        def fail(key: Key, pushed: np.ndarray, stored: np.ndarray) -> None:
            stored[...] = -1
            raise ZeroDivisionError("on purpose")

        await kv.init("w", array())
        await kv.set_updater(fail)
        for value in (array(), [array(), array()], akv.RowSparse([1], np.ones((1, 3), np.float32), (2, 3))):
            with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
                await kv.push("w", value)
            assert "'w'" in caught.value.__notes__[0]
            await subject.check("w", array(), version=1)
        await kv.set_updater("add")
        assert await kv.push("w", array()) == 2
        await subject.check("w", 2 * array())

    @needs_functions
    async def test_an_exception_names_the_keys_done_before_it(self, subject: Subject, kv: akv.KVStore) -> None:
        def fail_at_b(key: Key, pushed: np.ndarray, stored: np.ndarray) -> None:
            if key == "b":
                raise ZeroDivisionError
            stored[...] = pushed

        await kv.init(["a", "b", "c"], [array(), array(), array()])
        await kv.set_updater(fail_at_b)
        with pytest.raises(ZeroDivisionError) as caught:
            await kv.push(["a", "b", "c"], [array(seed=1)] * 3)
        assert any("['a']" in note for note in caught.value.__notes__)
        await subject.check("a", array(seed=1), version=2)
        await subject.check("b", array(), version=1)
        await subject.check("c", array(), version=1)

    @needs_functions
    async def test_it_is_called_once_per_key(self, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [array(), array()])
        await kv.set_updater(recorder := Recorder())
        await kv.push(["b", "a", "b"], [[array(), array()], array(), array()])
        assert sorted(str(key) for key, _, _ in recorder.calls) == ["a", "b"]
        (pushed,) = (pushed for key, pushed, _ in recorder.calls if key == "b")
        same(pushed, 3 * array())

    @needs_functions
    async def test_pulls_and_inits_do_not_call_it(self, kv: akv.KVStore) -> None:
        await kv.set_updater(recorder := Recorder())
        await kv.init("w", array())
        await kv.broadcast("v", array())
        await kv.pull(["w", "v"])
        assert not recorder.calls
        await kv.pushpull("w", array(), np.zeros((2, 3), np.float32))
        assert len(recorder.calls) == 1

    async def test_all_handles_share_it(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.set_updater("add")
        other = await subject.open()
        await other.push("w", array())
        await subject.check("w", 2 * array())
        await other.set_updater("assign")
        await kv.push("w", array())
        await subject.check("w", array())
