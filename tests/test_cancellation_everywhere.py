"""A call that is cancelled at any of its suspensions leaves a store on which the next call is right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from store_cases import PATIENCE, cancel_everywhere, ones

import akv

Scenario = Callable[[akv.KVStore], Coroutine[Any, Any, Any]]


async def _row_sparse_pull(kv: akv.KVStore) -> None:
    await kv.row_sparse_pull("table", row_ids=[1, 0])


async def _watch(kv: akv.KVStore) -> None:
    watch = kv.watch("w")
    await anext(watch)
    await watch.aclose()


async def _several(kv: akv.KVStore) -> None:
    await asyncio.gather(kv.push("w", ones()), kv.push("v", ones()), kv.pull(["w", "v"]))


async def _handle(kv: akv.KVStore) -> None:
    async with akv.connect("memory://", inline=False) as other:
        await other.init("w", ones())
        await other.push("w", ones())


VERBS: dict[str, Scenario] = {
    "push": lambda kv: _await(lambda: kv.push("w", ones())),
    "push of a list": lambda kv: _await(lambda: kv.push(["w", "v"], [ones(), [ones(), ones()]])),
    "donate": lambda kv: _await(lambda: kv.push("w", ones(), donate=True)),
    "pull": lambda kv: _await(lambda: kv.pull("w")),
    "pull into out": lambda kv: _await(lambda: kv.pull(["w", "v"], out=[ones(), ones()])),
    "pushpull": lambda kv: _await(lambda: kv.pushpull("w", ones())),
    "row_sparse_pull": _row_sparse_pull,
    "snapshot": lambda kv: _await(lambda: kv.snapshot("w")),
    "set_updater": lambda kv: _await(lambda: kv.set_updater("add")),
    "wait_version": lambda kv: _await(lambda: kv.wait_version("w", 1)),
    "keys": lambda kv: _await(kv.keys),
    "info": lambda kv: _await(lambda: kv.info(["w", "v"])),
    "barrier": lambda kv: _await(kv.barrier),
    "flush": lambda kv: _await(kv.flush),
    "watch": _watch,
    "gather": _several,
    "a handle": _handle,
}


async def _await(call: Callable[[], asyncio.Future[Any]]) -> Any:
    return await call()


class TestEverywhere:
    @pytest.mark.parametrize("verb", VERBS)
    async def test_every_suspension_of_every_verb(self, verb: str) -> None:
        async with akv.connect("memory://", inline=False) as kv:
            await kv.init(["w", "v", "table"], [ones(), ones(), np.ones((3, 2), np.float32)])
            await kv.set_updater("add")

            async def works() -> None:
                async with asyncio.timeout(PATIENCE):
                    version = (await kv.info("w")).version
                    before = await kv.pull("w")
                    assert await kv.push("w", ones(2)) == version + 1
                    assert (await kv.pull("w") == before + 2).all()

            assert await cancel_everywhere(lambda: VERBS[verb](kv), works) > 0
            await works()

    @pytest.mark.parametrize("verb", ["init", "broadcast", "delete"])
    async def test_keys_come_and_go_wholly(self, verb: str) -> None:
        numbers = iter(range(1000))
        async with akv.connect("memory://", inline=False) as kv:

            async def come_or_go() -> None:
                key = f"key{next(numbers)}"
                if verb == "delete":
                    await asyncio.shield(kv.init(key, ones()))
                    await kv.delete(key)
                else:
                    await getattr(kv, verb)(key, ones())

            async def works() -> None:
                for key in await kv.keys():
                    assert (await kv.pull(key) == 1).all()
                    assert (await kv.info(key)).version == 1

            assert await cancel_everywhere(come_or_go, works) > 0

    async def test_set_optimizer_and_learning_rate(self) -> None:
        async with akv.connect("memory://", inline=False) as kv:
            await kv.init("w", ones(1))

            async def choose() -> None:
                await kv.set_optimizer(akv.optim.SGD(learning_rate=0.5))
                await kv.set_learning_rate(0.25)

            async def works() -> None:
                await choose()
                before = await kv.pull("w")
                await kv.push("w", ones(4))
                assert (await kv.pull("w") == before - 1).all()

            assert await cancel_everywhere(choose, works) == 2

    async def test_closing(self) -> None:
        """A close that is cancelled still closes."""
        handles = []

        async def close() -> None:
            kv = await akv.connect("memory://", inline=False)
            handles.append(kv)
            await asyncio.shield(kv.init("w", ones()))
            kv.push("w", ones())
            await kv.aclose()

        async def closed() -> None:
            await handles[-1].aclose()

        assert await cancel_everywhere(close, closed) == 2
        for kv in handles[1:]:
            with pytest.raises(akv.StoreClosed):
                kv.push("w", ones())
