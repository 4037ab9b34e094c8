"""Tables in memory: the index, what a write leaves alone, captures, files, jobs; and stores that have no tables."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import MANIFEST
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import named

import akv
from akv import init, sync
from akv.backend.saved import Restored
from akv.optim import LAMB, SGD, Adam
from akv.testing.samples import same
from akv.values.rowsparse import merge
from akv.values.rowsum import RowSum
from akv_memory.row_index import RowIndex
from akv_memory.storage import MemoryStorage
from akv_memory.table import TableCell

quick = settings(max_examples=200, deadline=None)
LARGE = (10**8, 64)
ids = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 50), max_size=60, unique=True)


def rows(*indices: int, value: float = 1.0, shape: tuple[int, ...] = LARGE) -> akv.RowSparse:
    return akv.RowSparse(indices, np.full((len(indices), *shape[1:]), value, np.float32), shape)


def storage_of(kv: Any) -> MemoryStorage:
    storage: MemoryStorage = kv._engine.backend.storage
    return storage


def cell_of(kv: Any, key: str) -> TableCell:
    cell = storage_of(kv)._catalog.entries[key]
    assert isinstance(cell, TableCell)
    return cell


# -- the index ------------------------------------------------------------------------------------------------


@quick
@given(st.lists(ids, max_size=6), ids)
def test_the_index_is_a_dict(batches: list[list[int]], asked: list[int]) -> None:
    index, model = RowIndex(), dict[int, int]()
    for batch in batches:
        new = [row for row in batch if row not in model]
        index.add(np.array(new, np.int64))
        model |= {row: len(model) + place for place, row in enumerate(new)}
        assert index.ids.tolist() == list(model)
        for wanted in (asked, list(model)):
            assert index.find(np.array(wanted, np.int64)).tolist() == [model.get(row, -1) for row in wanted]


def test_ids_that_want_one_spot() -> None:
    """The worst for linear probing: 200 ids whose hashes begin alike."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    alike = [row for spot in range(1, 2000) if (row := spot * inverse % 2**64) < 2**63][:200]
    index = RowIndex()
    for start in range(0, 200, 20):
        index.add(np.array(alike[start : start + 20]))
    assert index.find(np.array(alike)).tolist() == list(range(200))
    assert index.find(np.array([5, 2**62])).tolist() == [-1, -1]


def test_an_index_takes_little() -> None:
    index = RowIndex()
    index.add(np.arange(100_000) * 1000)
    assert index.nbytes < 20 * 100_000


# -- sums -----------------------------------------------------------------------------------------------------


@quick
@given(st.data())
def test_a_sum_in_blocks_is_the_sum(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["f2", "f4", "i4"]))
    lists = data.draw(st.lists(st.lists(st.integers(0, 9), max_size=40), min_size=1, max_size=3))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    parts = [akv.RowSparse(held, (rng.random((len(held), 2)) * 9).astype(dtype), (10, 2)) for held in lists]
    expected, found = merge(parts), RowSum(parts)
    step = data.draw(st.integers(1, 5))
    blocks = [found.values(start, start + step) for start in range(0, max(1, len(found.indices)), step)]
    order = np.argsort(found.indices)
    same(found.indices[order], expected.indices)
    same(np.concatenate(blocks)[order], expected.values)
    for row, total in zip(expected.indices, expected.values, strict=True):
        each = [part.values[part.indices == row].astype("f8").sum(axis=0) for part in parts]
        np.testing.assert_allclose(total.astype("f8"), np.sum(each, axis=0), rtol=1e-2)


# -- writes ---------------------------------------------------------------------------------------------------


def test_rows_are_touched_one_by_one() -> None:
    with sync.connect("memory://") as kv:
        kv.init("w", init.normal(LARGE, seed=1))
        kv.set_optimizer(Adam(learning_rate=0.5))
        for count in range(1, 40):
            kv.push("w", rows(count * 1000))
            cell = cell_of(kv, "w")
            assert cell.index.count == count
            assert len(cell.values) <= 2 * count
            assert all(len(array) <= 2 * count for array in cell.state(storage_of(kv)._updater) or ())


