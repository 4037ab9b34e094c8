"""What is over is freed at once, not at the next garbage collection: it may hold gigabytes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from store_cases import jammed, no_collection, ones, turns, until

import akv


def fails_at_b(key: str, pushed: np.ndarray, stored: np.ndarray) -> None:
    if key == "b":
        raise ZeroDivisionError


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    with no_collection():
        yield


class TestMemory:
    @pytest.mark.parametrize("inline", [True, False])
    @pytest.mark.parametrize("updater", ["assign", "add", fails_at_b])
    @pytest.mark.parametrize("key", ["a", "b", "no key"])
    async def test_pushed_arrays(self, key: str, updater: Any, inline: bool) -> None:
        async with akv.connect("memory://", inline=inline) as kv:
            await kv.init(["a", "b"], [ones(), ones()])
            await kv.set_updater(updater)
            array = ones()
            gone = weakref.ref(array)
            pending = kv.push(key, array)
            await until(pending.done)
            assert (pending.exception() is None) == (key == "a" or (key == "b" and updater is not fails_at_b))
            del pending, array
            await turns(2)
            await until(lambda: gone() is None)

    @pytest.mark.parametrize("inline", [True, False])
    @pytest.mark.parametrize("updater", ["assign", fails_at_b])
    async def test_those_of_pushes_that_fail_and_are_not_awaited(self, updater: Any, inline: bool) -> None:
        """Only the error is kept, for `flush`; and it says of a function where it failed."""
        gone: list[weakref.ref[np.ndarray]] = []

        def push(array: np.ndarray) -> None:
            gone.append(weakref.ref(array))
            kv.push("b", array)

        async def push_too() -> None:
            array = ones(np.nan)
            push(array)

        async with akv.connect("memory://?on_nonfinite=reject", inline=inline) as kv:
            await kv.init("b", ones())
            await kv.set_updater(updater)
            for _ in range(20):
                push(ones(np.nan))
                await push_too()
            await until(lambda: not any(ref() is not None for ref in gone))
            await until(lambda: len(kv.failures._kept) == 40)
            for _ in range(40):
                with pytest.raises((akv.NonFinite, ZeroDivisionError)) as caught:
                    await kv.flush()
                assert isinstance(caught.value, akv.NonFinite) or "in fails_at_b" in caught.value.__notes__[-1]
            await kv.flush()

    async def test_those_of_pushes_whose_error_was_seen(self) -> None:
        async with akv.connect("memory://") as kv:
            for _ in range(20):
                array = ones()
                gone = weakref.ref(array)
                with contextlib.suppress(akv.KeyNotFound):  # unlike pytest.raises, it does not keep the error
                    await kv.push("no key", array)
                del array
                await until(lambda gone=gone: gone() is None)  # type: ignore[misc]
                assert not kv.failures._kept

    @pytest.mark.parametrize("started", [False, True])
    async def test_cancelled_ones(self, started: bool) -> None:
        async with jammed() as (kv, gate):
            array = ones()
            gone = weakref.ref(array)
            if started:
                gate.open(gate.gates[0])
            pending = kv.push("gate", array)
            await until(lambda: "gate" in gate.arrived or not started)
            pending.cancel()
            gate.open("gate")
            await until(pending.done)
            del pending, array
            await turns(2)
            await until(lambda: gone() is None)

    async def test_handles_and_loops(self) -> None:
        """A loop on which handles were open is freed like any other."""

        async def use() -> None:
            async with akv.connect("memory://") as kv:
                await kv.init("w", ones())
                await kv.push("w", ones())

        def run() -> weakref.ref[asyncio.AbstractEventLoop]:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(use())
            loop.close()
            return weakref.ref(loop)

        gone = await asyncio.to_thread(run)
        gc.collect()
        assert gone() is None
