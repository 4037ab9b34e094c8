"""All or nothing: a call on several keys with one of them bad does nothing at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

import akv
from akv.testing.harness import Hooks, needs_rows
from akv.testing.samples import array, same
from akv.testing.subject import Subject

__all__ = ["AtomicityTests"]

NAMES = ["a", "b", "c"]


class AtomicityTests(Hooks):
    @pytest.mark.parametrize("place", range(3))
    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (array(shape=(3, 2)), akv.ShapeMismatch),
            (array(np.float64), akv.DTypeMismatch),
            ([array(), array(shape=(1, 3))], akv.ShapeMismatch),
            (3, akv.NotAnArray),
        ],
        ids=["shape", "dtype", "device", "number"],
    )
    async def test_push(self, subject: Subject, kv: akv.KVStore, place: int, bad: Any, error: type[Exception]) -> None:
        await _three(kv)
        await kv.set_updater("add")
        values: list[Any] = [array(seed=1), [array(seed=2), array(seed=3)], array(seed=4)]
        values[place] = bad
        outs = [np.zeros((2, 3), np.float32) for _ in NAMES]
        with pytest.raises(error, match=f"'{NAMES[place]}'"):
            await kv.push(NAMES, values)
        with pytest.raises(error, match=f"'{NAMES[place]}'"):
            await kv.pushpull(NAMES, values, outs)
        assert not np.any(outs)
        await _untouched(subject)

    @pytest.mark.parametrize(
        "call",
        [
            lambda kv, names: kv.push(names, [array(seed=1)] * 4),
            lambda kv, names: kv.push(names, [array(seed=1)] * 4, donate=True),
            lambda kv, names: kv.pushpull(names, [array(seed=1)] * 4, [np.zeros((2, 3), np.float32)] * 4),
            lambda kv, names: kv.delete(names),
            lambda kv, names: kv.info(names),
        ],
        ids=["push", "donate", "pushpull", "delete", "info"],
    )
    @pytest.mark.parametrize("place", [0, 3])
    async def test_an_unknown_key_in_the_list(
        self, subject: Subject, kv: akv.KVStore, call: Callable[[Any, list[str]], Awaitable[object]], place: int
    ) -> None:
        await _three(kv)
        names = [*NAMES[:place], "nope", *NAMES[place:]]
        with pytest.raises(akv.KeyNotFound, match="'nope'"):
            await call(kv, names)
        await _untouched(subject)

    async def test_rows_out_of_range_in_the_list(self, subject: Subject, kv: akv.KVStore) -> None:
        await _three(kv)
        rows = akv.RowSparse([0, 1], np.ones((2, 3), np.float32), (2, 3))
        rows.indices[1] = 2
        with pytest.raises(akv.RowOutOfRange, match=r"'c'.*2"):
            await kv.push(NAMES, [array(seed=1), array(seed=2), rows])
        await _untouched(subject)

    async def test_init(self, subject: Subject, kv: akv.KVStore) -> None:
        await _three(kv)
        other = await subject.open()
        with pytest.raises(akv.KeyExists, match="'b'"):
            await other.init(["new", "a", "b"], [array(), array(), array(shape=(3, 2))])
        assert await kv.keys() == NAMES
        await _untouched(subject)
        # Nothing of it counted: neither "new" nor the first init of "a" by this handle.
        await other.init(["new", "a"], [array(), array()])

    async def test_pull_writes_to_no_out(self, kv: akv.KVStore) -> None:
        await _three(kv)
        outs = [np.full((2, 3), -1, np.float32) for _ in NAMES]
        with pytest.raises(akv.KeyNotFound, match="'nope'"):
            await kv.pull(["a", "b", "nope"], outs)
        with pytest.raises(akv.ShapeMismatch, match="'c'"):
            await kv.pull(NAMES, [outs[0], outs[1], [outs[2], np.zeros(6, np.float32)]])
        assert (np.array(outs) == -1).all()

    @needs_rows
    async def test_row_sparse_pull_writes_to_no_out(self, kv: akv.KVStore) -> None:
        await _three(kv)
        outs = [akv.RowSparse([1], np.ones((1, 3), np.float32), (2, 3)) for _ in NAMES]
        with pytest.raises(akv.RowOutOfRange, match=r"'c'.*5"):
            await kv.row_sparse_pull(NAMES, outs, row_ids=[[0], [0], [0, 5]])
        for out in outs:
            same(out.indices, np.array([1]))
            same(out.values, np.ones((1, 3), np.float32))

    async def test_nonfinite_values_in_the_list(self, subject: Subject) -> None:
        try:
            kv = await subject.open(on_nonfinite="reject")
        except akv.InvalidArgument:
            pytest.skip("this backend has no option on_nonfinite")
        await _three(kv)
        bad = np.full((2, 3), np.nan, np.float32)
        with pytest.raises(akv.NonFinite, match="'a'") as caught:
            await kv.push(NAMES, [bad, array(seed=1), array(seed=2)])
        assert not hasattr(caught.value, "__notes__")
        await _untouched(subject)
        # What lies in the values is seen late: the error names the keys that were done.
        with pytest.raises(akv.NonFinite, match="'b'") as caught:
            await kv.push(NAMES, [array(seed=1), bad, array(seed=2)])
        done = (await kv.info("a")).version == 2
        assert done == any("['a']" in note for note in getattr(caught.value, "__notes__", []))
        assert (await kv.info("c")).version == 1


async def _three(kv: akv.KVStore) -> None:
    await kv.init(NAMES, [array() for _ in NAMES])


async def _untouched(subject: Subject) -> None:
    for name in NAMES:
        await subject.check(name, array(), version=1)
