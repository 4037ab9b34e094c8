"""Awaiting what is done already does not suspend; so after 100 us of that the next awaitable goes through the loop."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from store_cases import PATIENCE, ones, turns, until

import akv
from akv.loop import INLINE_SECONDS

# A task that starves the others comes to this end, and its test fails instead of hanging.
MOST = 1_000_000


class Clock:
    """Stands still, but for a microsecond at each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ticks = itertools.count()
        for module in ("akv.loop", "akv.handle"):
            monkeypatch.setattr(f"{module}.perf_counter", self)

    def __call__(self) -> float:
        return next(self._ticks) * 1e-6


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def others_get_their_turns(call: Callable[[], Awaitable[Any]], count: int = 50) -> int:
    """Await `call` in a tight loop until another task has had `count` turns; return how many calls that took."""
    calls, other = 0, asyncio.ensure_future(turns(count))
    while not other.done():
        await call()
        calls += 1
        assert calls < MOST, "the other task starves"
    return calls


async def push_for_ever(kv: akv.KVStore, within: float | None = None) -> None:
    async with asyncio.timeout(within):
        for _ in range(MOST):
            await kv.push("w", ones())


TIGHT: dict[str, Callable[[akv.KVStore], Awaitable[Any]]] = {
    "push": lambda kv: kv.push("w", ones()),
    "pull": lambda kv: kv.pull("w"),
    "pushpull": lambda kv: kv.pushpull("w", ones()),
    "snapshot": lambda kv: kv.snapshot("w"),
    "info": lambda kv: kv.info("w"),
    "keys": lambda kv: kv.keys(),
    "flush": lambda kv: kv.flush(),
    "barrier": lambda kv: kv.barrier(),
    "wait_version": lambda kv: kv.wait_version("w", 1),
    "a push that fails": lambda kv: asyncio.gather(kv.push("no key", ones()), return_exceptions=True),
}


class TestTightLoop:
    @pytest.mark.parametrize("verb", TIGHT)
    async def test_other_tasks_run(self, verb: str) -> None:
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            await others_get_their_turns(lambda: TIGHT[verb](kv))

    async def test_so_they_do_with_a_function_as_updater(self) -> None:
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            await kv.set_updater(lambda key, given, stored: None)
            await others_get_their_turns(lambda: kv.push("w", ones()))

    async def test_a_turn_has_at_most_100_us_of_calls(self, clock: Clock) -> None:
        """Each push looks at the clock, which shows a microsecond more each time; two turns lie between two batches."""
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            array = ones()
            calls = await others_get_their_turns(lambda: kv.push("w", array), count=200)
            assert 0.8 < calls / 100 / (INLINE_SECONDS / 1e-6) <= 1.1

    async def test_errors_that_nobody_awaits_count_as_well(self, clock: Clock) -> None:
        async with akv.connect("memory://") as kv:
            pushes = [kv.push("no key", ones()) for _ in range(300)]
            assert 0 < sum(push.done() for push in pushes) < 150
            for error in await asyncio.gather(*pushes, return_exceptions=True):
                assert isinstance(error, akv.KeyNotFound)

    async def test_timeouts_fire(self) -> None:
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            with pytest.raises(TimeoutError):
                await push_for_ever(kv, within=0.001)

    async def test_a_task_can_be_cancelled(self) -> None:
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            task = asyncio.ensure_future(push_for_ever(kv))
            await turns(3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def test_of_several_pushers_none_stands_still(self, clock: Clock) -> None:
        """The first in the turn has most of it, but each has one push at least."""
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            counts = [0] * 4

            async def push(number: int) -> None:
                while min(counts) < 10:
                    await kv.push("w", ones())
                    counts[number] += 1
                    assert max(counts) < MOST

            await asyncio.gather(*map(push, range(4)))


class TestSharedTurn:
    async def test_handles_share_one_turn(self, clock: Clock) -> None:
        """What one handle has used up, no other has."""
        async with akv.connect("memory://") as one, akv.connect("memory://") as other:
            for kv in (one, other):
                await kv.init("w", ones())
            await turns(1)
            pushes = [one.push("w", ones()) for _ in range(200)]
            assert pushes[0].done()
            assert not pushes[-1].done()
            late = other.push("w", ones())
            assert not late.done()
            await turns(2)
            assert late.done()
            assert other.push("w", ones()).done()

    async def test_calls_of_several_handles_add_up(self, clock: Clock) -> None:
        async with akv.connect("memory://") as one, akv.connect("memory://") as other:
            for kv in (one, other):
                await kv.init("w", ones())

            async def both() -> None:
                await one.push("w", ones())
                await other.push("w", ones())

            calls = await others_get_their_turns(both, count=200)
            assert calls * 2 / 100 <= 1.1 * INLINE_SECONDS / 1e-6

    async def test_what_is_late_keeps_its_order(self, clock: Clock) -> None:
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            done: list[int] = []
            pushes = [kv.push("w", ones()) for _ in range(300)]
            for number, push in enumerate(pushes):
                push.add_done_callback(lambda _, number=number: done.append(number))  # type: ignore[misc]
            assert await asyncio.gather(*pushes) == list(range(2, 302))
            await until(lambda: len(done) == 300)
            assert done == sorted(done)


class TestBigWork:
    async def test_the_loop_turns_while_a_big_push_is_carried_out(self) -> None:
        """It runs in the store's threads: here it even waits there until the loop has gone round a hundred times."""
        gone_round = threading.Event()
        async with akv.connect("memory://") as kv:
            big = np.zeros(1 << 20, np.float32)
            await kv.init(["big", "w"], [big, ones()])
            await kv.set_updater(lambda key, given, stored: key == "w" or gone_round.wait(PATIENCE))
            push = kv.push("big", big)
            for _ in range(100):
                await asyncio.sleep(0)
                await kv.push("w", ones())
            assert not push.done()
            gone_round.set()
            assert await push == 2
