"""Several handles, threads and loops on one store: no push is lost, and nobody sees half of one."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from store_cases import PATIENCE, named
from sync_cases import begin

import akv
from akv import sync

THREADS, PUSHES = 4, 200
Work = Callable[[str, int], None]


def one_hot(place: int) -> np.ndarray:
    array = np.zeros(THREADS * PUSHES, np.float32)
    array[place] = 1
    return array


async def _push_async(url: str, thread: int) -> None:
    async with akv.connect(url) as kv:
        places = range(thread, THREADS * PUSHES, THREADS)
        for batch in itertools.zip_longest(*[iter(places)] * 7):
            await asyncio.gather(*(kv.push("w", one_hot(place)) for place in batch if place is not None))


def push_async(url: str, thread: int) -> None:
    asyncio.run(_push_async(url, thread))


def push_by_akv_run(url: str, thread: int) -> None:
    akv.run(_push_async(url, thread))


def push_blocking(url: str, thread: int) -> None:
    with sync.connect(url) as kv:
        for place in range(thread, THREADS * PUSHES, THREADS):
            kv.push("w", one_hot(place))


def on_all_threads(work: Callable[[int], Work], url: str) -> None:
    for future in [begin(work(thread), url, thread) for thread in range(THREADS)]:
        future.result(3 * PATIENCE)


def mixed(thread: int) -> Work:
    return (push_async, push_blocking, push_by_akv_run, push_blocking)[thread % 4]


class TestSums:
    @pytest.mark.parametrize("inline", [True, False])
    @pytest.mark.parametrize("work", [lambda _: push_async, lambda _: push_blocking, mixed])
    def test_no_push_is_lost(self, work: Callable[[int], Work], inline: bool) -> None:
        """Each adds 1 to a place of its own, through a handle of its own, from a thread and a loop of its own."""
        with sync.connect(url := named(), inline=inline) as kv:
            kv.init("w", np.zeros(THREADS * PUSHES, np.float32))
            kv.set_updater("add")
            on_all_threads(work, url)
            assert (kv.pull("w") == 1).all()
            assert kv.info("w").version == 1 + THREADS * PUSHES

    def test_nor_with_a_function_as_updater(self) -> None:
        """It changes a copy, which is swapped in: two at a time on one key would lose one."""

        def add(key: Any, pushed: np.ndarray, stored: np.ndarray) -> None:
            stored += pushed

        with sync.connect(url := named()) as kv:
            kv.init("w", np.zeros(THREADS * PUSHES, np.float32))
            kv.set_updater(add)
            on_all_threads(mixed, url)
            assert (kv.pull("w") == 1).all()

    def test_keys_of_their_own(self) -> None:
        """Inits at the same time: one of them makes the key, the others find it."""

        def work(url: str, thread: int) -> None:
            with sync.connect(url) as kv:
                for number in range(50):
                    kv.init(f"w{number}", np.full(3, 7.0))
                    assert (kv.pull(f"w{number}") >= 7).all()
                    kv.push(f"w{number}", np.ones(3))

        with sync.connect(url := named()) as kv:
            kv.set_updater("add")
            on_all_threads(lambda _: work, url)
            assert set(kv.keys()) == {f"w{number}" for number in range(50)}
            assert all((value == 7 + THREADS).all() for value in kv.pull(kv.keys()))


class TestWhole:
    @pytest.mark.parametrize("size", [100, 1 << 20])
    @pytest.mark.parametrize("updater", ["assign", "add"])
    def test_what_is_read_meanwhile_is_never_torn(self, updater: str, size: int) -> None:
        """All elements of a value are equal; pulls and snapshots see only such, and snapshots stay as they are."""
        going = threading.Event()
        going.set()

        def read(url: str) -> int:
            kept: list[tuple[float, np.ndarray]] = []
            reads = 0
            with sync.connect(url) as kv:
                out = np.empty(size, np.float32)
                while going.is_set():
                    for array in (kv.snapshot("w"), kv.pull("w"), kv.pull("w", out=out)):
                        assert array.min() == array.max()
                        reads += 1
                    snapshot = kv.snapshot("w")
                    kept = [*kept[-3:], (snapshot[0], snapshot)]
                    for value, old in kept:
                        assert old.min() == old.max() == value
            return reads

        def push(url: str) -> None:
            with sync.connect(url) as kv:
                for number in range(40 if size > 1000 else 2000):
                    kv.push("w", np.full(size, number % 100, np.float32))

        with sync.connect(url := named()) as kv:
            kv.init("w", np.zeros(size, np.float32))
            kv.set_updater(updater)
            readers = [begin(read, url) for _ in range(2)]
            writers = [begin(push, url) for _ in range(2)]
            for writer in writers:
                writer.result(3 * PATIENCE)
            going.clear()
            assert all(reader.result(PATIENCE) for reader in readers)

    def test_versions_only_grow(self) -> None:
        """For each reader, whatever it asks by."""
        with sync.connect(url := named()) as kv:
            kv.init("w", np.zeros(4, np.float32))
            kv.set_updater("add")

            def read() -> None:
                last = 0
                with sync.connect(url) as reader:
                    while last < 1 + 2 * PUSHES:
                        value = reader.pull("w")[0]
                        version = reader.info("w").version
                        assert value + 1 <= version  # the value was read before
                        assert version >= last
                        last = version
                        assert reader.pull("w", min_version=version)[0] + 1 >= version

            def push() -> None:
                with sync.connect(url) as writer:
                    for _ in range(PUSHES):
                        writer.push("w", np.ones(4, np.float32))

            futures = [begin(read), begin(read), begin(push), begin(push)]
            for future in futures:
                future.result(3 * PATIENCE)


class TestLoops:
    def test_a_wait_on_one_loop_ends_with_a_push_on_another(self) -> None:
        url = named()

        async def play(mine: str, other: str) -> int:
            async with akv.connect(url) as kv, asyncio.timeout(3 * PATIENCE):
                await kv.init([mine, other], [np.zeros(1), np.zeros(1)])
                for version in range(2, 52):
                    await kv.push(mine, np.ones(1))
                    await kv.wait_version(other, version)
                return (await kv.info(other)).version

        players: list[Coroutine[Any, Any, int]] = [play("ping", "pong"), play("pong", "ping")]
        futures = [begin(asyncio.run, players[0]), begin(akv.run, players[1])]
        assert all(future.result(3 * PATIENCE) >= 51 for future in futures)

    def test_a_handle_is_for_the_loop_it_was_opened_on(self) -> None:
        async def use(kv: akv.KVStore) -> None:
            kv.push("w", np.ones(1))

        async def open_and_hand_over() -> None:
            async with akv.connect("memory://") as kv:
                await kv.init("w", np.ones(1))
                await asyncio.sleep(0.001)  # the turn in which the loop was looked at is over
                with pytest.raises(akv.WrongLoop, match="open a handle on each loop"):
                    await asyncio.to_thread(asyncio.run, use(kv))

        asyncio.run(open_and_hand_over())
