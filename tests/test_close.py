"""Closing: what is scheduled is done before, or withdrawn where an exception leaves the block."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from store_cases import Gate, jammed, named, ones, turns, until

import akv

WRONG = np.zeros(5, np.float32)


class TestClose:
    async def test_it_raises_what_flush_would(self) -> None:
        kv = await akv.connect("memory://")
        kv.push("no", ones())
        with pytest.raises(akv.KeyNotFound):
            await kv.aclose()
        await kv.aclose()
        with pytest.raises(akv.StoreClosed, match="closed"):
            kv.push("no", ones())

    async def test_the_end_of_a_with_block_is_a_close(self) -> None:
        with pytest.raises(akv.KeyNotFound):
            async with akv.connect("memory://") as kv:
                kv.push("no", ones())
        with pytest.raises(akv.StoreClosed):
            kv.flush()

    async def test_it_drains(self) -> None:
        async with jammed() as (kv, gate):
            pushes = [kv.push("a", ones()) for _ in range(10)]
            gate.open()
        assert [push.result() for push in pushes] == list(range(2, 12))

    async def test_also_with_a_full_queue(self) -> None:
        async with jammed(max_queued=3) as (kv, gate):
            pushes = [kv.push("a", ones()) for _ in range(3)]
            closing = asyncio.ensure_future(kv.aclose())
            await turns(2)
            gate.open()
            await closing
            assert [push.result() for push in pushes] == [2, 3, 4]

    async def test_an_exception_withdraws_what_is_queued_and_is_not_hidden(self) -> None:
        """Neither by the errors of pushes, nor by those of the close."""
        pushes: list[asyncio.Future[Any]] = []

        async def leave() -> None:
            async with akv.connect(url) as kv:
                pushes.extend([kv.push("a", ones()), kv.barrier(), kv.push("b", ones()), kv.push("c", WRONG)])
                pushes.append(kv.wait_version("a", 99))
                raise LookupError("mine")

        async with jammed(url := named()) as (other, gate):
            leaving = asyncio.ensure_future(leave())
            await until(lambda: len(pushes) == 5)
            errors = await asyncio.gather(*pushes, return_exceptions=True)
            assert [type(error) for error in errors] == [akv.StoreClosed] * 5
            gate.open()
            with pytest.raises(LookupError, match="mine"):
                await leaving
            await other.flush()
            assert [info.version for info in await other.info([*"abc"])] == [1] * 3

    async def test_what_has_started_ends_before_the_block_is_left(self) -> None:
        """It still uses the caller's arrays."""

        async def leave(gate: Gate) -> None:
            async with akv.connect(url, inline=False) as kv:
                await kv.init("gate", ones())
                await kv.set_updater(gate)
                kv.push("gate", ones(5))
                await until(lambda: gate.arrived)
                raise LookupError

        gate, url = Gate(), named()
        leaving = asyncio.ensure_future(leave(gate))
        await until(lambda: gate.arrived)
        await turns(20)
        assert not leaving.done()
        gate.open("gate")
        with pytest.raises(LookupError):
            await leaving
        async with akv.connect(url) as kv:
            assert (await kv.pull("gate") == 6).all()

    async def test_what_a_withdrawn_fence_held_back_does_not_start(self) -> None:
        """All is withdrawn in one step: a thread of the store is free, and would take the next at once."""
        gate, deletes = Gate(), []

        async def leave() -> None:
            async with akv.connect(url, inline=False) as kv:
                await kv.init(["gate", "b"], [ones(), ones()])
                await kv.set_updater(gate)
                kv.push("gate", ones())
                await until(lambda: gate.arrived)
                kv.barrier()
                deletes.append(kv.delete("b"))
                raise LookupError

        leaving, url = asyncio.ensure_future(leave()), named()
        await until(lambda: deletes and deletes[0].done())
        gate.open("gate")
        with pytest.raises(LookupError):
            await leaving
        with pytest.raises(akv.StoreClosed):
            await deletes[0]
        async with akv.connect(url) as kv:
            assert set(await kv.keys()) == {"gate", "b"}

    async def test_a_timeout_of_the_close_does_not_hide_the_exception(self) -> None:
        gate = Gate()

        async def leave() -> None:
            async with akv.connect(url) as kv:
                kv.push("gate", ones())
                await until(lambda: gate.arrived)
                kv._timeout = 0.001
                raise LookupError

        async with akv.connect(url := named(), inline=False) as patient:
            await patient.init("gate", ones())
            await patient.set_updater(gate)
            with pytest.raises(LookupError):
                await leave()
            gate.open("gate")

    @pytest.mark.parametrize("url", ["memory://", "memory://parked"])
    async def test_waits_for_versions_end_with_it(self, url: str) -> None:
        """It does not wait for those: what they wait for may be the caller's next push."""
        kv = await akv.connect(url)
        waiting = [kv.wait_version("w", 3), kv.pull("w", min_version=2)]
        await kv.aclose()
        for pending in waiting:
            with pytest.raises(akv.StoreClosed, match="'w'"):
                await pending

    async def test_closing_from_two_tasks(self) -> None:
        async with jammed() as (kv, gate):
            closing = [asyncio.ensure_future(kv.aclose()) for _ in range(2)]
            await turns(2)
            gate.open()
            await asyncio.gather(*closing, return_exceptions=False)

    async def test_the_backend_is_closed_after_its_last_operation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when the close itself was cancelled."""
        async with jammed() as (kv, gate):
            closed: list[list[str]] = []
            monkeypatch.setattr(kv.engine.backend, "close", lambda: closed.append(list(gate.seen)))
            gate.seen.clear()
            closing = asyncio.ensure_future(kv.aclose())
            await turns(2)
            closing.cancel()
            await asyncio.wait([closing])
            assert not closed
            gate.open()
            await until(lambda: closed)
            await turns(20)
            assert len(closed) == 1
