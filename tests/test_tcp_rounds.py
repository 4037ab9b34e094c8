"""Rounds between processes: the laws of several workers against a server, and what only a network adds."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tcp_cases import _SERVE, QUICK, Running, Stranger, engine, process, rounds, serving, until
from tcp_proxy import CALM, Fate, Proxy
from worker_laws import WorkerLaws, gradient, names, stays

import akv
from akv import sync
from akv.backend.registry import register
from akv.cli import main
from akv.job import Settings, Wishes
from akv.optim import sum_into
from akv_tcp import wire as w
from akv_tcp.agreed import rules, wishes_of
from akv_tcp.hosting import host_rounds
from akv_tcp.payloads import pack
from akv_tcp.server import Server
from akv_tcp.terms import Terms


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The URLs of two servers, by what they do with what is not finite: to refuse it is the default."""
    skipping = _SERVE.replace("memory://", "memory://?on_nonfinite=skip")
    with process() as (rejecting, _), process(skipping) as (skips, _):
        yield {"allow": rejecting, "reject": rejecting, "skip": skips}


@pytest.fixture
def address(servers: dict[str, str]) -> str:
    """A server in a process of its own."""
    return servers["reject"]


class TestTcpWorkers(WorkerLaws):
    kind = "tcp"
    worker_timeout = 0.1
    short = 0.3

    @pytest.fixture(autouse=True)
    def _servers(self, servers: dict[str, str]) -> None:
        self._urls = servers

    def url(self, options: str, on_nonfinite: str = "allow") -> str:
        return f"{self._urls[on_nonfinite]}/{next(names)}?{options}"


# -- the same as in one process -------------------------------------------------------------------------------

SIZES = {"a": 3, "b": 1000, "c": 70_000, "d": 600_000}
STEPS = 4


async def trained(url: str, seed: int, dtype: Any) -> list[list[np.ndarray]]:
    """What three workers see who push four keys in an order, and at times, of their own."""
    chance = random.Random(seed)

    async def work(rank: int) -> list[np.ndarray]:
        seen: list[np.ndarray] = []
        async with akv.connect(url, workers=3, rank=rank, timeout=20) as kv:
            order = chance.sample(list(SIZES), len(SIZES))
            inits = [kv.init(key, np.ones(SIZES[key], dtype)) for key in order]
            await asyncio.gather(*inits)
            await kv.set_optimizer(akv.optim.SGD(learning_rate=0.25, momentum=0.5))
            for step in range(STEPS):
                order = chance.sample(list(SIZES), len(SIZES))
                pushes = [kv.push(key, gradient(rank, step, SIZES[key], dtype), chance.randint(-2, 2)) for key in order]
                await asyncio.sleep(chance.choice([0, 0, 0.002]))
                assert {*await asyncio.gather(*pushes)} == {step + 2}
                seen += await kv.pull(list(SIZES))
        return seen

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        workers = [group.create_task(work(rank)) for rank in range(3)]
    return [worker.result() for worker in workers]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
async def test_results_are_the_bits_of_every_run_and_of_one_process(address: str, dtype: Any) -> None:
    runs = [await trained(f"{address}/{next(names)}", seed, dtype) for seed in (1, 2)]
    runs.append(await trained(f"memory://{next(names)}", 3, dtype))
    expected = runs[0][0]
    assert len(expected) == STEPS * len(SIZES)
    for seen in itertools.chain.from_iterable(runs):
        for value, bits in zip(seen, expected, strict=True):
            np.testing.assert_array_equal(value, bits, strict=True)


# -- contributions that come in slices ------------------------------------------------------------------------

# 1.5 MiB: three slices.
LARGE = 393_216


