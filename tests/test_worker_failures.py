"""A worker that leaves its block by an exception is lost to the others, as one that is killed; else it just leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from tcp_cases import PATIENCE, Here, serving, until
from worker_laws import names, stays

import akv
from akv import sync

# Over a network the server has to notice: this is how long it takes at least.
SILENCE = 0.3


class Broken(Exception):
    """Of the worker's own code."""


@pytest.fixture(scope="module")
def server() -> Iterator[Here]:
    here = Here()
    yield here
    here.close()


@pytest.fixture(params=["memory", "tcp"])
def make_url(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The URL of a new job of two, whose workers are lost in the way that is given."""
    place = "memory://" if request.param == "memory" else request.getfixturevalue("server").url + "/"
    rest = f"worker_timeout={SILENCE if request.param == 'tcp' else 60}&timeout={PATIENCE}"
    return lambda policy: f"{place}{next(names)}?workers=2&on_worker_loss={policy}&{rest}"


async def joined(kv: akv.KVStore) -> None:
    await kv.init("w", np.zeros(1))
    await kv.push("w", np.ones(1))


async def next_round(kv: akv.KVStore) -> float:
    await kv.push("w", np.ones(1))
    return float((await kv.pull("w"))[0])


async def breaks(url: str, error: BaseException | None = None) -> None:
    """Take part in one round, and fail with calls under way: one that waits for the others, one that waits for it."""
    with pytest.raises(type(error or Broken())):
        async with akv.connect(url, rank=1) as kv:
            await joined(kv)
            assert (await kv.pull("w"))[0] == 2
            kv.barrier()
            kv.wait_version("w", 99)
            raise error or Broken


class TestLost:
    @pytest.mark.parametrize("error", [Broken(), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr)
    async def test_abort_tells_those_who_wait_for_it(
        self, make_url: Callable[[str], str], error: BaseException
    ) -> None:
        async with akv.connect(url := make_url("abort"), rank=0) as kv:
            await asyncio.gather(joined(kv), breaks(url, error))
            for call in (next_round(kv), kv.barrier()):
                with pytest.raises(akv.WorkerLost, match=r"ranks \[1\]") as info:
                    await call
                assert info.value.ranks == (1,)
            assert (await kv.pull("w", min_version=2))[0] == 2

    async def test_drop_goes_on_without_it(self, make_url: Callable[[str], str]) -> None:
        async with akv.connect(url := make_url("drop"), rank=0) as kv:
            await asyncio.gather(joined(kv), breaks(url))
            assert await next_round(kv) == 1
            await kv.barrier()

    async def test_wait_waits_for_another_in_its_place(self, make_url: Callable[[str], str]) -> None:
        async with akv.connect(url := make_url("wait"), rank=0) as kv:
            await asyncio.gather(joined(kv), breaks(url))
            round_ = asyncio.ensure_future(next_round(kv))
            await asyncio.sleep(2 * SILENCE)
            await stays([round_], False)
            async with akv.connect(url, rank=1) as other:
                await other.push("w", np.full(1, 5.0))
                assert await round_ == 6

    async def test_both_may_fail_and_begin_anew(self, make_url: Callable[[str], str]) -> None:
        """In the middle of a round, of which one has pushed its part."""
        url = make_url("abort")

        async def fails(rank: int) -> None:
            async with akv.connect(url, rank=rank) as kv:
                await joined(kv)
                assert (await kv.pull("w"))[0] == 2
                if rank == 0:
                    await kv.push("w", np.full(1, 7.0))
                raise Broken

        errors = await asyncio.gather(fails(0), fails(1), return_exceptions=True)
        assert [type(error) for error in errors] == [Broken, Broken]
        await asyncio.sleep(2 * SILENCE)
        async with akv.connect(url, rank=0) as first, akv.connect(url, rank=1) as second:
            assert await asyncio.gather(next_round(first), next_round(second)) == [2, 2]

    async def test_the_blocking_face(self, make_url: Callable[[str], str]) -> None:
        def breaks() -> None:
            with pytest.raises(Broken), sync.connect(url, rank=1) as kv:
                kv.init("w", np.zeros(1))
                kv.push("w", np.ones(1))
                raise Broken

        async with akv.connect(url := make_url("abort"), rank=0) as kv:
            await asyncio.gather(joined(kv), asyncio.to_thread(breaks))
            assert (await kv.pull("w"))[0] == 2  # what it had done counts
            with pytest.raises(akv.WorkerLost):
                await next_round(kv)


class TestLeft:
    """It has done its part: nobody is told anything, and nobody waits for it."""

    async def test_at_the_end_of_its_block(self, make_url: Callable[[str], str]) -> None:
        async def leaves() -> None:
            async with akv.connect(url, rank=1) as other:
                await joined(other)

        def leaves_too() -> None:
            with sync.connect(url, rank=1) as other:
                other.push("w", np.ones(1))

        async with akv.connect(url := make_url("abort"), rank=0) as kv:
            await asyncio.gather(joined(kv), leaves())
            assert (await kv.pull("w"))[0] == 2
            await asyncio.gather(kv.push("w", np.ones(1)), asyncio.to_thread(leaves_too))
            await kv.barrier()

    async def test_what_comes_after_a_close_does_not_count(self, make_url: Callable[[str], str]) -> None:
        async def leaves() -> None:
            async with akv.connect(url, rank=1) as other:
                await joined(other)
                await other.aclose()
                raise Broken

        def leaves_too() -> None:
            with sync.connect(url, rank=1) as other:
                other.push("w", np.ones(1))
                other.close()
                raise Broken

        async with akv.connect(url := make_url("abort"), rank=0) as kv:
            for leave in (leaves(), asyncio.to_thread(leaves_too)):
                done = await asyncio.gather(joined(kv), leave, return_exceptions=True)
                assert isinstance(done[1], Broken)
                await kv.barrier()
                await kv.delete("w")
                await kv.init("w", np.zeros(1))

    async def test_readers_do_anyway(self, make_url: Callable[[str], str]) -> None:
        async with akv.connect(url := make_url("abort"), rank=0) as kv, akv.connect(url, rank=1) as other:
            with pytest.raises(Broken):
                async with akv.connect(url, role="reader"):
                    raise Broken
            await asyncio.gather(joined(kv), joined(other))
            await asyncio.sleep(2 * SILENCE)
            assert (await kv.pull("w"))[0] == 2
            await asyncio.gather(kv.barrier(), other.barrier())


class TestClient:
    @pytest.mark.parametrize("options", ["", "?workers=2&role=reader"])
    async def test_the_server_forgets_at_once_those_that_nobody_waits_for(self, options: str) -> None:
        async with serving() as server, akv.connect(f"{server.url}/job{options and '?workers=2'}"):
            with pytest.raises(Broken):
                async with akv.connect(f"{server.url}/job{options}"):
                    assert len(server.sessions) == 2
                    raise Broken
            assert len(server.sessions) == 1

    async def test_nothing_is_left_of_one_that_is_lost(self) -> None:
        async with serving() as server:
            tasks = len(asyncio.all_tasks())
            with pytest.raises(Broken):
                async with akv.connect(f"{server.url}/job?workers=2") as kv:
                    await kv.init("w", np.zeros(1))
                    calls = [kv.push("w", np.ones(1 << 20)), kv.barrier(), kv.wait_version("w", 9)]
                    raise Broken
            assert all(call.done() for call in calls)
            await until(lambda: not server.connections)
            assert len(asyncio.all_tasks()) == tasks
            assert not server.sessions[0].attached()

    async def test_nor_does_one_wait_for_a_server_that_is_gone(self) -> None:
        async with serving() as server:
            url = f"{server.url}/job?workers=2&reconnect=3600"
            with contextlib.suppress(Broken):
                async with akv.connect(url) as kv, asyncio.timeout(PATIENCE):
                    await kv.init("w", np.zeros(1))
                    await server.stop(0)
                    kv.barrier()
                    raise Broken
