"""Small operations on memory://: push and pull of 64 bytes, one key and many keys in a call."""

from __future__ import annotations

import asyncio

import numpy as np

import akv
from akv import sync
from benchmarks.measure import Row, ratio, turns

KEYS = 64


def run(smoke: bool) -> list[Row]:
    """Ratios to one create_task + await on the same loop."""
    calls, repeats = (200, 2) if smoke else (10_000, 9)
    return akv.run(_run(calls, repeats))


async def _run(calls: int, repeats: int) -> list[Row]:
    grad, out = np.ones(16, np.float32), np.empty(16, np.float32)
    names = [f"k{number}" for number in range(KEYS)]
    grads, outs = [grad.copy() for _ in names], [out.copy() for _ in names]
    batches = max(1, calls // KEYS)
    async with akv.connect("memory://") as kv:
        await kv.init(["w", *names], [grad, *grads])

        async def tasks() -> None:
            for _ in range(calls):
                await asyncio.create_task(_nothing())

        async def pairs() -> None:
            for _ in range(calls):
                await kv.push("w", grad)
                await kv.pull("w", out=out)

        async def many() -> None:
            for _ in range(batches):
                await kv.push(names, grads)
                await kv.pull(names, out=outs)

        took = await turns(
            {"task": tasks, "pair": pairs, "many": many, "blocking": _Blocking(grad, out, calls)}, repeats
        )
    task, pair = took["task"] / calls, took["pair"] / calls
    per_key = took["many"] / batches / KEYS
    what = "create_task + await"
    return [
        ratio("await push + await pull(out=) of 64 B", pair, task, 1.8, what),
        ratio("the same, blocking face", took["blocking"] / calls, task, 1.8, what),
        ratio("the same, blocking against await", took["blocking"] / calls, pair, 1.0, "await"),
        ratio("push + pull of 64 keys in one call each, per key", per_key, task, 0.6, what),
    ]


async def _nothing() -> None:
    pass


class _Blocking:
    """The same pairs through akv.sync, made awaitable so that they can take turns with the others."""

    def __init__(self, grad: np.ndarray, out: np.ndarray, calls: int) -> None:
        self._grad, self._out, self._calls = grad, out, calls
        self._kv = sync.create("local")
        self._kv.init("w", grad)

    async def __call__(self) -> None:
        kv, grad, out = self._kv, self._grad, self._out
        for _ in range(self._calls):
            kv.push("w", grad)
            kv.pull("w", out=out)


if __name__ == "__main__":
    print(*run(smoke=False), sep="\n")
