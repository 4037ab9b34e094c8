"""An error that nobody retrieved belongs to `flush`: once, in order, and never to the log."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from store_cases import Gate, jammed, named, ones, turns, until

import akv

WRONG = np.zeros(5, np.float32)


@pytest.fixture(autouse=True)
async def log() -> Iterator[list[Any]]:  # type: ignore[misc]
    """What reaches the loop's exception handler; nothing may."""
    records: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: records.append(context))
    yield records
    gc.collect()
    await turns(3)
    assert not records


@pytest.fixture(params=[True, False], ids=["inline", "threads"])
async def kv(request: pytest.FixtureRequest) -> Iterator[akv.KVStore]:  # type: ignore[misc]
    store = await akv.connect("memory://", inline=request.param)
    await store.init(["a", "b"], [ones(), ones()])
    yield store
    await store.aclose()


async def fails(flush: asyncio.Future[None]) -> bool:
    try:
        await flush
    except akv.KeyNotFound:
        return True
    return False


class TestFlush:
    async def test_it_raises_what_nobody_retrieved(self, kv: akv.KVStore) -> None:
        kv.push("a", WRONG)
        with pytest.raises(akv.ShapeMismatch, match=r"'a'.*\(5,\).*\(4,\)"):
            await kv.flush()

    async def test_once(self, kv: akv.KVStore) -> None:
        kv.push("a", WRONG)
        with pytest.raises(akv.ShapeMismatch):
            await kv.flush()
        await kv.flush()

    async def test_the_first_first(self, kv: akv.KVStore) -> None:
        for key in ("no", "a", "nor this"):
            kv.push(key, WRONG)
            await turns(1)
        for error, text in ((akv.KeyNotFound, "'no'"), (akv.ShapeMismatch, "'a'"), (akv.KeyNotFound, "'nor this'")):
            with pytest.raises(error, match=text):
                await kv.flush()
        await kv.flush()

    @pytest.mark.parametrize("retrieve", ["await", "exception", "gather", "wait", "callback"])
    async def test_what_was_retrieved_is_not_raised(self, kv: akv.KVStore, retrieve: str) -> None:
        failed = kv.push("a", WRONG)
        if retrieve == "await":
            with pytest.raises(akv.ShapeMismatch):
                await failed
        elif retrieve == "exception":
            await until(failed.done)
            assert isinstance(failed.exception(), akv.ShapeMismatch)
        elif retrieve == "gather":
            assert isinstance((await asyncio.gather(failed, return_exceptions=True))[0], akv.ShapeMismatch)
        elif retrieve == "wait":
            (done,), _ = await asyncio.wait([failed])
            assert done.exception() is not None
        else:
            failed.add_done_callback(lambda done: done.exception())
            await until(failed.done)
            await turns(2)
        await kv.flush()

    async def test_it_waits_for_all_that_came_before(self) -> None:
        async with jammed() as (kv, gate):
            failed, flush = kv.push("a", WRONG), kv.flush()
            await turns(5)
            assert not flush.done()
            gate.open()
            with pytest.raises(akv.ShapeMismatch):
                await flush
            assert failed.done()

    async def test_an_error_may_still_be_retrieved_while_it_waits(self) -> None:
        """The flush takes what is left at its end, not at the call."""
        async with jammed() as (kv, gate):
            failed, flush = kv.push("a", WRONG), kv.flush()
            failed.add_done_callback(lambda done: done.exception())
            gate.open()
            await flush

    async def test_a_flush_that_nobody_awaits_hands_its_error_on(self, kv: akv.KVStore) -> None:
        kv.push("a", WRONG)
        await until(kv.flush().done)
        with pytest.raises(akv.ShapeMismatch):
            await kv.flush()
        await kv.flush()

    async def test_a_cancelled_flush_keeps_the_error_for_the_next(self) -> None:
        async with jammed() as (kv, gate):
            kv.push("a", WRONG)
            kv.flush().cancel()
            gate.open()
            with pytest.raises(akv.ShapeMismatch):
                await kv.flush()

    async def test_errors_of_an_updater(self, kv: akv.KVStore) -> None:
        def updater(key: str, pushed: np.ndarray, stored: np.ndarray) -> None:
            stored[...] = 77
            raise StopIteration if key == "a" else ZeroDivisionError(key)

        await kv.set_updater(updater)
        kv.push("b", ones())
        with pytest.raises(ZeroDivisionError, match="b") as caught:
            await kv.flush()
        assert "updater for key 'b'" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="StopIteration"):  # which no future can hold
            await kv.push("a", ones())
        assert (await kv.pull("a") == 1).all()

    async def test_errors_of_one_handle_are_not_those_of_another(self) -> None:
        async with akv.connect(url := named()) as one, akv.connect(url) as other:
            one.push("no", ones())
            await other.flush()
            with pytest.raises(akv.KeyNotFound):
                await one.flush()

    async def test_more_errors_than_anybody_reads(self, kv: akv.KVStore) -> None:
        """The oldest thousand are kept."""
        pushes = [kv.push(f"no{number}", ones()) for number in range(1500)]
        await until(lambda: all(push.done() for push in pushes))
        errors = 0
        while await fails(kv.flush()):
            errors += 1
        assert errors == 1000

    async def test_a_full_queue_can_be_flushed(self) -> None:
        async with jammed(max_queued=5) as (kv, gate):
            pushes = [kv.push("a", ones()) for _ in range(5)]
            with pytest.raises(akv.QueueFull, match="5"):
                kv.push("a", ones())
            flush = kv.flush()
            gate.open()
            await flush
            assert [push.result() for push in pushes] == [2, 3, 4, 5, 6]


