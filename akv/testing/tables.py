"""Tables: one made of an initialiser does all that the array would do which that describes. A capability: tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import akv
from akv.optim import LAMB, NAG, SGD, AdaGrad, Adam, Ftrl, Optimizer
from akv.testing.harness import Hooks, needs_checkpoints, needs_rows, needs_snapshots, needs_tables
from akv.testing.model import MODEL
from akv.testing.rows import rows, tables
from akv.testing.samples import array, same
from akv.testing.subject import Subject

__all__ = ["TableTests"]

SHAPE = (5, 3)
#: As an array it would be 25.6 GB.
LARGE = (10**8, 64)

UPDATERS: list[str | Optimizer] = [
    "assign",
    "add",
    SGD(learning_rate=0.5, wd=0.1),
    SGD(learning_rate=0.5, momentum=0.5, multi_precision=True),
    SGD(learning_rate=0.5, momentum=0.5, wd=0.1, lazy_update=False),
    Adam(learning_rate=0.5),
    AdaGrad(learning_rate=0.5),
    Ftrl(),
    NAG(learning_rate=0.5, momentum=0.5),
    LAMB(learning_rate=0.5),
]


@st.composite
def descriptions(draw: st.DrawFn, shape: tuple[int, ...] | None = None, dtypes: str = "f4 f8 f2") -> akv.init.Table:
    """Small tables of every kind."""
    shape = shape or draw(st.sampled_from([SHAPE, (4,), (6, 2, 2), (0, 3), (3, 0), (1, 1)]))
    dtype = draw(st.sampled_from(dtypes.split()))
    seed = draw(st.integers(0, 3))
    makers: list[Callable[[], akv.init.Table]] = [
        lambda: akv.init.zeros(shape, dtype),
        lambda: akv.init.uniform(shape, dtype, -1, 1, seed),
        lambda: akv.init.normal(shape, dtype, 1, 0.5, seed),
    ]
    return draw(st.sampled_from(makers))()


@st.composite
def pushed(draw: st.DrawFn, table: akv.init.Table) -> Any:
    """Rows, an array, or a list of either."""
    parts = draw(st.lists(st.booleans(), min_size=1, max_size=3))
    if not table.shape[0]:
        return array(table.dtype, table.shape)
    values = [
        array(table.dtype, table.shape, draw(st.integers(0, 9))) if whole else draw(tables(table.dtype, table.shape))
        for whole in parts
    ]
    return values if len(values) > 1 else values[0]


async def set_updater(kv: akv.KVStore, updater: str | Optimizer) -> None:
    """Whatever there was before."""
    await kv.set_updater("assign")
    if isinstance(updater, str):
        await kv.set_updater(updater)
    else:
        await kv.set_optimizer(updater)


async def alike(kv: akv.KVStore) -> None:
    """The table and the array have the same values and versions."""
    (table, dense), infos = await kv.pull(["table", "array"]), await kv.info(["table", "array"])
    same(table, dense)
    assert infos[0].version == infos[1].version


class TableTests(Hooks):
    @needs_tables
    @MODEL
    @given(data=st.data())
    async def test_a_table_is_the_array_that_its_initialiser_describes(
        self, subject: Subject, kv: akv.KVStore, data: st.DataObject
    ) -> None:
        table = data.draw(descriptions())
        await kv.delete(await kv.keys())
        await kv.init(["table", "array"], [table, table.todense()])
        if data.draw(st.booleans()):
            await kv.set_updater("add")
            await kv.push(["table", "array"], [data.draw(pushed(table))] * 2)
        await set_updater(kv, data.draw(st.sampled_from(UPDATERS)))
        for _ in range(data.draw(st.integers(1, 3))):
            value = data.draw(pushed(table))
            if data.draw(st.booleans()):
                await kv.push(["table", "array"], [value, value])
            else:
                outs = [np.empty(table.shape, table.dtype) for _ in range(2)]
                same(*await kv.pushpull(["table", "array"], [value, value], outs))
            await alike(kv)
        same(subject.peek("table"), subject.peek("array"))

    @needs_tables
    @MODEL
    @given(data=st.data())
    async def test_integers_and_other_dtypes_begin_with_zeros(
        self, subject: Subject, kv: akv.KVStore, data: st.DataObject
    ) -> None:
        table = akv.init.zeros(SHAPE, data.draw(st.sampled_from(["i4", "u1", "?", "c8", "i8"])))
        await kv.delete(await kv.keys())
        await kv.init(["table", "array"], [table, np.zeros(SHAPE, table.dtype)])
        for updater in data.draw(st.lists(st.sampled_from(["assign", "add"]), max_size=4)):
            await kv.set_updater(updater)
            await kv.push(["table", "array"], [data.draw(pushed(table))] * 2)
            await alike(kv)

    @needs_tables
    @needs_rows
    @MODEL
    @given(data=st.data())
    async def test_rows_are_the_same_whatever_was_touched(
        self, subject: Subject, kv: akv.KVStore, data: st.DataObject
    ) -> None:
        table = data.draw(descriptions(SHAPE))
        await kv.delete(await kv.keys())
        await kv.init(["table", "array"], [table, table.todense()])
        await set_updater(kv, data.draw(st.sampled_from(UPDATERS[:4])))
        for _ in range(3):
            await kv.push(["table", "array"], [data.draw(tables(table.dtype))] * 2)
            ids = data.draw(st.lists(st.integers(0, SHAPE[0] - 1), max_size=8))
            outs = [rows(dtype=np.float64), rows(dtype=np.float64)]
            found = await kv.row_sparse_pull(["table", "array"], row_ids=[ids, ids])
            await kv.row_sparse_pull(["table", "array"], out=outs, row_ids=[ids, ids])
            for first, second in (found, outs):
                same(first.indices, second.indices)
                same(first.values, second.values)

    @needs_tables
    @needs_rows
    async def test_a_large_table_holds_what_was_pushed(self, subject: Subject, kv: akv.KVStore) -> None:
        table = akv.init.normal(LARGE, seed=5)
        await kv.init("w", table)
        await kv.set_optimizer(Adam(learning_rate=0.5))
        ids = np.random.default_rng(0).integers(0, LARGE[0], 1000)
        expected = table.rows(ids)
        for _ in range(2):
            found = await kv.row_sparse_pull("w", row_ids=ids)
            same(found.indices, np.unique(ids))
            same(found.values, expected)
        info = await kv.info("w")
        assert (info.shape, info.dtype, info.version) == (LARGE, np.float32, 1)
        assert info.nbytes < 10_000, "reading has made something of it"
        ones = np.ones((len(ids), LARGE[1]), np.float32)
        assert await kv.push("w", akv.RowSparse(ids, ones, LARGE)) == 2
        found = await kv.row_sparse_pull("w", row_ids=[*ids, 7])
        np.testing.assert_allclose(found.values[found.indices != 7], expected - 0.5, rtol=1e-5)
        same(found.values[found.indices == 7], table.rows([7]))
        assert len(ids) * 256 <= (await kv.info("w")).nbytes < 3 * len(ids) * 256

    @needs_tables
    async def test_what_would_touch_every_row_of_a_large_table(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", akv.init.zeros(LARGE))
        part = akv.RowSparse([1], np.ones((1, 64), np.float32), LARGE)
        calls: list[Callable[[], Any]] = [
            lambda: kv.pull("w"),
            lambda: kv.pull("w", akv.RowSparse([], np.zeros((0, 64), np.float32), LARGE)),
            lambda: kv.pushpull("w", part, part),
            lambda: kv.broadcast("other", akv.init.zeros(LARGE), part),
        ]
        for call in calls:
            with pytest.raises(akv.InvalidArgument, match=r"(?s)'(w|other)'.*25600000000.*row_sparse_pull"):
                await call()
        await kv.set_optimizer(SGD(lazy_update=False))
        with pytest.raises(akv.InvalidArgument, match=r"'w'.*25600000000.*sgd.*lazy_update"):
            await kv.push("w", part)
        info = await kv.info("w")
        assert info.version == 1
        assert info.nbytes < 1000
        assert await kv.keys() == ["w"]
        await kv.set_updater("assign")
        await kv.set_optimizer(SGD(learning_rate=1.0))
        assert await kv.push("w", part) == 2

    @needs_tables
    @needs_rows
    async def test_assigned_rows_leave_zeros(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", akv.init.uniform(LARGE, seed=1))
        await kv.push("w", akv.RowSparse([8, 5], np.ones((2, 64), np.float32), LARGE))
        found = await kv.row_sparse_pull("w", row_ids=[5, 6, 10**7])
        same(found.values, np.repeat(np.array([[1], [0], [0]], np.float32), 64, axis=1))

    @needs_tables
    @needs_snapshots
    async def test_snapshots_of_tables(self, subject: Subject, kv: akv.KVStore) -> None:
        table = akv.init.uniform(SHAPE, seed=1)
        await kv.init(["w", "large"], [table, akv.init.zeros(LARGE)])
        before = await kv.snapshot("w")
        assert not before.flags.writeable
        await kv.push("w", array(shape=SHAPE))
        same(before, table.todense())
        same(await kv.snapshot("w"), array(shape=SHAPE))
        with pytest.raises(akv.InvalidArgument, match=r"'large'.*25600000000"):
            await kv.snapshot("large")

    @needs_tables
    async def test_functions_see_all_of_a_small_table(self, subject: Subject, kv: akv.KVStore) -> None:
        self.need_functions()
        table = akv.init.uniform(SHAPE, seed=1)
        await kv.init(["w", "large"], [table, akv.init.zeros(LARGE)])
        seen: list[Any] = []

        def halve(key: object, value: Any, stored: np.ndarray) -> None:
            seen.append(value)
            stored /= 2

        await kv.set_updater(halve)
        await kv.push("w", part := rows(3, 1))
        same(await kv.pull("w"), table.todense() / 2)
        same(seen[0].todense(), part.todense())
        with pytest.raises(akv.InvalidArgument, match=r"'large'.*function"):
            await kv.push("large", akv.RowSparse([1], np.ones((1, 64), np.float32), LARGE))

    @needs_tables
    async def test_init_of_what_exists(self, subject: Subject, kv: akv.KVStore) -> None:
        table = akv.init.uniform(SHAPE, seed=1)
        await kv.init(["w", "dense"], [table, table.todense()])
        with pytest.raises(akv.KeyExists, match="'w'"):
            await kv.init("w", table)
        await kv.set_updater("add")
        await kv.push("w", part := rows(3, 1))
        other = await subject.open()
        await other.init("w", akv.init.uniform(SHAPE, "f4", seed=1))
        others: list[tuple[str, Any]] = [
            ("w", akv.init.uniform(SHAPE, seed=2)),
            ("w", akv.init.zeros(SHAPE)),
            ("w", akv.init.uniform(SHAPE, np.float64, seed=1)),
            ("w", akv.init.uniform((5, 4), seed=1)),
            ("w", table.todense()),
            ("dense", table),
        ]
        for key, value in others:
            with pytest.raises(akv.KeyExists, match=f"'{key}' exists as float32"):
                await (await subject.open()).init(key, value)
        await subject.check("w", table.todense() + part.todense(), version=2)

    @needs_tables
    async def test_delete_and_broadcast(self, subject: Subject, kv: akv.KVStore) -> None:
        table = akv.init.uniform(SHAPE, seed=1)
        same(await kv.broadcast("w", table), table.todense())
        await kv.push("w", rows(1))
        await kv.delete("w")
        with pytest.raises(akv.KeyNotFound):
            await kv.pull("w")
        await kv.init("w", akv.init.zeros(SHAPE))
        await subject.check("w", np.zeros(SHAPE, np.float32), version=3)

    @needs_tables
    async def test_what_does_not_fit_changes_nothing(self, subject: Subject, kv: akv.KVStore) -> None:
        table = akv.init.uniform(SHAPE, seed=1)
        await kv.init(["w", "ints"], [table, akv.init.zeros(SHAPE, np.int32)])
        outside = rows(1)
        outside.indices = np.array([5])
        for value, error in (
            (rows(1, shape=(6, 3)), akv.ShapeMismatch),
            (rows(1, dtype=np.float64), akv.DTypeMismatch),
            (array(shape=(3, 5)), akv.ShapeMismatch),
            (outside, akv.RowOutOfRange),
        ):
            with pytest.raises(error, match="'w'"):
                await kv.push("w", value)
        for ids in ([5], [-1], [0, 10**9]):
            with pytest.raises(akv.RowOutOfRange, match="'w'"):
                await kv.row_sparse_pull("w", row_ids=ids)
        await kv.set_optimizer(SGD())
        with pytest.raises(akv.DTypeMismatch, match="'ints'"):
            await kv.push("ints", rows(1, dtype=np.int32))
        await subject.check("w", table.todense(), version=1)
        await subject.check("ints", np.zeros(SHAPE, np.int32), version=1)

    @needs_tables
    async def test_what_was_pushed_is_the_callers_own(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", akv.init.zeros(SHAPE))
        for updater in ("assign", "add"):
            await kv.set_updater(updater)
            part = rows(3, 1)
            await kv.push("w", part)
            before = await kv.pull("w")
            part.values[...], part.indices[...] = -1, 0
            same(await kv.pull("w"), before)

    @needs_tables
    @needs_checkpoints
    @MODEL
    @given(data=st.data())
    async def test_a_checkpoint_brings_it_back(
        self, subject: Subject, kv: akv.KVStore, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        folder = tmp_path_factory.mktemp("tables")
        table = data.draw(descriptions(SHAPE))
        await kv.delete(await kv.keys())
        await kv.init(["table", "array"], [table, table.todense()])
        await set_updater(kv, data.draw(st.sampled_from(UPDATERS)))
        for _ in range(data.draw(st.integers(0, 2))):
            await kv.push(["table", "array"], [data.draw(tables(table.dtype))] * 2)
        await kv.save(folder)
        await alike(kv)
        await kv.push(["table", "array"], [data.draw(pushed(table))] * 2)
        if data.draw(st.booleans()):
            await kv.delete("table")
            await kv.delete("array")
        await kv.load(folder)
        await alike(kv)
        await kv.push(["table", "array"], [data.draw(pushed(table))] * 2)
        await alike(kv)
        await (await subject.open()).init("table", table)

    @needs_tables
    @needs_checkpoints
    async def test_the_optimizers_states_alone(self, subject: Subject, kv: akv.KVStore, tmp_path: Path) -> None:
        table = akv.init.uniform(SHAPE, seed=1)
        await kv.init(["table", "array"], [table, table.todense()])
        await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
        await kv.push(["table", "array"], [rows(1, 3)] * 2)
        await kv.save_optimizer_states(tmp_path)
        await kv.delete(["table", "array"])
        await kv.init(["table", "array"], [table, table.todense()])
        for ids in ((2, 1), (2, 4)):
            await kv.push(["table", "array"], [rows(*ids)] * 2)
        await kv.load_optimizer_states(tmp_path)
        await kv.push(["table", "array"], [rows(0, 1, 2, 3)] * 2)
        await alike(kv)

    @needs_tables
    @needs_checkpoints
    async def test_a_checkpoint_of_the_other_kind(self, subject: Subject, kv: akv.KVStore, tmp_path: Path) -> None:
        table = akv.init.uniform(SHAPE, seed=1)
        await kv.init(["a", "b"], [table, table.todense()])
        await kv.save(tmp_path)
        await kv.delete(["a", "b"])
        await kv.init(["a", "b"], [array(shape=SHAPE), akv.init.zeros(SHAPE)])
        with pytest.raises(akv.InvalidArgument, match=r"'a' is a table in the checkpoint, and an array here"):
            await kv.load(tmp_path)
        await subject.check("a", array(shape=SHAPE), version=2)
        await subject.check("b", np.zeros(SHAPE, np.float32), version=2)
