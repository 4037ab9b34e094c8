"""What a small operation takes while the same store sums a large push."""

from __future__ import annotations

import asyncio
from time import perf_counter

import numpy as np

import akv
from benchmarks.measure import Row


def run(smoke: bool) -> list[Row]:
    """p50 and p99 of a 64 B push + pull on the loop that awaits a large push, and alone."""
    return akv.run(_run(1 << 20 if smoke else 1 << 27, 1 if smoke else 5))


async def _run(size: int, pushes: int) -> list[Row]:
    values = [np.ones(size, np.float32) for _ in range(2)]
    grad, out = np.ones(16, np.float32), np.empty(16, np.float32)
    async with akv.connect("memory://") as kv:
        await kv.init(["large", "small"], [values[0], grad])

        async def pair() -> float:
            start = perf_counter()
            # The sleep lets the loop turn, so that what is measured includes the wait for it.
            await asyncio.sleep(0)
            await kv.push("small", grad)
            await kv.pull("small", out=out)
            return perf_counter() - start

        alone = [await pair() for _ in range(1000)]
        beside: list[float] = []
        for _ in range(pushes):
            large = kv.push("large", values)
            while not large.done():
                beside.append(await pair())
            await large
    name = f"64 B push + pull while 2 x {values[0].nbytes >> 20} MiB are summed"
    return [
        Row(f"{name}, p{percent}", _ms(beside, percent), "a few ms", f"alone {_ms(alone, percent)}")
        for percent in (50, 99)
    ]


def _ms(seconds: list[float], percent: int) -> str:
    return f"{np.percentile(seconds, percent) * 1e3:.3f} ms"


if __name__ == "__main__":
    print(*run(smoke=False), sep="\n")