class TestSilence:
    async def test_failed_awaitables_that_are_dropped(self, log: list[Any]) -> None:
        kv = await akv.connect("memory://")
        kv.push("no", ones())
        gc.collect()
        await turns(3)
        assert not log
        with pytest.raises(akv.KeyNotFound):
            await kv.aclose()

    @pytest.mark.parametrize("inline", [True, False])
    async def test_a_handle_that_is_dropped_with_its_errors(self, log: list[Any], inline: bool) -> None:
        kv = await akv.connect("memory://", inline=inline)
        for _ in range(20):
            kv.push("no", ones())
        await until(kv.flush().done)
        gone = weakref.ref(kv)
        del kv
        await turns(3)
        gc.collect()
        await turns(3)
        assert gone() is None
        assert not log

    async def test_withdrawn_pushes_that_nobody_awaits(self, log: list[Any]) -> None:
        async def leave() -> None:
            async with akv.connect(url) as kv:
                kv.push("a", ones())
                kv.wait_version("a", 9)
                raise LookupError

        async with jammed(url := named()) as (_, gate):
            leaving = asyncio.ensure_future(leave())
            await turns(3)
            gate.open()
            with pytest.raises(LookupError):
                await leaving
            del leaving
            gc.collect()
            await turns(5)
            assert not log

    async def test_a_loop_that_is_closed_meanwhile(self) -> None:
        """Then nobody is left to tell."""
        gate = Gate()

        async def leave() -> None:
            kv = await akv.connect("memory://", inline=False)
            await kv.init("gate", ones())
            await kv.set_updater(gate)
            kv.push("gate", ones())
            await until(lambda: gate.arrived)
            kept.append(kv)

        kept: list[akv.KVStore] = []
        await asyncio.to_thread(lambda: asyncio.run(leave()))
        gate.open("gate")
        await until(lambda: kept[0].engine.backend.version("gate") == 2)
        with pytest.raises(akv.WrongLoop, match="is closed"):
            kept[0].push("gate", ones())
        with pytest.raises(akv.WrongLoop, match="is closed"):
            await kept[0].aclose()
