"""Among what waits, the highest priority goes first, then the oldest; operations on one key keep their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_cases import PATIENCE, Gate, jammed, named, ones, until

import akv

BIG = np.ones(1 << 20, np.float32)  # 4 MiB: twice what is done inline

# The same test runs on two loops, which hypothesis takes for an accident.
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


@asynccontextmanager
async def one_by_one(*keys: str) -> AsyncIterator[tuple[akv.KVStore, Gate]]:
    """A store with these keys, all of whose threads are busy with big pushes; the first gate lets one of them go on."""
    async with akv.connect("memory://") as kv:
        gate = Gate(kv.engine.backend.budget.operations)
        await kv.init([*gate.gates, *keys], [BIG] * (len(gate.gates) + len(keys)))
        await kv.init("small", ones())
        await kv.set_updater(gate)
        for key in gate.gates:
            kv.push(key, BIG)
        await until(lambda: gate.arrived.issuperset(gate.gates))
        gate.seen.clear()
        try:
            yield kv, gate
        finally:
            gate.open()


class TestUrgent:
    async def test_an_urgent_push_that_came_last_goes_next(self) -> None:
        keys = ["a", "b", "c", "d", "urgent"]
        async with one_by_one(*keys) as (kv, gate):
            pushes = [kv.push(key, BIG, priority=int(key == "urgent")) for key in keys]
            gate.open(gate.gates[0])
            await asyncio.gather(*pushes)
            assert gate.seen == ["urgent", "a", "b", "c", "d"]

    async def test_a_small_urgent_push_is_done_before_all_big_ones(self) -> None:
        async with one_by_one("a", "b") as (kv, gate):
            pushes = [kv.push(key, BIG) for key in "ab"]
            urgent = kv.push("small", ones(), priority=1)
            async with asyncio.timeout(PATIENCE):
                await urgent
            gate.open(gate.gates[0])
            await asyncio.gather(*pushes)
            assert gate.seen == ["small", "a", "b"]

    async def test_a_small_push_of_no_urgency_waits_its_turn(self) -> None:
        async with one_by_one("a", "b") as (kv, gate):
            pushes = [kv.push("a", BIG), kv.push("small", ones()), kv.push("b", BIG)]
            assert not any(push.done() for push in pushes)
            gate.open(gate.gates[0])
            await asyncio.gather(*pushes)
            assert gate.seen == ["a", "small", "b"]

    async def test_a_pull_goes_first_too(self) -> None:
        async with one_by_one("a", "b", "c") as (kv, gate):
            order: list[str] = []
            calls = {"push a": kv.push("a", BIG), "push b": kv.push("b", BIG), "pull c": kv.pull("c", priority=9)}
            for name, pending in calls.items():
                pending.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
            gate.open(gate.gates[0])
            await asyncio.gather(*calls.values())
            await until(lambda: len(order) == 3)
            assert order == ["pull c", "push a", "push b"]

    async def test_priority_of_another_handle_counts_alike(self) -> None:
        async with jammed(url := named()) as (kv, gate), akv.connect(url) as other:
            pushes = [kv.push("a", ones()), kv.push("b", ones(), priority=1), other.push("c", ones(), priority=2)]
            gate.open(gate.gates[0])
            await asyncio.gather(*pushes)
            assert gate.seen == ["c", "b", "a"]


class TestLaws:
    @few
    @given(priorities=st.lists(st.integers(-2, 2), max_size=8))
    async def test_by_priority_then_by_age(self, priorities: list[int]) -> None:
        wanted = dict(zip("abcdefgh", priorities, strict=False))
        async with jammed(keys="abcdefgh") as (kv, gate):
            pushes = [kv.push(key, ones(), priority) for key, priority in wanted.items()]
            gate.open(gate.gates[0])
            await asyncio.gather(*pushes)
            assert gate.seen == sorted(wanted, key=lambda key: -wanted[key])

    @few
    @given(calls=st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2)), max_size=10))
    async def test_one_key_keeps_its_order(self, calls: list[tuple[str, int]]) -> None:
        """Whatever the priorities: the versions of a key are in the order of the calls."""
        async with jammed() as (kv, gate):
            pushes = [kv.push(key, ones(), priority) for key, priority in calls]
            gate.open(gate.gates[0])
            versions = await asyncio.gather(*pushes)
            for key in "abc":
                of_key = [version for (name, _), version in zip(calls, versions, strict=True) if name == key]
                assert of_key == list(range(2, len(of_key) + 2))
            assert sorted(gate.seen) == sorted(key for key, _ in calls)

    async def test_a_fence_is_not_overtaken(self) -> None:
        """Also not by what is urgent, of the same handle."""
        async with jammed() as (kv, gate):
            pushes = [kv.push("a", ones())]
            kv.barrier()
            pushes.append(kv.push("b", ones(), priority=100))
            gate.open()
            await asyncio.gather(*pushes)
            assert gate.seen == ["a", "b"]

    @pytest.mark.parametrize("priority", [1.5, "1", None])
    async def test_a_priority_is_an_integer(self, priority: object) -> None:
        async with akv.connect("memory://") as kv:
            with pytest.raises(akv.InvalidArgument, match="priority"):
                kv.push("w", ones(), priority)  # type: ignore[arg-type]
