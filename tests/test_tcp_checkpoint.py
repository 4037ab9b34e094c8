"""save and load over a network: one moment, whole or not at all, whatever breaks, and in little memory."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import MANIFEST, contents, exactly, files, values
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tcp_cases import Here, Running, Stranger, process, serving, until
from tcp_proxy import Fate, Proxy

import akv
from akv import optim, sync
from akv.backend.saved import Record, SavedUpdater
from akv.checkpoint import Contents, open_writer
from akv.engine import Engine
from akv_tcp import loading, saving, transfers
from akv_tcp import wire as w
from akv_tcp.stream_budget import StreamBudget
from akv_tcp.terms import Terms

MIB = 1 << 20
F4 = np.dtype(np.float32)
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
jobs = count()


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_into(monkeypatch, 64 << 10)


def cut_into(monkeypatch: pytest.MonkeyPatch, nbytes: int) -> None:
    for module in (saving, loading):
        monkeypatch.setattr(module, "PIECE", nbytes)


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    server = Here()
    yield server
    stream_budget = server.server.budget.stream_budget
    server.close()
    assert (stream_budget.streams, stream_budget.held) == (0, 0)


@asynccontextmanager
async def watched(terms: Terms | None = None, **options: Any) -> AsyncGenerator[Running]:
    """A server on this loop that has nothing left of any stream in the end."""
    async with serving(terms, **options) as server:
        yield server
    assert (server.budget.stream_budget.streams, server.budget.stream_budget.held) == (0, 0)


def job(here: Here) -> str:
    return f"{here.url}/{next(jobs)}"


def trained(url: str, nbytes: int = MIB) -> sync.KVStore:
    """Five keys with momentum, all of whose elements are the same."""
    kv = sync.connect(url)
    keys = [f"w{number}" for number in range(5)]
    kv.init(keys, [np.zeros(nbytes // 4, F4)] * 5)
    kv.set_optimizer(optim.SGD(learning_rate=0.5, momentum=0.5))
    push(kv)
    return kv


def push(kv: sync.KVStore) -> None:
    keys = kv.keys()
    kv.push(keys, [np.full(kv.info(key).shape, 1, F4) for key in keys])


# -- what is saved is loaded --------------------------------------------------------------------------------------


def reachable(saved: Mapping[Any, np.ndarray]) -> bool:
    with suppress(UnicodeEncodeError, akv.AkvError):
        for key, value in saved.items():
            str(key).encode()
            w.dtype_from_numpy(value.dtype)
        return True
    return False


@quick
@given(saved=values(), nbytes=st.sampled_from([1, 3, 8, 100, 1 << 20]))
def test_through_a_server_and_back_it_is_the_same_checkpoint(
    here: Here, tmp_path: Path, saved: Mapping[Any, np.ndarray], nbytes: int
) -> None:
    assume(reachable(saved))
    with pytest.MonkeyPatch.context() as patched, sync.connect("memory://") as kv, sync.connect(job(here)) as far:
        cut_into(patched, nbytes)
        for key, value in saved.items():
            kv.init(key, value)
        kv.save(tmp_path / "before")
        far.load(tmp_path / "before")
        assert far.keys() == list(saved)
        far.save(tmp_path / "after")
        assert {key: (await_, found) for key, (await_, found) in contents(far).items()} == contents(kv)
    before, after = read(tmp_path / "before"), read(tmp_path / "after")
    assert before == after


def read(folder: Path) -> tuple[list[bytes], Any]:
    """The files of arrays, and all that the manifest says of them."""
    found = files(folder)
    manifest = json.loads(found.pop(MANIFEST))["checkpoint"]
    del manifest["id"]
    return [found[name] for name in sorted(found)], manifest


@pytest.mark.usefixtures("small_pieces")
def test_training_goes_on_where_it_was(here: Here, tmp_path: Path) -> None:
    with trained(job(here)) as kv, sync.connect(job(here)) as other, sync.connect("memory://") as local:
        kv.set_learning_rate(0.25)
        push(kv)
        kv.save(tmp_path / "ck")
        for store in (other, local):
            store.load(tmp_path / "ck")
        for store in (kv, other, local):
            push(store)
        for key in other.keys():  # noqa: SIM118 - a store is no mapping
            exactly(other.pull(key), kv.pull(key))
            exactly(local.pull(key), kv.pull(key))


@pytest.mark.usefixtures("small_pieces")
def test_states_alone(here: Here, tmp_path: Path) -> None:
    with trained(job(here)) as kv, trained(job(here)) as other:
        push(other)
        kv.save_optimizer_states(tmp_path / "states")
        kv.save(tmp_path / "all")
        for name in ("states", "all"):
            weights = other.pull("w0")
            other.load_optimizer_states(tmp_path / name)
            exactly(other.pull("w0"), weights)
            push(other)
            # The momentum was that of the first push.
            exactly(other.pull("w0"), weights + F4.type(-0.75))
        with sync.connect(job(here)) as empty:
            with pytest.raises(akv.KeyNotFound, match="load_optimizer_states"):
                empty.load_optimizer_states(tmp_path / "states")
            with pytest.raises(akv.InvalidArgument, match="set_optimizer"):
                empty.save_optimizer_states(tmp_path / "none")
            with pytest.raises(akv.InvalidArgument, match="optimizer states only"):
                empty.load(tmp_path / "states")


def test_shards_of_several_servers_are_loaded_by_one(here: Here, tmp_path: Path) -> None:
    updater = SavedUpdater("assign")
    with open_writer("save", str(tmp_path), True, lambda nbytes: None) as writer:
        shards = []
        for number in range(3):
            with trained("memory://", 64) as kv:
                kv.delete([f"w{key}" for key in range(5) if key % 3 != number])
                storage: Any = kv._engine.backend.storage  # type: ignore[attr-defined]
                updater, captures = storage.capture(storage.keys())
                shards.append(writer.write_shard(captures, number, 3))
        writer.commit(updater, shards)
    with sync.connect(job(here)) as kv:
        kv.load(tmp_path)
        assert sorted(kv.keys()) == [f"w{number}" for number in range(5)]
        push(kv)
        exactly(kv.pull("w4"), np.full(16, -1.25, F4))


@pytest.mark.usefixtures("small_pieces")
async def test_a_job_with_rounds(tmp_path: Path) -> None:
    async with watched() as server:
        url = f"{server.url}/rounds?workers=2&consistency=sync"
        async with akv.connect(url) as one, akv.connect(url) as two:
            value = np.ones(MIB // 4, F4)
            await asyncio.gather(one.init("w", value), two.init("w", value))
            await asyncio.gather(one.push("w", value), two.push("w", value))
            await one.save(tmp_path / "ck")
            await asyncio.gather(one.push("w", 5 * value), two.push("w", value))
            exactly(await two.pull("w"), 6 * value)
            await two.load(tmp_path / "ck")
            exactly(await one.pull("w"), 2 * value)
            await asyncio.gather(one.push("w", 5 * value), two.push("w", value))
            exactly(await two.pull("w"), 6 * value)


# -- one moment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory", "tcp"])
@pytest.mark.parametrize("late", [False, True])
def test_a_cut_is_one_moment_whatever_is_pushed_meanwhile(here: Here, late: bool, url: str, tmp_path: Path) -> None:
    """Also when the first push comes while what the optimizer keeps is written."""
    url = job(here) if url == "tcp" else f"memory://moment{late}"
    with trained(url, 3 * MIB) as kv, sync.connect(url) as pushing:
        before = contents(kv)
        pushes = 0

        def meanwhile(done: int, total: int) -> None:
            nonlocal pushes
            if (16 if late else 1) * MIB <= done < total:
                push(pushing)
                pushes += 1

        kv.save(tmp_path / "ck", progress=meanwhile)
        assert pushes > 10
        assert contents(kv) != before
        kv.delete(kv.keys())
    with sync.connect("memory://") as loaded:
        loaded.load(tmp_path / "ck")
        assert contents(loaded) == before
        with trained("memory://", 3 * MIB) as twin:
            push(twin)
            push(loaded)
            assert contents(loaded) == contents(twin)


async def test_a_cut_never_comes_between_the_keys_of_a_push(tmp_path: Path) -> None:
    async with savage() as (server, him), akv.connect(server.url + "/j") as kv:
        keys = list("abcdefgh")
        await kv.init(keys, [np.zeros(1 << 15, F4)] * len(keys))
        await kv.set_optimizer(optim.SGD(learning_rate=1.0))

        async def work() -> None:
            while True:
                await kv.push(keys, [np.full(1 << 15, -1, F4)] * len(keys))

        working = asyncio.ensure_future(work())
        found = set()
        for stream in range(1, 100):
            versions = {record.version for record in Contents.decode(await him.capture(stream)).records}
            assert len(versions) == 1
            values = np.frombuffer(await him.fetch(stream, 0, MIB), F4)
            assert values.size == 8 << 15
            assert (values == values[0]).all()
            assert values[0] == versions.copy().pop() - 1
            found |= versions
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        assert len(found) > 10, "hardly anything was pushed meanwhile"


@pytest.mark.usefixtures("small_pieces")
def test_a_storage_without_snapshots_is_copied(tmp_path: Path) -> None:
    from akv.backend.registry import resolve

    def simple(name: str) -> Engine:
        location = resolve("ckdict://", {})
        return Engine(location.provider.open("", location.options), inline=False)

    async def main() -> None:
        async with watched(make_engine=simple) as server:
            async with akv.connect(server.url + "/j") as kv, akv.connect(server.url + "/j") as pushing:
                await kv.init("w", np.zeros(MIB // 4, F4))
                loop = asyncio.get_running_loop()

                def meanwhile(done: int, total: int) -> None:
                    if 0 < done < total:
                        value = np.full(MIB // 4, done, F4)
                        asyncio.run_coroutine_threadsafe(_push(pushing, value), loop).result(20)

                await kv.save(tmp_path / "ck", progress=meanwhile)
                assert (await kv.pull("w"))[0]
                await kv.load(tmp_path / "ck")
                exactly(await kv.pull("w"), np.zeros(MIB // 4, F4))

    akv.run(main())


async def _push(kv: akv.KVStore, value: np.ndarray) -> None:
    await kv.push("w", value)


# -- the network breaks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "up", "after"),
    [("save", False, 500_000), ("save", True, 400), ("load", True, 500_000), ("load", False, 300)],
)
@pytest.mark.parametrize("what", ["cut", "half-close"])
@pytest.mark.usefixtures("small_pieces")
async def test_a_connection_that_breaks_now_and_then_changes_nothing(
    what: Any, verb: str, up: bool, after: int, tmp_path: Path
) -> None:
    async with watched() as server, akv.connect(server.url + "/j") as kv:
        value = np.random.default_rng(0).random(MIB // 8)
        await kv.init(["w", "v"], [value, -value])
        if verb == "load":
            await kv.save(tmp_path / "ck")
            await kv.delete("v")
            await kv.push("w", np.zeros(MIB // 8))
        broken = Proxy(server.port, (Fate(what, up, after + 7 * number) for number in count()))
        async with broken.run() as url, akv.connect(f"{url}/j", reconnect=20) as far:
            await getattr(far, verb)(tmp_path / "ck")
        assert broken.cuts > 1
        if verb == "save":
            await kv.delete(["v", "w"])
            await kv.load(tmp_path / "ck")
        exactly(await kv.pull("w"), value)
        exactly(await kv.pull("v"), -value)
        # Restored once, and not twice: the versions say.
        assert (await kv.info("w")).version == (2 if verb == "save" else 3)
        assert (await kv.info("v")).version == 2


@pytest.mark.parametrize("verb", ["save", "load"])
@pytest.mark.usefixtures("small_pieces")
async def test_one_that_breaks_for_good_changes_nothing(verb: str, tmp_path: Path) -> None:
    async with watched(Terms(lease=0.2, heartbeat=0.1)) as server:
        async with akv.connect(server.url + "/j") as kv:
            await kv.init(["w", "v"], [np.ones(MIB // 8)] * 2)
            await kv.save(tmp_path / "ck")
            await kv.push("w", np.zeros(MIB // 8))
            before, stored = files(tmp_path / "ck"), await kv.pull("w")
            fates = chain([Fate("cut", verb == "load", MIB)], repeat(Fate("cut", True, 0)))
            broken = Proxy(server.port, fates)
            async with broken.run() as url:
                far = await akv.connect(f"{url}/j", reconnect=0.3)
                with pytest.raises(akv.ConnectionLost, match=verb):
                    await getattr(far, verb)(tmp_path / "ck")
                await far.aclose()
            assert files(tmp_path / "ck") == before
            exactly(await kv.pull("w"), stored)
            assert (await kv.info("w")).version == 2
            # The client is forgotten, and its stream with it.
            await until(lambda: server.budget.stream_budget.streams == 0)


@pytest.mark.usefixtures("small_pieces")
async def test_a_server_that_stops_meanwhile(tmp_path: Path) -> None:
    async with watched() as server:
        kv = await akv.connect(server.url + "/j")
        await kv.init("w", np.ones(MIB))
        await kv.save(tmp_path / "ck")
        before = files(tmp_path / "ck")
        loop = asyncio.get_running_loop()
        stopping: list[Any] = []

        def stop(done: int, total: int) -> None:
            if done and not stopping:
                stopping.append(asyncio.run_coroutine_threadsafe(server.stop(), loop))

        with pytest.raises(akv.AkvError, match="stopped"):
            await kv.save(tmp_path / "ck", progress=stop)
        assert files(tmp_path / "ck") == before
        await asyncio.wrap_future(stopping[0])
        with suppress(akv.AkvError):
            await kv.aclose()


# -- cancelled ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
async def test_a_cancelled_save_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    async with watched() as server, akv.connect(server.url + "/j") as kv:
        await kv.init("w", np.ones(MIB))
        await kv.save(tmp_path / "ck")
        before = files(tmp_path / "ck")
        for turns in (0, 1, 3, 10, 30, 100, 300):
            await kv.push("w", np.zeros(MIB))
            saving = kv.save(tmp_path / "ck")
            for _ in range(turns):
                await asyncio.sleep(0.0001)
            saving.cancel()
            await kv.flush()
            if saving.cancelled() and files(tmp_path / "ck") != before:
                # It was past the last moment: then the new one is there, and whole.
                assert len(files(tmp_path / "ck")) == len(before)
                await kv.load(tmp_path / "ck")
                assert (await kv.pull("w") == 0).all()
            before = files(tmp_path / "ck")
        await until(lambda: server.budget.stream_budget.streams == 0)
        await kv.save(tmp_path / "ck")


@pytest.mark.usefixtures("small_pieces")
async def test_a_cancelled_load_changes_nothing_or_all(tmp_path: Path) -> None:
    async with watched() as server, akv.connect(server.url + "/j") as kv:
        zeros = np.zeros(MIB // 8)
        await kv.init(["v", "w"], [zeros + 1] * 2)
        await kv.save(tmp_path / "ck")
        await kv.push(["v", "w"], [zeros] * 2)
        undone = 0
        for turns in (0, 1, 3, 10, 30, 100, 300):
            version = (await kv.info("v")).version
            loading = kv.load(tmp_path / "ck")
            for _ in range(turns):
                await asyncio.sleep(0.0001)
            loading.cancel()
            await kv.flush()
            await until(lambda: server.budget.stream_budget.streams == 0)
            changed = {(await kv.info(key)).version - version for key in ("v", "w")}
            assert changed in ({0}, {1})
            assert loading.cancelled() or changed == {1}
            undone += changed == {0}
            for key in ("v", "w"):
                exactly(await kv.pull(key), zeros + changed.copy().pop())
            await kv.push(["v", "w"], [zeros] * 2)
        assert undone


@pytest.mark.usefixtures("small_pieces")
def test_a_time_out_ends_it(here: Here, tmp_path: Path) -> None:
    with trained(job(here)) as kv:
        kv.save(tmp_path / "ck")
        before = files(tmp_path / "ck")
        for verb in (kv.save, kv.load):
            with pytest.raises(akv.AkvTimeout, match=verb.__name__):
                verb(tmp_path / "ck", timeout=1e-9)
        assert files(tmp_path / "ck") == before
        assert kv.info("w0").version == 2
        kv.load(tmp_path / "ck")
        assert kv.info("w0").version == 3


@pytest.mark.parametrize("verb", ["save", "load"])
@pytest.mark.parametrize("url", ["memory://", "tcp"])
@pytest.mark.usefixtures("small_pieces")
def test_progress_goes_up_and_may_end_it(here: Here, url: str, verb: str, tmp_path: Path) -> None:
    with trained(job(here) if url == "tcp" else url, 3 * MIB) as kv:
        kv.save(tmp_path / "ck")
        before, stored = files(tmp_path / "ck"), contents(kv)
        seen: list[tuple[int, int]] = []

        def look(done: int, total: int) -> None:
            seen.append((done, total))
            if limit is not None and done > limit:
                raise ZeroDivisionError("on purpose")

        limit: int | None = MIB
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            getattr(kv, verb)(tmp_path / "ck", progress=look)
        assert files(tmp_path / "ck") == before
        assert contents(kv) == stored
        limit = None
        seen.clear()
        getattr(kv, verb)(tmp_path / "ck", progress=look)
        # Five values, five momenta.
        assert {total for _, total in seen} == {30 * MIB}
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})
        assert (seen[0][0], seen[-1][0]) == (0, 30 * MIB)
        with pytest.raises(akv.InvalidArgument, match="progress"):
            getattr(kv, verb)(tmp_path / "ck", progress=3)


# -- what does not fit --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_pieces")
async def test_what_is_damaged_is_found_before_anything_changes(tmp_path: Path) -> None:
    async with watched() as server, akv.connect(server.url + "/j") as kv:
        await kv.init(["v", "w"], [np.ones(MIB // 8)] * 2)
        await kv.save(tmp_path / "ck")
        (file,) = (tmp_path / "ck").glob("values*")
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        await kv.push("v", np.zeros(MIB // 8))
        with pytest.raises(akv.BadCheckpoint, match=r"'w'.*damaged"):
            await kv.load(tmp_path / "ck")
        exactly(await kv.pull("v"), np.zeros(MIB // 8))
        await until(lambda: server.budget.stream_budget.streams == 0)
        await kv.save(tmp_path / "ck")
        await kv.load(tmp_path / "ck")


def test_what_does_not_fit_the_store_is_known_before_it_is_sent(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_send", lambda *_: pytest.fail("it was sent"))
    with trained(job(here)) as kv, sync.connect(job(here)) as other:
        kv.save(tmp_path / "ck")
        other.init("w3", np.zeros(7, F4))
        with pytest.raises(akv.ShapeMismatch, match="load of key 'w3'"):
            other.load(tmp_path / "ck")
        kv.set_updater("assign")
        kv.set_optimizer(optim.Adam())
        with pytest.raises(akv.UpdaterConflict, match="Adam"):
            kv.load(tmp_path / "ck")


async def test_what_the_disk_refuses_costs_the_server_nothing(tmp_path: Path) -> None:
    async with watched() as server, akv.connect(server.url + "/j") as kv:
        await kv.init("w", np.ones(3))
        with pytest.raises(akv.DiskError, match="No such file"):
            await kv.save(tmp_path / "no" / "where")
        with pytest.raises(akv.DiskError, match="No such file"):
            await kv.load(tmp_path / "nowhere")
        assert server.sessions[0].transfers._stream == 0


# -- little memory ------------------------------------------------------------------------------------------------


def test_neither_end_holds_a_second_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are in this process, so what is counted is what both of them take."""
    cut_into(monkeypatch, MIB)
    size = 48 * MIB
    here = Here()
    with sync.connect(job(here)) as kv, sync.connect(job(here)) as other:
        kv.init(["v", "w"], [np.ones(size // 8)] * 2)
        assert peak(lambda: kv.save(tmp_path / "ck")) < 12 * MIB
        assert peak(lambda: other.load(tmp_path / "ck")) < 2 * size + 12 * MIB
        exactly(other.pull("w"), np.ones(size // 8))
    here.close()


def test_memory_is_set_free_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key is pushed to when it was fetched, and so takes no memory twice."""
    cut_into(monkeypatch, MIB)
    size, keys = 4 * MIB, list("abcdefgh")
    here, left = Here(), list(keys)
    url = job(here)
    with sync.connect(url) as kv, sync.connect(url) as pushing:
        kv.init(keys, [np.ones(size // 8)] * len(keys))

        def meanwhile(done: int, total: int) -> None:
            # Two pieces are asked for before they are needed.
            if left and done > (len(keys) - len(left) + 1) * size + 2 * MIB:
                pushing.push(left.pop(0), np.zeros(size // 8))

        assert peak(lambda: kv.save(tmp_path / "ck", progress=meanwhile)) < 3 * size + 12 * MIB
        assert len(left) < 3
    here.close()


def peak(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# -- strangers ----------------------------------------------------------------------------------------------------


class Savage(Stranger):
    """A stranger with a job, who numbers his requests."""

    def __init__(self, server: Running, client: bytes = bytes(16), number: int = 0) -> None:
        super().__init__(server)
        self._client, self.number = client, number

    async def __aenter__(self) -> Savage:
        await super().__aenter__()
        await self.greet("j", self._client, resume=self.number > 0)
        return self

    async def ask(self, make: Callable[[int], w.Message]) -> w.Result:
        """The answer, or the error that it tells of."""
        self.number += 1
        await self.send(make(self.number))
        answer = await self.event()
        if isinstance(answer, w.Error):
            raise w.error_from(answer.code, answer.text)
        assert isinstance(answer, w.Result)
        return answer

    async def announce(self, stream: int, text: bytes) -> w.Result:
        return await self.ask(lambda number: w.Announce(number, 0, None, *parcel(stream, 0, text)))

    async def stage(self, stream: int, offset: int, data: bytes) -> w.Result:
        return await self.ask(lambda number: w.Stage(number, 0, None, *parcel(stream, offset, data)))

    async def restore(self, stream: int) -> w.Result:
        return await self.ask(lambda number: w.Restore(number, 0, None, stream))

    async def capture(self, stream: int, values: bool = True) -> bytes:
        result = await self.ask(lambda number: w.Capture(number, 0, None, stream, values))
        return bytes(result.data[0])  # type: ignore[arg-type]

    async def fetch(self, stream: int, offset: int, nbytes: int) -> bytes:
        result = await self.ask(lambda number: w.Fetch(number, 0, None, stream, offset, nbytes))
        return bytes(result.data[0])  # type: ignore[arg-type]


def parcel(stream: Any, offset: int, data: bytes) -> tuple[tuple[w.Entry, ...], tuple[bytes, ...]]:
    return (w.Entry(stream, 1, int(w.DType.UINT8), (len(data),), 0, len(data), offset),), (data,)


def told(*records: Record, updater: SavedUpdater | None = None) -> bytes:
    return Contents(True, updater or SavedUpdater("assign"), records).encode()


VECTOR = Record("w", (3,), F4, 5)


class Place:
    """See stream_budget.Stream."""

    stream_budget: StreamBudget
    gone = False

    def __init__(self, here: bool = True) -> None:
        self._here = here

    def attached(self) -> bool:
        return self._here

    def make_way(self) -> None:
        self.gone = True
        self.stream_budget.close(self)


@asynccontextmanager
async def savage(terms: Terms | None = None) -> AsyncGenerator[tuple[Running, Savage]]:
    async with watched(terms) as server, Savage(server) as stranger:
        yield server, stranger  # type: ignore[misc]


@pytest.mark.parametrize("number", [0, 1, 255, 256, 257, 1000])
@pytest.mark.parametrize("values", [True, False])
def test_contents_are_told_whole(number: int, values: bool) -> None:
    updater = SavedUpdater("optimizer", optim.SGD(momentum=0.5), 0.5, {1: 2.0}, {})
    records = [Record(key, (key, 2), F4, key, key, (F4,) if key else None) for key in range(number)]
    found = Contents.decode(Contents(values, updater, records).encode())
    assert (found.values, found.records) == (values, records)
    assert (found.updater.optimizer, found.updater.lr_mult) == (updater.optimizer, {1: 2.0})
    tensors, nbytes = found.tensors()
    assert nbytes == sum(tensor.nbytes for tensor in tensors) == (1 + values) * 4 * number * (number - 1)


async def test_the_way_in_and_out_by_hand() -> None:
    async with savage() as (server, him), akv.connect(server.url + "/j") as kv:
        await him.announce(1, told(VECTOR, Record("e", (0, 2), F4, 1)))
        data = np.arange(3, dtype=F4).tobytes()
        await him.stage(1, 0, data[:5])
        await him.stage(1, 5, data[5:])
        assert await kv.keys() == []
        await him.restore(1)
        assert await kv.keys() == ["w", "e"]
        exactly(await kv.pull("w"), np.arange(3, dtype=F4))
        assert (await kv.info("w")).version == 5
        found = Contents.decode(await him.capture(2))
        assert [record.key for record in found.records] == ["w", "e"]
        await kv.push("w", np.zeros(3, F4))
        assert await him.fetch(2, 0, 7) == data[:7]
        assert await him.fetch(2, 7, 2**64 - 1) == data[7:]
        await him.send(w.Release(2))
        with pytest.raises(akv.InvalidArgument, match="no stream 2"):
            await him.fetch(2, 0, 1)


@pytest.mark.parametrize(
    ("offset", "data"), [(1, b"12345678"), (0, b"0123456789abc"), (12, b"1"), (2**63, b"1"), (2**64 - 1, b"1")]
)
async def test_bytes_that_are_not_the_next(offset: int, data: bytes) -> None:
    async with savage() as (server, him):
        await him.announce(1, told(VECTOR))
        with pytest.raises(akv.InvalidArgument, match="of 12 bytes are there"):
            await him.stage(1, offset, data)
        # An error ends the stream.
        with pytest.raises(akv.InvalidArgument, match="no stream 1"):
            await him.stage(1, 0, b"1")
        assert server.budget.stream_budget.streams == 0


async def test_what_came_in_part_is_not_taken_in() -> None:
    async with savage() as (server, him), akv.connect(server.url + "/j") as kv:
        await him.announce(1, told(VECTOR))
        await him.stage(1, 0, bytes(11))
        with pytest.raises(akv.InvalidArgument, match="11 of 12 bytes have come"):
            await him.restore(1)
        assert await kv.keys() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"values":true,"updater":{},"records":[]}',
        told(VECTOR).replace(b"true", b"1"),
        told(VECTOR).replace(b"float32", b"object"),
        told(VECTOR).replace(b"[3]", b"[-3]"),
        told(VECTOR, VECTOR),
        told(VECTOR, Record(1, (3,), F4, 5)),
        told(Record("w", (2**40, 2**40), F4, 5)),
        told(Record("w", (3,), F4, 5, 1, (F4,))),
        told(VECTOR, updater=SavedUpdater("optimizer")),
    ],
)
async def test_contents_that_make_no_sense(text: bytes) -> None:
    async with savage() as (server, him):
        with pytest.raises((akv.BadCheckpoint, akv.DTypeMismatch)):
            await him.announce(1, text)
        assert server.budget.stream_budget.streams == 0


@pytest.mark.parametrize("key", ["k" * 1025, "\ud800", "é" * 600])
async def test_keys_that_nobody_could_name(key: str) -> None:
    async with savage() as (_, him):
        with pytest.raises(akv.InvalidArgument, match="cannot be kept"):
            await him.announce(1, told(Record(key, (3,), F4, 1)))


async def test_more_than_a_server_has_is_refused_before_it_is_taken() -> None:
    async with savage(Terms(held=MIB)) as (server, him):
        assert server.budget.stream_budget.total == 2 * MIB
        with pytest.raises(akv.QueueFull, match=str(1 << 50)):
            await him.announce(1, told(Record("w", (1 << 48,), F4, 1)))
        with pytest.raises(akv.QueueFull):
            await him.announce(2, told(*[Record(str(key), (0,), F4, 1) for key in range(1000)]))
        assert (server.budget.stream_budget.streams, server.budget.stream_budget.held) == (0, 0)
        await him.announce(3, told(VECTOR))


def test_contents_take_no_more_memory_than_was_reckoned() -> None:
    lists, objects = b"[%b0]" % (b"[[[[[[[[[]]]]]]]]]," * 3000), b"[%b0]" % (b'{"":0},' * 10_000)
    for text in (lists, objects, b"[%b0]" % (b'"\xc3\xa9a",' * 10_000), b"[%b0]" % (b"0.5," * 10_000)):

        def decode(text: bytes = text) -> None:
            with suppress(akv.BadCheckpoint):
                Contents.decode(text)

        assert peak(decode) < transfers._UNFOLDED * len(text)


async def test_a_bool_is_one_or_zero() -> None:
    async with savage() as (server, him), akv.connect(server.url + "/j") as kv:
        await him.announce(1, told(Record("w", (3,), np.dtype(bool), 1)))
        with pytest.raises(akv.BadCheckpoint, match="bool"):
            await him.stage(1, 0, b"\0\1\2")
        assert await kv.keys() == []


async def test_bytes_before_the_last_are_let_go() -> None:
    async with savage() as (server, him), akv.connect(server.url + "/j") as kv:
        await kv.init(["v", "w"], [np.ones(3, F4), np.zeros(3, F4)])
        await him.capture(1)
        assert await him.fetch(1, 13, 1) == b"\0"
        for offset in (0, 24, 2**64 - 1):
            await him.capture(1)
            await him.fetch(1, 13, 1)
            with pytest.raises(akv.InvalidArgument, match=f"byte {offset} of 24"):
                await him.fetch(1, offset, 1)


@pytest.mark.parametrize(
    "request_",
    [
        w.Stage(1, 0, None, *parcel("1", 0, b"1")),
        w.Stage(1, 0, None, *parcel(-1, 0, b"1")),
        w.Stage(1),
        w.Announce(1, 0, None, (w.Entry(1, 1, 11, (1,), 0, 4),), (bytes(4),)),
        w.Announce(1, 0, None, *[pair * 2 for pair in parcel(1, 0, b"{}")]),  # type: ignore[arg-type]
    ],
)
async def test_messages_that_make_no_sense(request_: w.Message) -> None:
    async with savage() as (_, him):
        with pytest.raises(akv.ProtocolError, match="brings one entry of bytes"):
            await him.ask(lambda number: request_)


async def test_a_client_has_one_stream_and_all_together_some() -> None:
    async with savage() as (server, him), akv.connect(server.url + "/j") as kv:
        await kv.init("w", np.ones(3, F4))
        for stream in range(1, 40):
            await him.capture(stream)
            await him.announce(100 + stream, told(VECTOR))
            await him.capture(stream)
        assert server.budget.stream_budget.streams == 1
        others = [Place() for _ in range(16)]
        for other in others[1:]:
            server.budget.stream_budget.open(other)
        await him.capture(1)
        await him.send(w.Release(1))
        await until(lambda: server.budget.stream_budget.streams == 15)
        server.budget.stream_budget.open(others[0])
        with pytest.raises(akv.QueueFull, match="16 saves"):
            await him.capture(1)
        for other in others:
            server.budget.stream_budget.close(other)


async def test_streams_of_clients_that_are_gone_make_way() -> None:
    async with watched() as server, akv.connect(server.url + "/j") as kv:
        await kv.init("w", np.ones(3, F4))
        for number in range(40):
            async with Savage(server, bytes([number] * 16)) as him:
                await him.capture(1)
            await until(lambda: server.connections == 1)
        assert server.budget.stream_budget.streams == 16
        # Who comes back finds the place taken, or the stream as it was: the last sixteen have theirs.
        for number, kept in [(23, False), (24, True), (39, True)]:
            async with Savage(server, bytes([number] * 16), 1) as him:
                if kept:
                    assert len(await him.fetch(1, 0, 100)) == 12
                else:
                    with pytest.raises(akv.QueueFull, match="had no connection"):
                        await him.fetch(1, 0, 100)
        for session in server.sessions:
            session.transfers.close()


async def test_memory_of_clients_that_are_gone_makes_way_if_that_is_enough() -> None:
    stream_budget = StreamBudget(10)
    near, far, farther = Place(), Place(False), Place(False)
    for place in (near, far, farther):
        place.stream_budget = stream_budget
        stream_budget.open(place)
        stream_budget.take(place, 3)
    with pytest.raises(akv.QueueFull, match="8 bytes"):
        stream_budget.take(near, 8)
    assert (stream_budget.held, stream_budget.streams) == (9, 3)
    stream_budget.take(near, 4)
    assert (stream_budget.held, stream_budget.streams) == (10, 2)
    assert far.gone
    assert not farther.gone
    with pytest.raises(akv.QueueFull):  # who is away himself makes no way for himself
        stream_budget.take(farther, 1)
    assert (stream_budget.held, stream_budget.streams) == (10, 2)


async def test_what_nobody_asks_of_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "IDLE", 0.05)
    async with savage() as (server, him), akv.connect(server.url + "/j") as kv:
        await kv.init("w", np.ones(3))
        await him.capture(1)
        await until(lambda: server.budget.stream_budget.streams == 0)
        with pytest.raises(akv.AkvTimeout, match=r"0\.05 s"):
            await him.fetch(1, 0, 1)
        await him.announce(2, told(Record("x", (3,), F4, 5)))
        await until(lambda: server.budget.stream_budget.held == 0)
        with pytest.raises(akv.AkvTimeout):
            await him.stage(2, 0, b"1")


async def test_a_stream_that_was_released_does_not_take_another_with_it() -> None:
    """What is answered late is of a stream that is no more."""
    async with savage() as (server, him), akv.connect(server.url + "/j") as kv:
        await kv.init("w", np.ones(3))
        await him.send(w.Announce(1, 0, None, *parcel(1, 0, b"?")), w.Release(1), w.Capture(2, 0, None, 2))
        answers = [await him.event(), await him.event()]
        assert sorted(type(answer).__name__ for answer in answers) == ["Error", "Result"]
        him.number = 2
        assert len(await him.fetch(2, 0, 100)) == 24


def test_a_stream_budget_is_empty_when_all_is_closed() -> None:
    stream_budget, place = StreamBudget(10), Place()
    stream_budget.open(place)
    stream_budget.take(place, 6)
    with pytest.raises(akv.QueueFull, match="6"):
        stream_budget.take(place, 5)
    stream_budget.close(place)
    stream_budget.close(place)
    assert (stream_budget.held, stream_budget.streams) == (0, 0)


def test_with_a_server_process(tmp_path: Path) -> None:
    with process() as (url, _), trained(f"{url}/j", 20 * MIB) as kv, sync.connect(f"{url}/k") as other:
        kv.save(tmp_path / "ck")
        other.load(tmp_path / "ck")
        assert contents(other) == contents(kv)
