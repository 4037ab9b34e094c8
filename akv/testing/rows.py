"""RowSparse: a push of rows does what a push of the table would do, and single rows can be read. A capability: rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import akv
from akv.optim import SGD
from akv.testing.harness import Hooks, needs_rows
from akv.testing.model import MODEL
from akv.testing.samples import DTYPES, array, same
from akv.testing.subject import Subject
from akv.values.dtypes import DType

__all__ = ["RowTests", "tables"]

SHAPE = (5, 3)


def rows(*ids: int, dtype: Any = np.float32, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> akv.RowSparse:
    """A RowSparse of small whole numbers."""
    return akv.RowSparse(ids, array(dtype, (len(ids), *shape[1:]), seed), shape)


@st.composite
def tables(draw: st.DrawFn, dtype: DType, shape: tuple[int, ...] = SHAPE) -> akv.RowSparse:
    """Rows in any order, repeated or none at all."""
    ids = draw(st.lists(st.integers(0, shape[0] - 1), max_size=8))
    return rows(*ids, dtype=dtype, shape=shape, seed=draw(st.integers(0, 9)))


class RowTests(Hooks):
    @MODEL
    @given(data=st.data())
    @pytest.mark.parametrize("updater", ["assign", "add"])
    async def test_rows_do_what_the_table_would_do(
        self, subject: Subject, kv: akv.KVStore, updater: str, data: st.DataObject
    ) -> None:
        dtype = data.draw(st.sampled_from(DTYPES))
        table = data.draw(tables(dtype))
        await kv.delete(await kv.keys())
        await kv.init(["rows", "table"], [array(dtype, SHAPE), array(dtype, SHAPE)])
        await kv.set_updater(updater)
        await kv.push(["rows", "table"], [table, table.todense()])
        same(await kv.pull("rows"), await kv.pull("table"))
        same(subject.peek("rows"), subject.peek("table"))

    async def test_rows_of_several_devices_are_summed(self, subject: Subject, kv: akv.KVStore) -> None:
        parts = [rows(4, 0, 4), rows(), rows(1, seed=1), rows(0, 1, seed=2)]
        await kv.init("w", array(shape=SHAPE))
        assert await kv.push("w", parts) == 2
        await subject.check("w", sum([part.todense() for part in parts], np.zeros(SHAPE, np.float32)), version=2)

    async def test_rows_beside_tables(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array(shape=SHAPE))
        part, table = rows(1, 3), array(shape=SHAPE, seed=1)
        await kv.push("w", [table, part, table])
        await subject.check("w", table + part.todense() + table, version=2)

    @pytest.mark.parametrize("shape", [(4,), (0,), (0, 3), (3, 0), (3, 2, 2)], ids=str)
    async def test_tables_of_any_shape(self, subject: Subject, kv: akv.KVStore, shape: tuple[int, ...]) -> None:
        part = rows(*range(shape[0])[::-2], shape=shape)
        await kv.init("w", array(shape=shape))
        await kv.set_updater("add")
        await kv.push("w", part)
        await subject.check("w", array(shape=shape) + part.todense(), version=2)

    async def test_init_and_pull_of_a_table_as_rows(self, subject: Subject, kv: akv.KVStore) -> None:
        part = rows(3, 1, 3)
        await kv.init("w", part)
        await subject.check("w", part.todense(), version=1)
        out, wide = rows(0, seed=1), rows(2, seed=1, dtype=np.float64)
        assert await kv.pull("w", out) is out
        await kv.pull("w", [wide, out])
        for table in (out, wide):
            assert list(table.indices) == [1, 3]
            assert np.array_equal(table.todense(), part.todense())
        assert wide.dtype == np.float64

    async def test_pushpull_of_rows(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array(shape=SHAPE))
        part, out = rows(2, 0), np.zeros(SHAPE, np.float32)
        await kv.pushpull("w", part, out)
        same(out, part.todense())
        await subject.check("w", part.todense(), version=2)

    @needs_rows
    @pytest.mark.parametrize(
        "ids",
        [[3, 1], [1, 1, 4, 1], [], range(1, 4), (0,), np.array([[2, 0], [0, 2]]), np.array([4], np.uint8), np.int32(3)],
        ids=str,
    )
    async def test_row_sparse_pull(self, kv: akv.KVStore, ids: Any) -> None:
        table = array(shape=SHAPE)
        wanted = np.unique(np.asarray(ids, np.int64))
        await kv.init("w", table)
        found = await kv.row_sparse_pull("w", row_ids=ids)
        out = rows(1, seed=3)
        assert await kv.row_sparse_pull("w", out=out, row_ids=ids) is out
        for result in (found, out):
            assert isinstance(result, akv.RowSparse)
            assert result.shape == SHAPE
            same(result.indices, wanted)
            same(result.values, table[wanted])

    @needs_rows
    async def test_row_sparse_pull_into_several(self, kv: akv.KVStore) -> None:
        await kv.init("w", table := array(shape=SHAPE))
        outs = [rows(), rows(dtype=np.float64)]
        assert await kv.row_sparse_pull("w", out=outs, row_ids=[2, 0]) is outs
        for out in outs:
            assert np.array_equal(out.values, table[[0, 2]])
        assert outs[1].dtype == np.float64
        await kv.row_sparse_pull("w", out=outs, row_ids=[np.array([1]), np.array([3, 4])])
        same(outs[0].values, table[[1]])
        same(outs[1].values, table[[3, 4]].astype(np.float64))

    @needs_rows
    async def test_row_sparse_pull_of_several_keys(self, kv: akv.KVStore) -> None:
        a, b = array(shape=SHAPE), array(shape=(4,), seed=1)
        await kv.init(["a", "b"], [a, b])
        first, second = await kv.row_sparse_pull(["a", "b"], row_ids=[[1, 0], [3]])
        same(first.values, a[:2])
        same(second.values, b[3:])
        outs: list[Any] = [rows(), [rows(shape=(4,)), rows(shape=(4,))]]
        await kv.row_sparse_pull(["a", "b"], out=outs, row_ids=[[2], [np.array([0]), np.array([1])]])
        same(outs[0].values, a[[2]])
        same(outs[1][0].values, b[[0]])
        same(outs[1][1].values, b[[1]])

    @needs_rows
    async def test_what_was_pulled_is_the_callers_own(self, kv: akv.KVStore) -> None:
        await kv.init("w", table := array(shape=SHAPE))
        outs = [rows(), rows(), await kv.row_sparse_pull("w", row_ids=range(5))]
        await kv.row_sparse_pull("w", out=outs[:2], row_ids=range(5))
        for out in outs:
            same(out.values, table)
            out.values[...], out.indices[...] = -1, 0
        same(await kv.pull("w"), table)

    async def test_a_lazy_optimizer_touches_only_the_rows_pushed(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", np.ones(SHAPE, np.float32))
        await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
        ones = akv.RowSparse([1, 3], np.ones((2, 3), np.float32), SHAPE)
        for _ in range(2):
            await kv.push("w", ones)
        # The momentum of row 1 is -0.5, then -0.75.
        expected = np.ones(SHAPE, np.float32)
        expected[[1, 3]] = 1 - 0.5 - 0.75
        await subject.check("w", expected, version=3)
        await kv.push("w", akv.RowSparse([1], np.zeros((1, 3), np.float32), SHAPE))
        expected[1] -= 0.375
        await subject.check("w", expected, version=4)

    async def test_an_optimizer_that_is_not_lazy_sees_the_table(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", np.ones(SHAPE, np.float32))
        await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5, lazy_update=False))
        await kv.push("w", akv.RowSparse([1], np.ones((1, 3), np.float32), SHAPE))
        await kv.push("w", akv.RowSparse([3], np.zeros((1, 3), np.float32), SHAPE))
        expected = np.ones(SHAPE, np.float32)
        expected[1] = 1 - 0.5 - 0.25
        await subject.check("w", expected, version=3)
