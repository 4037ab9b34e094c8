"""The blocking face: the names of `create`, the classic script, and where it may be used."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from store_cases import PATIENCE, named, no_collection, ones
from sync_cases import BIG, begin, parked, until

import akv
from akv import blocking, sync


class TestCreate:
    LOCAL = ("local", "local_update_cpu", "local_allreduce_cpu", "local_allreduce_device", "device")
    CLUSTER = (
        *("dist", "dist_sync", "dist_device_sync", "dist_sync_device"),
        *("dist_async", "dist_async_device", "dist_device_async"),
    )

    @pytest.mark.parametrize("name", [*LOCAL, "LOCAL", "Device"])
    def test_mxnets_local_names(self, name: str) -> None:
        with sync.create(name) as kv:
            assert (kv.type, kv.rank, kv.num_workers) == (name.lower(), 0, 1)
            kv.init(3, ones())
            assert (kv.pull(3) == 1).all()

    def test_each_is_a_store_of_its_own(self) -> None:
        with sync.create() as one, sync.create() as other:
            one.init("w", ones())
            assert other.keys() == []

    @pytest.mark.parametrize("name", CLUSTER)
    def test_a_cluster_needs_an_address(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AKV_URL", raising=False)
        with pytest.raises(akv.BackendUnavailable, match=f"{name}.*AKV_URL"):
            sync.create(name)

    def test_and_is_looked_for_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AKV_URL", "nowhere://host:7070/job")
        with pytest.raises(akv.UnknownStore, match="nowhere://"):
            sync.create("dist_sync")

    @pytest.mark.parametrize("name", ["", "garbage", "localhost", "dist_foo", "horovod", "memory://"])
    def test_any_other_name_is_an_error_that_lists_the_known(self, name: str) -> None:
        with pytest.raises(akv.UnknownStore) as caught:
            sync.create(name)
        assert all(known in str(caught.value) for known in (repr(name), *self.LOCAL, *self.CLUSTER))

    @pytest.mark.parametrize("name", [None, 3, b"local"])
    def test_a_name_is_a_str(self, name: object) -> None:
        with pytest.raises(akv.InvalidArgument):
            sync.create(name)  # type: ignore[arg-type]


class TestClassic:
    def test_the_chapter_of_d2l(self) -> None:
        kv = sync.create("local")
        shape = (2, 3)
        kv.init(3, np.ones(shape) * 2)
        a = np.zeros(shape)
        kv.pull(3, out=a)
        assert (a == 2).all()
        kv.push(3, np.ones(shape) * 8)
        kv.pull(3, out=a)
        assert (a == 8).all()
        b = [np.ones(shape) for _ in range(4)]
        kv.push(3, b)
        kv.pull(3, out=a)
        assert (a == 4).all()

        def update(key: Any, given: np.ndarray, stored: np.ndarray) -> None:
            assert type(key) is int
            stored += given * 2

        kv._set_updater(update)
        kv.push(3, np.ones(shape))
        kv.pull(3, out=a)
        assert (a == 6).all()
        keys = [5, 7, 9]
        kv.init(keys, [np.ones(shape)] * len(keys))
        kv.push(keys, [np.ones(shape)] * len(keys))
        outs = [np.zeros(shape) for _ in keys]
        kv.pull(keys, out=outs)
        assert all((out == 3).all() for out in outs)
        kv.push(keys, [[np.ones(shape)] * 4] * len(keys))
        kv.pull(keys, out=outs)
        assert all((out == 11).all() for out in outs)
        kv._barrier()

    def test_pushpull_without_out_writes_into_the_value(self) -> None:
        with sync.create() as kv:
            kv.init("w", ones(5))
            kv.set_updater("add")
            for size in (4, BIG):
                if size == BIG:
                    kv.delete("w")
                    kv.init("w", np.full(BIG, 5, np.float32))
                value = np.ones(size, np.float32)
                assert kv.pushpull("w", value) is value
                assert (value == 6).all()


class TestAnywhere:
    async def test_inside_a_running_loop(self) -> None:
        """In a notebook, say; also what takes a thread of the store."""
        for inline in (True, False):
            with sync.connect("memory://", inline=inline) as kv:
                kv.init(["w", "big"], [ones(), np.ones(BIG, np.float32)])
                assert kv.push(["w", "big"], [ones(2), np.full(BIG, 2, np.float32)]) == [2, 2]
                assert kv.pull("big").sum() == 2 * BIG

    async def test_side_by_side_with_the_async_face(self) -> None:
        url = named()
        with sync.connect(url) as blocking:
            async with akv.connect(url) as kv:
                await kv.init("w", ones())
                waiting = kv.wait_version("w", 2)
                assert blocking.push("w", ones(3)) == 2
                assert await waiting == 2
                follow = begin(blocking.wait_version, "w", 3)
                await kv.push("w", ones(4))
                assert follow.result(PATIENCE) == 3

    def test_one_handle_in_several_threads(self) -> None:
        with sync.create() as kv:
            kv.init("w", np.zeros(100, np.float32))
            kv.set_updater("add")

            def push(thread: int) -> None:
                for number in range(thread, 100, 4):
                    one_hot = np.zeros(100, np.float32)
                    one_hot[number] = 1
                    kv.push("w", one_hot)

            for future in [begin(push, thread) for thread in range(4)]:
                future.result(PATIENCE)
            assert (kv.pull("w") == 1).all()
            assert kv.info("w").version == 101

    @pytest.mark.parametrize("wrong", [{"key": 1.5}, {"key": "w", "timeout": "soon"}])
    def test_a_watch_is_checked_at_the_call(self, wrong: dict[str, Any]) -> None:
        with sync.create() as kv, pytest.raises((akv.KeyTypeError, akv.InvalidArgument)):
            kv.watch(**wrong)

    def test_small_work_needs_no_thread(self) -> None:
        before = set(threading.enumerate())
        with sync.create() as kv:
            kv.init(["w", "v"], [ones(), ones()])
            kv.set_updater(lambda key, given, stored: None)
            for _ in range(50):
                kv.push(["w", "v"], [ones(), ones()])
                kv.pull("w")
                kv.wait_version("w", 1)
                kv.flush()
            assert set(threading.enumerate()) <= before
            kv.set_updater("add")
            kv.push("w", ones())
            waiting = [begin(kv.wait_version, "w", kv.info("w").version + 1) for _ in range(3)]
            until(lambda: parked(kv) == 3)
            kv.push("w", ones())
            assert all(future.result(PATIENCE) for future in waiting)
            started = set(threading.enumerate()) - before
            assert not [thread for thread in started if thread.name.startswith("akv-")]

    def test_work_goes_on_where_no_thread_can_be_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the interpreter shuts down, for one (from Python 3.12 on): then the caller does it itself."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        with sync.connect("memory://", inline=False) as kv:
            monkeypatch.setattr(threading.Thread, "start", refuse)
            kv.init("w", np.zeros(4 * BIG, np.float32))
            assert kv.push("w", np.ones(4 * BIG, np.float32)) == 2
            assert kv.pull("w").all()

    @pytest.mark.parametrize("inline", [True, False])
    @pytest.mark.parametrize("key", ["w", "no key"])
    def test_what_was_pushed_is_freed(self, key: str, inline: bool) -> None:
        """At once, not by a garbage collection; also where the push failed."""
        with sync.connect("memory://", inline=inline) as kv, no_collection():
            kv.init("w", ones())
            array = ones()
            gone = weakref.ref(array)
            with suppress(akv.KeyNotFound):
                kv.push(key, array)
            del array
            until(lambda: gone() is None)


def test_all_handles_are_closed_at_exit() -> None:
    kv, closed = sync.create(), sync.create()
    closed.close()
    blocking._close_all()
    with pytest.raises(akv.StoreClosed):
        kv.push("w", ones())