@contextlib.asynccontextmanager
async def workers(server: Running, number: int, dtype: Any = np.float32) -> AsyncIterator[list[akv.KVStore]]:
    """The workers of a job with a large key."""
    url = f"{server.url}/{next(names)}?workers={number}&timeout=20"
    async with contextlib.AsyncExitStack() as stack:
        handles = [await stack.enter_async_context(akv.connect(url, rank=rank)) for rank in range(number)]
        await asyncio.gather(*[kv.init("w", np.zeros(LARGE, dtype)) for kv in handles])
        yield handles


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.float16, ml_dtypes.bfloat16])
async def test_slices_of_several_workers_are_summed_to_the_bit(number: int, dtype: Any) -> None:
    chance = random.Random(number)
    async with serving() as server, workers(server, number, dtype) as handles:
        for step in range(3):
            parts = [gradient(rank, step, LARGE, dtype) for rank in range(number)]
            expected = np.empty_like(parts[0])
            sum_into(expected, parts)
            ranks = chance.sample(range(number), number)
            calls = {rank: handles[rank].pushpull("w", parts[rank]) for rank in ranks}
            await asyncio.gather(*calls.values())
            for call in calls.values():
                assert (await call).tobytes() == expected.tobytes()
            assert (await handles[0].pull("w")).tobytes() == expected.tobytes()


