"""A cancelled call happened wholly or not at all; its arrays are the caller's again; the next call is right."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import numpy as np
import pytest
from store_cases import PATIENCE, jammed, ones, turns, until

import akv
from akv.scheduler import WITHDRAWN

BIG = 2 << 20  # float32: far beyond what is done inline, and long enough to be caught in the middle


async def cancelled(pending: asyncio.Future[Any]) -> None:
    """Cancel, and wait for CancelledError."""
    assert pending.cancel()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await pending


class TestQueued:
    async def test_a_cancelled_push_never_happened(self) -> None:
        async with jammed() as (kv, gate):
            before, withdrawn, after = kv.push("a", ones(1)), kv.push("a", ones(10)), kv.push("a", ones(100))
            await cancelled(withdrawn)
            gate.open()
            assert (await before, await after) == (2, 3)
            assert (await kv.pull("a") == 101).all()

    async def test_it_is_delivered_at_once_and_the_array_is_free(self) -> None:
        async with jammed() as (kv, gate):
            array = ones(5)
            pending = kv.push("a", array)
            assert pending.cancel()
            assert pending.cancelled()
            assert not pending.cancel()
            array[...] = 7
            gate.open()
            await kv.flush()
            assert not (await kv.pull("a")).any()

    async def test_a_withdrawn_pull_leaves_its_out_alone(self) -> None:
        async with jammed() as (kv, gate):
            outs = [ones(-1), ones(-1)]
            await cancelled(kv.pull(["a", "b"], out=outs))
            gate.open()
            await kv.flush()
            assert all((out == -1).all() for out in outs)

    async def test_a_withdrawn_push_of_several_keys_changed_none(self) -> None:
        async with jammed() as (kv, gate):
            await cancelled(kv.push(["a", "b", "c"], [ones()] * 3))
            gate.open()
            assert await kv.push("b", ones()) == 2
            assert [value.sum() for value in await kv.pull(["a", "b", "c"])] == [0, 4, 0]

    async def test_a_withdrawn_fence_lets_go_of_what_it_held_back(self) -> None:
        async with jammed() as (kv, gate):
            pushed, flush, behind = kv.push("a", ones()), kv.flush(), kv.push("b", ones())
            await cancelled(flush)
            gate.open()
            assert (await pushed, await behind) == (2, 2)

    async def test_a_wait_for_a_version_is_taken_back(self) -> None:
        async with akv.connect("memory://") as kv:
            await kv.init("w", ones())
            await cancelled(kv.wait_version("w", 5))
            await cancelled(kv.pull("w", min_version=5))
            for version in range(2, 6):
                assert await kv.push("w", ones()) == version
            assert await kv.wait_version("w", 5) == 5


class TestStarted:
    async def test_it_ends_before_cancellation_is_delivered(self) -> None:
        async with jammed() as (kv, gate):
            gate.open(*gate.gates[1:])
            array = ones(3)
            pending = kv.push("gate", array)
            await until(lambda: "gate" in gate.arrived)
            assert pending.cancel()
            await turns(20)
            assert not pending.done()  # the updater still reads the array
            gate.open("gate")
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(asyncio.CancelledError):
                    await pending
            array[...] = 99
            assert (await kv.pull("gate") == 3).all()
            assert await kv.push("gate", ones()) == 3

    @pytest.mark.parametrize("updater", ["assign", "add"])
    async def test_a_push_happened_wholly_or_not_at_all(self, updater: str) -> None:
        """The caller overwrites its array as soon as CancelledError is there; the store never sees that."""
        async with akv.connect("memory://") as kv:
            await kv.init("w", np.zeros(BIG, np.float32))
            await kv.set_updater(updater)
            array, expected, version = np.empty(BIG, np.float32), 0.0, 1
            for number in range(1, 25):
                array[...] = number
                task = asyncio.ensure_future(pushed(kv, array))
                await turns(random.Random(number).randrange(30))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                array[...] = -1
                now = (await kv.info("w")).version
                if now > version:
                    expected = number + (expected if updater == "add" else 0)
                version = now
                assert (await kv.pull("w") == expected).all()

    async def test_a_push_of_several_keys_is_whole(self) -> None:
        """Only its first key can be cut off; from there on it goes to its end."""
        keys = ["a", "b", "c"]
        async with jammed() as (kv, gate):
            gate.open()
            pending = kv.push(["gate", *keys], [ones()] * 4)
            await until(lambda: "gate" in gate.arrived)
            pending.cancel()
            gate.open("gate")
            await until(pending.done)
            assert pending.cancelled()
            assert [info.version for info in await kv.info(["gate", *keys])] == [2] * 4
            assert gate.seen[-4:] == ["gate", *keys]

    async def test_outs_of_a_pull_are_all_written_or_none(self) -> None:
        """And never after CancelledError."""
        async with akv.connect("memory://") as kv:
            keys = ["a", "b"]
            await kv.init(keys, [np.ones(BIG, np.float32)] * 2)
            outs = [np.zeros(BIG, np.float32) for _ in keys]
            seen = set()
            for number in range(40):
                for out in outs:
                    out[...] = 0
                task = asyncio.ensure_future(pulled(kv, keys, outs))
                await turns(random.Random(number).randrange(30))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                sums = [int(np.count_nonzero(out)) for out in outs]
                assert sums in ([0, 0], [BIG, BIG])
                seen.add(sums[0])
                await turns(3)
                assert sums == [int(np.count_nonzero(out)) for out in outs]

    async def test_a_broadcast_is_whole_too(self) -> None:
        """Its init is not cut off from its pull: the key would be there, and the call could not be repeated."""
        async with jammed() as (kv, gate):
            gate.open()
            await kv.flush()
            for number in range(12):
                out = np.zeros(BIG, np.float32)
                pending = kv.broadcast(f"w{number}", np.ones(BIG, np.float32), out=out)
                await turns(number)
                if pending.cancel():
                    await until(pending.done)
                    assert pending.cancelled()
                assert out.all() == (f"w{number}" in await kv.keys())

    async def test_a_cancellation_swallows_the_error_of_what_it_cancelled(self) -> None:
        def fails(key: Any, given: Any, stored: np.ndarray) -> None:
            gate("gate", 0, stored)
            raise ValueError(key)

        async with jammed() as (kv, gate):
            gate.open()
            await kv.flush()
            await kv.set_updater(fails)
            pending = kv.push("a", ones())
            await until(lambda: "gate" in gate.arrived)
            pending.cancel()
            gate.open("gate")
            await until(pending.done)
            assert pending.cancelled()
            await kv.flush()
            await kv.set_updater("add")
            assert await kv.push("a", ones()) == 2


async def pushed(kv: akv.KVStore, array: np.ndarray) -> None:
    await kv.push("w", array)
    await asyncio.sleep(3600)


async def pulled(kv: akv.KVStore, keys: list[str], outs: list[np.ndarray]) -> None:
    await kv.pull(keys, out=outs)
    await asyncio.sleep(3600)


class TestRandom:
    @pytest.mark.parametrize("inline", [True, False])
    async def test_ten_thousand_cancels(self, inline: bool) -> None:
        """Each push adds 1 to an element of its own, so that the sum tells which of them happened."""
        chance, keys, batch = random.Random(7), [f"w{number}" for number in range(100)], 500
        happened: dict[tuple[int, str], asyncio.Future[Any]] = {}

        async def push(kv: akv.KVStore, place: int, key: str, turns_before: int) -> None:
            await turns(turns_before)
            one_hot = np.zeros(100, np.float32)
            one_hot[place] = 1
            pending = happened[place, key] = kv.push(key, one_hot, priority=chance.randrange(3))
            try:
                await pending
            finally:
                one_hot[...] = 1e9

        async with akv.connect("memory://", inline=inline) as kv:
            await kv.init(keys, [np.zeros(100, np.float32)] * len(keys))
            await kv.set_updater("add")
            every = [(place, key) for place in range(100) for key in keys]
            chance.shuffle(every)
            for start in range(0, len(every), batch):
                tasks = [
                    asyncio.ensure_future(push(kv, place, key, chance.randrange(4)))
                    for place, key in every[start : start + batch]
                ]
                for task in chance.sample(tasks, len(tasks)) * 2:
                    if chance.random() < 0.02:
                        await turns(1)
                    task.cancel()
                await asyncio.wait(tasks)
            values = dict(zip(keys, await kv.pull(keys), strict=True))
            for key, value in values.items():
                assert set(value.tolist()) <= {0, 1}
                assert (await kv.info(key)).version == 1 + value.sum()
            for (place, key), pending in happened.items():
                if not pending.cancelled():
                    assert values[key][place] == 1
                elif pending.op.state is WITHDRAWN:  # type: ignore[attr-defined]
                    assert values[key][place] == 0
            assert await kv.push(keys[0], ones(0).repeat(25)) == 2 + values[keys[0]].sum()