def test_another_optimizer_begins_anew() -> None:
    table = init.uniform((6, 2), seed=1)
    with sync.connect("memory://") as kv:
        kv.init(["table", "array"], [table, table.todense()])
        for optimizer in (SGD(learning_rate=0.5, momentum=0.5), Adam(learning_rate=0.5), SGD(momentum=0.9)):
            kv.set_updater("assign")
            kv.set_optimizer(optimizer)
            for part in (rows(1, 3, shape=(6, 2)), rows(3, 5, 3, shape=(6, 2))):
                kv.push(["table", "array"], [part, part])
        same(*kv.pull(["table", "array"]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite(bad: float) -> None:
    table = init.uniform(LARGE, seed=1)
    for updater in ("add", "assign"):
        with sync.connect("memory://", on_nonfinite="reject") as kv:
            kv.init("w", table)
            kv.set_updater(updater)
            with pytest.raises(akv.NonFinite, match="'w': 64 of its elements"):
                kv.push("w", rows(5, value=bad))
            assert cell_of(kv, "w").index.count == 0
            assert kv.info("w").version == 1
        with sync.connect("memory://", on_nonfinite="skip") as kv:
            kv.init("w", table)
            kv.set_updater(updater)
            assert kv.push("w", rows(5, value=bad)) == 1
            same(kv.row_sparse_pull("w", row_ids=[5]).values, table.rows([5]))
            assert kv.push("w", rows(5)) == 2


def test_an_exception_of_a_function_changes_nothing() -> None:
    def fail(key: Any, pushed: Any, stored: np.ndarray) -> None:
        stored[...] = 7
        raise ZeroDivisionError

    table = init.uniform((6, 2), seed=1)
    with sync.connect("memory://") as kv:
        kv.init("w", table)
        kv.set_updater(fail)
        with pytest.raises(ZeroDivisionError):
            kv.push("w", rows(1, shape=(6, 2)))
        same(kv.pull("w"), table.todense())
        assert cell_of(kv, "w").index.count == 0


def test_compression_takes_no_tables() -> None:
    with sync.connect("memory://") as kv:
        kv.init("w", init.zeros((6, 2)))
        kv.set_gradient_compression({"type": "2bit"})
        for value in (rows(1, shape=(6, 2)), np.ones((6, 2), np.float32)):
            with pytest.raises(akv.InvalidArgument, match=r"'w'.*compression"):
                kv.push("w", value)
        same(kv.pull("w"), np.zeros((6, 2), np.float32))


async def test_large_pulls_leave_the_loop_alone() -> None:
    async with akv.connect("memory://") as kv:
        await kv.init("w", init.normal(LARGE, seed=1))
        done = kv.row_sparse_pull("w", row_ids=np.arange(100_000))
        assert not done.done()
        assert (await done).values.shape == (100_000, 64)


# -- captures and files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [rows(5, 9), rows(*range(50)), np.ones((60, 64), np.float32)], ids=str)
@pytest.mark.parametrize("updater", ["add", "assign", SGD(learning_rate=0.5, momentum=0.5)], ids=str)
def test_what_was_captured_stays(updater: Any, later: Any) -> None:
    """A save reads on while others push; two captures, since the first may be gone before the second."""
    shape = (60, 64)
    later = rows(*later.indices, shape=shape) if isinstance(later, akv.RowSparse) else later
    with sync.connect("memory://") as kv:
        kv.init("w", init.normal(shape, seed=1))
        (kv.set_updater if isinstance(updater, str) else kv.set_optimizer)(updater)
        for _ in range(2):
            kv.push("w", rows(9, 5, 7, shape=shape))
            capture = storage_of(kv).capture(["w"])[1][0]
            assert capture.ids is not None
            arrays = [capture.fetch(), *capture.state, capture.ids]
            before = [array.copy() for array in arrays]
            for _ in range(3):
                kv.push("w", later)
            kv.set_updater("add")
            kv.push("w", later)
            for array, copy in zip(arrays, before, strict=True):
                same(array, copy)
            del capture, arrays


def make(folder: Path) -> None:
    with sync.connect("memory://") as kv:
        kv.init("w", init.uniform(LARGE, seed=3))
        kv.init("b", np.ones(3))
        kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
        kv.push("w", rows(10**7, 5))
        kv.save(folder)


def test_the_safetensors_library_reads_the_files(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    make(tmp_path)
    values, states, held = (numpy.load_file(next(tmp_path.glob(f"{kind}-*"))) for kind in ("values", "states", "rows"))
    assert set(values) == {"w", "b"}
    same(held["w"], np.array([10**7, 5]))
    table = init.uniform(LARGE, seed=3)
    same(values["w"], table.generate(held["w"]) - np.float32(0.5))
    same(states["w/0"], np.full((2, 64), -0.5, np.float32))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000


def test_a_second_save_removes_the_files_of_the_first(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_stores_without_tables_write_what_they_did(tmp_path: Path) -> None:
    with sync.connect("memory://") as kv:
        kv.init("b", np.ones(3))
        kv.save(tmp_path)
    assert not list(tmp_path.glob("rows-*"))
    assert b'"table"' not in (tmp_path / MANIFEST).read_bytes()


def refuses(folder: Path, error: type[Exception], match: str) -> None:
    with sync.connect("memory://") as kv:
        kv.init("mine", np.ones(2))
        with pytest.raises(error, match=match):
            kv.load(folder)
        assert kv.keys() == ["mine"]


@pytest.mark.parametrize("kind", ["values", "states", "rows"])
def test_every_damaged_byte_is_found(tmp_path: Path, kind: str) -> None:
    make(tmp_path)
    path = next(tmp_path.glob(f"{kind}-*"))
    whole = path.read_bytes()
    for place in range(0, len(whole), 1 + len(whole) // 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        refuses(tmp_path, akv.BadCheckpoint, kind)
    path.write_bytes(whole[:-1])
    refuses(tmp_path, akv.BadCheckpoint, kind)
    path.unlink()
    refuses(tmp_path, akv.BadCheckpoint, "is missing")


def forge(folder: Path, change: Callable[[Any, dict[str, Any]], None]) -> None:
    """Change the manifest, and have its checksum be right."""
    content = json.loads((folder / MANIFEST).read_bytes())["checkpoint"]
    (entry,) = (entry for entry in content["shards"][0] if entry["key"] == "w")
    change(entry, entry["table"])
    data = json.dumps(content, separators=(",", ":")).encode()
    (folder / MANIFEST).write_bytes(b'{"crc32":%d,"checkpoint":%b}' % (zlib.crc32(data), data))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda entry, table: entry.pop("table"), akv.BadCheckpoint, "checksums"),
        (lambda entry, table: entry.update(table=None), akv.BadCheckpoint, "initialiser, rows, cleared"),
        (lambda entry, table: table.update(more=1), akv.BadCheckpoint, "initialiser, rows, cleared"),
        (lambda entry, table: table.update(rows=3), akv.BadCheckpoint, "bytes; the manifest says"),
        (lambda entry, table: table.update(rows=-1), akv.BadCheckpoint, "whole number"),
        (lambda entry, table: table.update(rows=10**8 + 1), akv.BadCheckpoint, "whole number"),
        (lambda entry, table: table.update(rows=10**8), akv.BadCheckpoint, "bytes; the manifest says"),
        (lambda entry, table: table.update(rows=True), akv.BadCheckpoint, "whole number"),
        (lambda entry, table: table.update(cleared=1), akv.BadCheckpoint, "true or false"),
        (lambda entry, table: table.update(initialiser={"name": "pickle"}), akv.InvalidArgument, "'pickle'"),
        (lambda entry, table: table.update(initialiser=[]), akv.InvalidArgument, "initialiser"),
        (lambda entry, table: table["initialiser"].update(seed="1"), akv.InvalidArgument, "seed='1'"),
        (lambda entry, table: entry.update(shape=[]), akv.BadCheckpoint, "table that is none"),
        (lambda entry, table: entry.update(dtype="int32"), akv.BadCheckpoint, "table that is none"),
        (lambda entry, table: entry["crc32"].pop(), akv.BadCheckpoint, "2 checksums"),
    ],
)
def test_forged_manifests(tmp_path: Path, change: Any, error: type[Exception], match: str) -> None:
    make(tmp_path)
    forge(tmp_path, change)
    refuses(tmp_path, error, match)


@pytest.mark.parametrize(("held", "match"), [([5, 5], "twice"), ([-1, 5], "outside"), ([5, 10**8], "outside")])
def test_forged_row_ids(tmp_path: Path, held: list[int], match: str) -> None:
    make(tmp_path)
    path = next(tmp_path.glob("rows-*"))
    data = np.array(held).tobytes()
    path.write_bytes(path.read_bytes()[:-16] + data)
    forge(tmp_path, lambda entry, table: entry["crc32"].__setitem__(-1, zlib.crc32(data)))
    refuses(tmp_path, akv.BadCheckpoint, match)


def test_a_load_replaces_the_description(tmp_path: Path) -> None:
    make(tmp_path)
    with sync.connect("memory://") as kv:
        kv.init("w", init.zeros(LARGE))
        kv.load(tmp_path)
        same(kv.row_sparse_pull("w", row_ids=[1]).values, init.uniform(LARGE, seed=3).rows([1]))
        assert kv.info("w").version == 2


def test_a_table_that_was_assigned_to_may_be_initialised_again(tmp_path: Path) -> None:
    """A script that is started again inits, whatever became of the table before it was saved."""
    table = init.uniform(LARGE, seed=3)
    with sync.connect("memory://") as kv:
        kv.init("w", table)
        kv.push("w", rows(5))
        kv.save(tmp_path)
    with sync.connect("memory://") as kv:
        kv.load(tmp_path)
        kv.init("w", table)
        same(kv.row_sparse_pull("w", row_ids=[4, 5]).values, np.repeat(np.array([[0], [1]], np.float32), 64, axis=1))


def test_saved_tables_hold_no_memory_twice(tmp_path: Path) -> None:
    make(tmp_path)
    with sync.connect("memory://") as kv:
        kv.load(tmp_path)
        item = Restored(storage_of(kv).capture(["w"])[1][0].record, None)
        assert item.record.saved_shape == (2, 64)
        assert kv.info("w").nbytes < 2000


# -- jobs, and stores without tables --------------------------------------------------------------------------


async def test_workers_push_to_one_table() -> None:
    table = init.normal(LARGE, seed=2)
    url = named() + "?workers=2"
    async with akv.connect(url) as first, akv.connect(url) as second:
        workers = (first, second)
        for kv in workers:
            kv.init("w", table)
        await first.set_optimizer(SGD(learning_rate=0.5))
        pushes = [kv.push("w", rows(5, 7 + kv.rank)) for kv in workers]
        assert [await push for push in pushes] == [2, 2]
        for kv in workers:
            found = await kv.row_sparse_pull("w", row_ids=[5, 7, 8])
            np.testing.assert_allclose(found.values, table.rows([5, 7, 8]) - np.array([[1], [0.5], [0.5]]), rtol=1e-5)
        with pytest.raises(akv.InvalidArgument, match="25600000000"):
            await first.pull("w")


async def test_a_push_that_no_table_takes_spoils_no_round() -> None:
    url = named() + "?workers=2"
    async with akv.connect(url) as first, akv.connect(url) as second:
        for kv in (first, second):
            kv.init("w", init.zeros((6, 2)))
        await first.set_gradient_compression({"type": "2bit"})
        with pytest.raises(akv.InvalidArgument, match="'w'"):
            await first.push("w", rows(1, shape=(6, 2)))
        assert (await second.info("w")).version == 1


@pytest.mark.parametrize("connect", [sync.connect])
def test_a_store_without_tables_says_so(connect: Any) -> None:
    with connect("ckdict://") as kv:
        assert not kv.is_capable("tables")
        with pytest.raises(akv.InvalidArgument, match=r"'w'.*no tables.*is_capable"):
            kv.init("w", init.zeros((3, 2)))
        assert kv.keys() == []


def test_a_store_without_tables_loads_none(tmp_path: Path) -> None:
    make(tmp_path)
    with sync.connect("ckdict://") as kv:
        with pytest.raises(akv.InvalidArgument, match=r"'w' is a table.*is_capable"):
            kv.load(tmp_path)
        assert kv.keys() == []


def test_it_is_a_capability() -> None:
    with sync.connect("memory://") as kv:
        assert kv.is_capable("tables")


@pytest.mark.parametrize("value", [[init.zeros((3, 2))] * 2, [[init.zeros((3, 2))]], "w"], ids=str)
def test_a_table_stands_alone(value: Any) -> None:
    with sync.connect("memory://") as kv:
        with pytest.raises(akv.AkvError):
            kv.init("w", value)
        with pytest.raises(akv.NotAnArray):
            kv.push("w", init.zeros((3, 2)))
        assert kv.keys() == []


def test_keys_and_tables_in_one_call() -> None:
    with sync.connect("memory://") as kv:
        kv.init(["a", "b"], [init.zeros((3, 2)), np.ones(2)])
        with pytest.raises(akv.KeyExists):
            sync.connect("memory://").init(["c", "c"], [init.zeros((3, 2))] * 2)
        assert kv.keys() == ["a", "b"]


@pytest.mark.parametrize("optimizer", [SGD(learning_rate=0.5, momentum=0.5), LAMB(learning_rate=0.5)], ids=str)
def test_more_rows_than_a_block(optimizer: Any) -> None:
    """Of which an optimizer with norms has to see all at once; and there are repeats in every block."""
    shape = (3000, 64)
    table, rng = init.normal(shape, std=1, seed=4), np.random.default_rng(0)
    with sync.connect("memory://") as kv:
        kv.init(["table", "array"], [table, table.todense()])
        kv.set_optimizer(optimizer)
        for _ in range(3):
            part = akv.RowSparse(rng.integers(0, 3000, 5000), rng.random((5000, 64), np.float32), shape)
            for value in (part, rng.random(shape, np.float32)):
                kv.push(["table", "array"], [value, value])
                same(*kv.pull(["table", "array"]))