@pytest.mark.parametrize("place", [0, LARGE // 2, LARGE - 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_what_is_not_finite_is_refused_to_its_sender_and_in_no_sum(
    place: int, bad: float, order: tuple[int, int]
) -> None:
    ones = np.ones(LARGE, np.float32)
    poisoned = ones.copy()
    poisoned[place] = bad
    async with serving() as server, workers(server, 2) as handles:
        good, other = [handles[rank] for rank in order]
        waiting = good.pushpull("w", ones)
        with pytest.raises(akv.NonFinite, match="1 of its elements"):
            await other.push("w", poisoned)
        assert not waiting.done()
        await other.push("w", 2 * ones)
        assert ((await waiting) == 3).all()
        # What overflows only as a sum is nobody's fault.
        most = np.full(LARGE, np.finfo(np.float32).max)
        await asyncio.gather(good.push("w", most), other.push("w", most))
        assert np.isinf(await good.pull("w")).all()


async def test_a_push_that_is_cut_off_leaves_nothing_in_the_sum() -> None:
    ones = np.ones(LARGE, np.float32)
    async with serving() as server, Stranger(server) as other:
        async with akv.connect(f"{server.url}/job?workers=2&rank=0&timeout=20") as kv:
            await kv.init("w", 0 * ones)
            await other.greet(client=bytes([1]) * 16)
            waiting = kv.pushpull("w", ones)
            await until(lambda: any(peer.connection.count > 2 * ones.nbytes for peer in server._peers))
            for number in (2, 3):
                entry, data = pack("w", 7 * ones)
                other.sender.put(w.Push(number, entries=(entry,), data=(data,)))
                await other.send_bytes(b"".join(other.sender.next_batch()))
                await until(lambda: any(peer.connection.decoder.reserved > 0 for peer in server._peers))
                assert other.sender.withdraw(number) is w.Withdrawn.CUT
                await other.send()
            entry, data = pack("w", 2 * ones)
            await other.send(w.Push(4, entries=(entry,), data=(data,)))
            assert ((await waiting) == 3).all()


async def test_a_key_that_is_deleted_meanwhile_takes_the_sum_with_it() -> None:
    ones = np.ones(LARGE, np.float32)
    async with serving() as server, workers(server, 2) as (first, second):
        waiting = first.pushpull("w", ones)
        await until(lambda: any(peer.connection.count > 2 * ones.nbytes for peer in server._peers))
        await second.delete("w")
        with pytest.raises(akv.KeyNotFound):
            await waiting
        await asyncio.gather(*[kv.init("w", 0 * ones) for kv in (first, second)])
        await asyncio.gather(first.push("w", 5 * ones), second.push("w", 2 * ones))
        assert ((await first.pull("w")) == 7).all()


async def test_who_is_lost_is_in_the_sum_if_the_contribution_was_whole() -> None:
    ones = np.ones(LARGE, np.float32)
    async with serving() as server:
        url = f"{server.url}/job?workers=3&on_worker_loss=drop&timeout=20"
        async with akv.connect(url) as first, akv.connect(url) as second, akv.connect(url) as third:
            await asyncio.gather(*[kv.init("w", 0 * ones) for kv in (first, second, third)])
            await third.push("w", 4 * ones)
            job = server.jobs._rounds["job"]
            job.lose(next(session for session, worker in job._workers.items() if worker.rank == third.rank))
            for expected in (7, 3):
                await asyncio.gather(first.push("w", ones), second.push("w", 2 * ones))
                assert ((await first.pull("w")) == expected).all()


async def test_what_is_sent_again_after_a_break_is_summed_once() -> None:
    fates = itertools.chain([Fate("cut", True, LARGE * share) for share in (2, 5, 7, 9, 11)], itertools.repeat(CALM))
    ones = np.ones(LARGE, np.float32)
    async with serving(QUICK) as server, Proxy(server.port, fates).run() as way:
        place = f"/{next(names)}?workers=2&timeout=20"
        async with akv.connect(way + place, rank=1) as cut, akv.connect(server.url + place) as kv:
            await asyncio.gather(cut.init("w", 0 * ones), kv.init("w", 0 * ones))
            for step in range(4):
                await asyncio.gather(cut.push("w", (step + 1) * ones), kv.push("w", 10 * ones))
                assert ((await cut.pull("w")) == 11 + step).all()


async def test_workers_of_both_faces_meet(address: str) -> None:
    url = f"{address}/{next(names)}?workers=2&timeout=20"

    def script() -> list[float]:
        with sync.connect(url, rank=1) as kv:
            kv.init("w", np.zeros(2))
            return [float(kv.pushpull("w", np.full(2, step + 1.0))[0]) for step in range(10)]

    async with akv.connect(url, rank=0) as kv:
        other = asyncio.get_running_loop().run_in_executor(None, script)
        await kv.init("w", np.zeros(2))
        seen = [float((await kv.pushpull("w", np.full(2, 10.0 * (step + 1))))[0]) for step in range(10)]
        assert seen == await other == [11.0 * (step + 1) for step in range(10)]


@pytest.mark.parametrize("size", [1000, 200_000])
@pytest.mark.parametrize("consistency", ["sync", "async"])
async def test_packed_contributions_are_summed(address: str, size: int, consistency: str) -> None:
    url = f"{address}/{next(names)}?workers=2&timeout=20&consistency={consistency}"
    async with akv.connect(url) as first, akv.connect(url) as second:
        await first.init("w", np.zeros(size, np.float32))
        await first.set_updater("add")
        for kv in (first, second):
            await kv.set_gradient_compression({"type": "2bit", "threshold": 0.5})
        pushes = [kv.push("w", np.full(size, value, np.float32)) for kv, value in ((first, 0.75), (second, -0.5))]
        await asyncio.gather(*pushes)
        await asyncio.gather(first.barrier(), second.barrier())
        for kv in (first, second):
            np.testing.assert_array_equal(await kv.pull("w"), np.zeros(size, np.float32))
        both = [first.pushpull("w", np.full(size, 0.25, np.float32)), second.push("w", np.zeros(size, np.float32))]
        value, _ = await asyncio.gather(*both)  # with what the first push left out
        if consistency == "sync":
            np.testing.assert_array_equal(value, np.full(size, 0.5, np.float32))
        async with akv.connect(url.replace("workers=2&", ""), role="reader") as reader:
            assert (await reader.pull("w")).shape == (size,)


async def test_who_forgets_to_pack_is_refused_before_it_counts(address: str) -> None:
    url = f"{address}/{next(names)}?workers=2&timeout=20"
    async with akv.connect(url) as first, akv.connect(url) as second:
        await first.init("w", np.zeros(1000, np.float32))
        await first.set_gradient_compression({"type": "fp16"})
        await first.push("w", np.ones(1000, np.float32))
        with pytest.raises(akv.CompressionConflict):
            await second.push("w", np.ones(1000, np.float32))
        await second.set_gradient_compression({"type": "fp16"})
        with pytest.raises(akv.NonFinite):
            await second.push("w", np.full(1000, np.nan, np.float32))
        await second.push("w", np.ones(1000, np.float32))
        assert ((await first.pull("w")) == 2).all()


async def test_ssp_never_lets_the_clocks_drift_further_than_it_says(address: str) -> None:
    staleness, steps = 2, 30
    clocks = [0, 0, 0]
    widest = 0

    async def work(rank: int) -> None:
        nonlocal widest
        chance = random.Random(rank)
        url = f"{address}/{job}?workers=3&consistency=ssp&staleness={staleness}&timeout=20"
        async with akv.connect(url, rank=rank) as kv:
            await kv.init("w", np.zeros(4))
            for _ in range(steps):
                await kv.push("w", np.ones(4))
                # Accepted: every other had made at least one push less than the bound allows.
                clocks[rank] += 1
                widest = max(widest, clocks[rank] - min(clocks))
                await asyncio.sleep(chance.choice([0, 0, 0.003 * rank]))
            await kv.barrier()
            assert (await kv.info("w")).version == 1 + 3 * steps

    job = next(names)
    async with asyncio.TaskGroup() as group:
        for rank in range(3):
            group.create_task(work(rank))
    # One more than the bound, since a client hears of its push after the server has counted it.
    assert 1 <= widest <= staleness + 2


# -- who chooses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("workers=3", "workers=3 is not what this job runs with: its first client chose 2"),
        ("workers=2&consistency=async", "consistency=async"),
        ("workers=2&on_worker_loss=drop", "on_worker_loss"),
        ("consistency=ssp&staleness=1", "consistency=ssp"),
        ("rank=2", "rank 2: this job has 2 workers"),
        ("rank=0", "rank 0 is taken by a live worker"),
        ("role=reader&rank=1", "a reader has no rank"),
    ],
)
async def test_the_first_clients_choice_holds(address: str, options: str, message: str) -> None:
    job = f"{address}/{next(names)}"
    async with akv.connect(f"{job}?workers=2&worker_timeout=7&rank=0"):
        with pytest.raises(akv.InvalidArgument, match=message):
            await akv.connect(f"{job}?{options}")
        async with akv.connect(job) as second:  # which wishes for nothing
            assert (second.rank, second.num_workers) == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("workers=2&staleness=1", "staleness=1"),
        ("workers=100000", "workers=100000: this server takes 1024"),
        ("workers=2&worker_timeout=0.01", "worker_timeout=0.01"),
        ("workers=2&rank=2", "rank 2"),
        ("consistency=sync", "AKV_WORKERS"),
        ("worker_timeout=5", "AKV_WORKERS"),
        ("rank=0", "AKV_WORKERS"),
    ],
)
async def test_wishes_without_meaning_open_nothing(address: str, options: str, message: str) -> None:
    job = f"{address}/{next(names)}"
    with pytest.raises(akv.InvalidArgument, match=message):
        await akv.connect(f"{job}?{options}")
    async with akv.connect(f"{job}?workers=1") as kv:
        assert kv.num_workers == 1


