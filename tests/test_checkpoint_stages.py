"""Saving and loading beside other work: what is captured, who waits for whom, and how much memory it takes."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import contents, exactly

import akv
from akv import optim, sync
from akv.checkpoint import disk
from akv.operations import Load, Save

PATIENCE = 20.0
MIB = 1 << 20


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch, where: str, work: Callable[[], Any]) -> Iterator[Callable[[], None]]:
    """Do `work` in a thread; the block begins when it has come to `where` in akv.checkpoint.disk, and stays there.

    Yields what lets it go on and waits for its end.
    """
    arrived, go_on = threading.Event(), threading.Event()
    owner, name = where.split(".")
    original = getattr(getattr(disk, owner), name)

    def waiting(*args: Any) -> Any:
        arrived.set()
        assert go_on.wait(PATIENCE)
        return original(*args)

    thread = threading.Thread(target=work)

    def finish() -> None:
        go_on.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()

    with monkeypatch.context() as patched:
        patched.setattr(getattr(disk, owner), name, waiting)
        thread.start()
        try:
            assert arrived.wait(PATIENCE)
            yield finish
        finally:
            finish()


def trained(url: str, steps: int) -> sync.KVStore:
    kv = sync.connect(url)
    kv.init(["w", "b"], [np.ones((300, 200), np.float32), np.ones(5)])
    kv.set_optimizer(optim.Adam())
    train(kv, range(steps))
    return kv


def train(kv: sync.KVStore, steps: range) -> None:
    for step in steps:
        kv.push("w", np.full((300, 200), step / 4, np.float32))
        kv.push("b", np.full(5, step / 8))
        kv.push("b", akv.RowSparse([step % 5], np.full(1, 0.5), (5,)))


def test_a_save_keeps_what_was_there_while_others_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        trained("memory://shared", 3) as saving,
        sync.connect("memory://shared") as pushing,
        trained("memory://", 3) as twin,
    ):
        before = contents(saving)
        with held(monkeypatch, "NewFile.write", lambda: saving.save(tmp_path / "ck")) as finish:
            train(pushing, range(3, 6))
            pushing.init("new", np.ones(1))
            pushing.delete("new")
            finish()
        train(twin, range(3, 6))
        assert contents(pushing) == contents(twin)
        with sync.connect("memory://") as loaded:
            loaded.load(tmp_path / "ck")
            assert contents(loaded) == before
            train(loaded, range(3, 6))
            assert contents(loaded) == contents(twin)
        saving.delete(["w", "b"])


def test_a_storage_without_snapshots_keeps_its_keys_until_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trained("ckdict://shared", 3) as saving, sync.connect("ckdict://shared") as pushing:
        before = contents(saving)
        with held(monkeypatch, "NewFile.write", lambda: saving.save(tmp_path / "ck")) as finish:
            with pytest.raises(akv.AkvTimeout):
                pushing.push("b", np.ones(5), timeout=0.01)
            pushing.init("new", np.ones(1))
            finish()
        pushing.push("b", np.ones(5))
        with sync.connect("memory://") as loaded:
            loaded.load(tmp_path / "ck")
            assert contents(loaded) == before


def test_a_load_holds_keys_only_for_the_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trained("memory://", 1) as kv:
        kv.save(tmp_path / "ck")
    with sync.connect("memory://shared2") as loading, sync.connect("memory://shared2") as other:
        loading.init("b", np.zeros(5))
        with held(monkeypatch, "OldFile.read_into", lambda: loading.load(tmp_path / "ck")) as finish:
            other.push("b", np.ones(5))
            exactly(other.pull("b"), np.ones(5))
            finish()
        assert other.info("b").version == 3
        loading.delete(["b", "w"])


def test_a_load_that_fits_no_more_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trained("memory://", 1) as kv:
        kv.save(tmp_path / "ck")
    errors = []

    def load() -> None:
        try:
            loading.load(tmp_path / "ck")
        except akv.AkvError as error:
            errors.append(error)

    with sync.connect("memory://shared3") as loading, sync.connect("memory://shared3") as other:
        with held(monkeypatch, "OldFile.read_into", load) as finish:
            other.init("b", np.ones(4))
            finish()
        assert [type(error) for error in errors] == [akv.ShapeMismatch]
        assert other.keys() == ["b"]
        other.set_optimizer(optim.SGD())
        other.delete("b")


async def test_the_loop_goes_on_and_the_handle_may_be_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    original = disk.NewFile.write

    def write(self: disk.NewFile, data: Any, *rest: Any) -> int:
        threads.add(threading.current_thread())
        return original(self, data, *rest)

    monkeypatch.setattr(disk.NewFile, "write", write)
    async with akv.connect("memory://") as kv:
        await kv.init("w", np.ones(3))
        saving = kv.save(tmp_path / "ck")
        assert not saving.done()
        await saving
    assert threads
    assert threading.main_thread() not in threads
    kv = await akv.connect("memory://")
    await kv.init("w", np.ones(MIB))
    saving = kv.save(tmp_path / "other")
    await kv.__aexit__(KeyError, KeyError(), None)
    assert saving.done()


async def test_a_cancelled_load_changes_nothing_or_all(tmp_path: Path) -> None:
    async with akv.connect("memory://") as kv:
        await kv.init(["v", "w"], [np.ones(MIB), np.ones(MIB)])
        await kv.save(tmp_path / "ck")
        await kv.push(["v", "w"], [np.zeros(MIB)] * 2)
        for turns in (0, 1, 10, 100, 1000):
            version = (await kv.info("v")).version
            loading = kv.load(tmp_path / "ck")
            for _ in range(turns):
                await asyncio.sleep(0)
            loading.cancel()
            await kv.flush()
            for key in ("v", "w"):
                assert (await kv.info(key)).version == version + (not loading.cancelled())
                exactly(await kv.pull(key), np.full(MIB, 0.0 if loading.cancelled() else 1.0))
            await kv.push(["v", "w"], [np.zeros(MIB)] * 2)


@pytest.mark.parametrize("stage", ["_gather", "_capture"])
def test_what_is_cancelled_between_two_stages_goes_no_further(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation: Any = Load if stage == "_gather" else Save
    original = getattr(operation, stage)

    def cancelled(self: Any, storage: Any) -> None:
        original(self, storage)
        kv._engine.cancel(self, akv.AkvTimeout("it took too long"))

    with sync.connect("memory://") as kv:
        kv.init("w", np.ones(3))
        kv.save(tmp_path / "ck")
        monkeypatch.setattr(operation, stage, cancelled)
        with pytest.raises(akv.AkvTimeout, match="too long"):
            kv.load(tmp_path / "ck") if operation is Load else kv.save(tmp_path / "other")
        assert kv.info("w").version == 1
        assert not (tmp_path / "other").exists()


def peak(work: Callable[[], Any]) -> int:
    """The most memory that was taken beside what was there."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_a_save_copies_nothing_and_a_load_makes_one_copy(tmp_path: Path) -> None:
    size = 32 * MIB
    with sync.connect("memory://") as kv, sync.connect("memory://") as other:
        kv.init(["v", "w"], [np.ones(size // 8), np.ones(size // 8)])
        kv.set_optimizer(optim.SGD(momentum=0.9))
        kv.push("w", np.ones(size // 8))
        assert peak(lambda: kv.save(tmp_path / "ck")) < 3 * MIB
        # Two values, one state.
        assert peak(lambda: other.load(tmp_path / "ck")) < 3 * size + 3 * MIB
        # While they are replaced the old ones are there too: two, and one that is new.
        assert peak(lambda: other.load(tmp_path / "ck")) < 3 * size + 3 * MIB
        # A push after the save changes the arrays in place again.
        assert peak(lambda: kv.push("w", np.ones(size // 8))) < 2 * size
        assert peak(lambda: kv.push("v", np.broadcast_to(1.0, (size // 8,)))) < size + 3 * MIB


def test_small_pushes_are_as_short_as_before(tmp_path: Path) -> None:
    value = np.ones(4)
    with sync.connect("memory://") as kv:
        kv.init("w", value)
        storage: Any = kv._engine.backend.storage  # type: ignore[attr-defined]
        kv.save(tmp_path / "ck")
        kv.push("w", value)
        assert storage._fitting("w", [value]) is not None


def test_memory_is_set_free_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, keys = 4 * MIB, list("abcdefgh")
    original, left = disk.NewFile.write, list(keys)

    def write(self: disk.NewFile, data: Any, *rest: Any) -> int:
        written = original(self, data, *rest)
        if len(data) == size:
            pushing.push(left.pop(0), np.zeros(size // 8))
        return written

    monkeypatch.setattr(disk.NewFile, "write", write)
    with sync.connect("memory://shared4") as saving, sync.connect("memory://shared4") as pushing:

        def work() -> None:
            saving.init(keys, [np.ones(size // 8)] * 8)
            saving.save(tmp_path / "ck")

        # One value for the copy, one for what is pushed, and one that the threads have not yet let go of.
        assert peak(work) < (8 + 3) * size + 3 * MIB
        assert left == []
        saving.delete(keys)
        saving.load(tmp_path / "ck")
        assert all((saving.pull(key) == 1).all() for key in keys)
        saving.delete(keys)