@pytest.mark.parametrize("options", ["workers=0", "consistency=bsp", "role=boss", "rank=-1", "on_worker_loss=cry"])
async def test_options_that_cannot_be_read(options: str) -> None:
    with pytest.raises(akv.InvalidArgument, match=options.partition("=")[0]):
        await akv.connect(f"tcp://127.0.0.1:1/job?{options}")


def test_wishes_travel() -> None:
    for consistency, loss in itertools.product(["sync", "async", "ssp", None], ["abort", "drop", "wait", None]):
        wishes = Wishes(consistency, 3, 4, loss, 5.0)  # type: ignore[arg-type]
        assert wishes_of(rules(wishes)) == wishes


async def test_a_store_without_rounds_has_none_later(address: str) -> None:
    job = f"{address}/{next(names)}"
    async with akv.connect(job) as kv:
        assert (kv.rank, kv.num_workers) == (0, 1)
        with pytest.raises(akv.InvalidArgument, match="opened without"):
            await akv.connect(job, workers=2)
    # What nobody uses and nothing is in gives way.
    for workers in (2, 3):
        async with akv.connect(job, workers=workers) as kv:
            assert kv.num_workers == workers
    job += "-full"
    async with akv.connect(job, consistency="async") as kv:
        await kv.init("w", np.zeros(1))
    with pytest.raises(akv.InvalidArgument, match="opened without"):
        await akv.connect(job, workers=2)


async def test_readers_of_a_store_without_rounds(address: str) -> None:
    job = f"{address}/{next(names)}"
    with pytest.raises(akv.BackendUnavailable, match="no job"):
        await akv.connect(job, role="reader")
    async with akv.connect(job) as kv:
        await kv.init("w", np.ones(3))
        async with akv.connect(job, role="reader") as reader:
            assert reader.rank == -1
            assert (await reader.pull("w") == 1).all()
            for call in (reader.push("w", np.ones(3)), reader.init("v", np.ones(1)), reader.delete("w")):
                with pytest.raises(akv.InvalidArgument, match="reader"):
                    await call
        assert await kv.keys() == ["w"]


def test_mxnets_names(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKV_URL", f"{address}/{next(names)}")
    with pytest.raises(akv.InvalidArgument, match="AKV_WORKERS"):
        sync.create("dist_sync")
    with sync.create("dist_async") as kv:
        assert (kv.type, kv.rank, kv.num_workers) == ("dist_async", 0, 1)
    monkeypatch.setenv("AKV_WORKERS", "2")
    for name in ("dist_sync", "dist_device_sync"):
        with sync.create(name) as first, sync.create(name) as second:
            assert [(kv.type, kv.rank, kv.num_workers) for kv in (first, second)] == [(name, 0, 2), (name, 1, 2)]
    monkeypatch.setenv("AKV_RANK", "1")
    monkeypatch.setenv("AKV_URL", f"{address}/{next(names)}")
    with sync.create("dist_async") as kv, sync.create() as local:
        assert (kv.rank, kv.num_workers, local.num_workers) == (1, 2, 1)


def test_who_looks_takes_no_place(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    job = f"{address}/{next(names)}"
    assert main(["ls", job]) == 1
    assert "no job" in capsys.readouterr().err
    for options in ("?workers=2", "-plain"):
        with sync.connect(job + options) as kv:
            kv.init("w", np.ones(3))
            plain = job + options.partition("?")[0]
            for words in (["ls", plain], ["info", plain, "w"], ["get", plain, "w"]):
                assert main(words) == 0
            assert "[1. 1. 1.]" in capsys.readouterr().out
            with sync.connect(job + options) as other:
                assert other.num_workers == (2 if "workers" in options else 1)


class Roundless:
    """A store that is none of `LocalBackend`."""

    options: Mapping[str, Any] = {}
    shared = lasting = False

    def open(self, name: str, options: Mapping[str, Any]) -> Any:
        return SimpleNamespace(remote=False, close=lambda: None)


async def test_a_server_that_hosts_what_has_no_rounds() -> None:
    with contextlib.suppress(akv.UnknownStore):  # it is registered already
        register("roundless", Roundless())
    make = host_rounds("roundless://")
    async with serving() as server:
        server.jobs._make_rounds = make
        with pytest.raises(akv.InvalidArgument, match="has no rounds"):
            await akv.connect(f"{server.url}/job?workers=2")
    with pytest.raises(akv.InvalidArgument, match="for its clients to say"):
        host_rounds("memory://x?workers=2")
    server = Server(lambda job: pytest.fail("not asked"))
    with pytest.raises(akv.InvalidArgument, match="no rounds"):
        server.jobs._make_rounds("job", Settings(workers=2))


# -- connections that break -----------------------------------------------------------------------------------


async def test_rank_and_round_outlive_a_connection() -> None:
    async with serving(QUICK) as server, Proxy(server.port, iter([Fate("cut", True, 3000)] * 20)).run() as url:
        place = f"{url}/job?workers=2&timeout=20"
        async with akv.connect(place, rank=1) as cut, akv.connect(f"{server.url}/job?workers=2&timeout=20") as kv:
            assert (cut.rank, kv.rank) == (1, 0)
            await asyncio.gather(cut.init("w", np.zeros(100)), kv.init("w", np.zeros(100)))
            for step in range(20):
                pushes = asyncio.gather(cut.push("w", np.ones(100)), kv.push("w", np.full(100, 2.0)))
                assert await pushes == [step + 2, step + 2]
                assert ((await cut.pull("w")) == 3).all()
            assert cut.rank == 1


async def test_a_call_that_times_out_names_who_is_missing_and_where() -> None:
    async with serving(QUICK) as server:
        url = f"{server.url}/job?workers=3"
        async with akv.connect(url, timeout=0.2) as kv, akv.connect(url, timeout=20) as other:
            await kv.init("w", np.zeros(1))
            for each in (kv, other):
                await each.push("w", np.ones(1))
            with pytest.raises(
                akv.AkvTimeout, match=rf"pull of key 'w'.*{server.url}.* waited 0\.[12]\d* s for ranks \[2\]"
            ) as info:
                await kv.pull("w")
            assert info.value.ranks == (2,)
            with pytest.raises(akv.AkvTimeout, match=r"barrier.* ranks \[1, 2\]"):
                await kv.barrier()
            # It harms nobody.
            async with akv.connect(url, timeout=20) as third:
                await third.push("w", np.ones(1))
                assert ((await kv.pull("w")) == 3).all()
                await asyncio.gather(kv.barrier(), other.barrier(), third.barrier())


async def test_a_server_that_stops_ends_what_waits_for_others() -> None:
    server = Running(engine, None, rounds)
    await server.run()
    kv = await akv.connect(f"{server.url}/job?workers=2")
    await kv.init("w", np.zeros(1))
    await kv.push("w", np.ones(1))
    calls = [kv.pull("w"), kv.barrier(), kv.wait_version("w", 3)]
    await stays(calls, False, False, False)
    async with asyncio.timeout(5):
        await server.stop()
    for call in calls:
        with pytest.raises(akv.StoreClosed):
            await call
    await kv.aclose()


# -- memory ---------------------------------------------------------------------------------------------------


async def test_what_waits_for_others_keeps_nobody_from_sending() -> None:
    """Pushes that are held take no room, else the one that all wait for could not come in."""
    size, keys = 300_000, [f"k{number}" for number in range(6)]
    nbytes = size * 4
    async with serving(Terms(held=3 * nbytes, window=2 * nbytes, outbox=nbytes)) as server:
        url = f"{server.url}/job?workers=2&timeout=20"
        async with akv.connect(url) as first, akv.connect(url) as second:
            for key in keys:
                await first.init(key, np.zeros(size, np.float32))
            # Three rounds ahead on each key, all results wanted; the other comes through all the same.
            ones = np.ones(size, np.float32)
            calls = [first.pushpull(key, ones) for _ in range(3) for key in keys]
            await until(lambda: sum(len(session._work) for session in server.sessions) >= len(keys))
            for _ in range(3):
                assert {*await asyncio.gather(*[second.push(key, ones) for key in reversed(keys)])}
            for value in await asyncio.gather(*calls):
                assert (value == 2).all()
        await until(lambda: server.budget.held == 0)


# -- strangers ------------------------------------------------------------------------------------------------


async def test_a_hello_is_answered_with_what_holds() -> None:
    async with serving(QUICK) as server, Stranger(server) as one, Stranger(server) as reader:
        wishes = w.Settings(w.Consistency.SSP, 3, 2, w.OnLoss.WAIT, 8.0)
        await one.send(w.Hello((1,), bytes(16), "job", rank=1, wishes=wishes))
        welcome = await one.event()
        assert isinstance(welcome, w.Welcome)
        assert (welcome.rank, welcome.num_workers, welcome.settled) == (1, 2, wishes)
        assert welcome.heartbeat == QUICK.heartbeat
        await reader.send(w.Hello((1,), bytes([1]) * 16, "job", w.Role.READER))
        welcome = await reader.event()
        assert isinstance(welcome, w.Welcome)
        assert (welcome.rank, welcome.settled) == (None, wishes)


async def test_heartbeats_are_as_quick_as_the_time_out_needs() -> None:
    async with serving(Terms(heartbeat=2.0)) as server, Stranger(server) as one:
        await one.send(w.Hello((1,), bytes(16), "job", wishes=w.Settings(workers=1, worker_timeout=0.8)))
        welcome = await one.event()
        assert isinstance(welcome, w.Welcome)
        assert welcome.heartbeat == pytest.approx(0.2)
