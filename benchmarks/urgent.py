"""A 64 B pull during a push of 256 MiB on the same connection: how long it waits, and what that costs the push."""

from __future__ import annotations

import asyncio
import sys
from statistics import median
from time import perf_counter

import numpy as np

import akv
from benchmarks.measure import Row
from benchmarks.peers import akv_server


def run(smoke: bool) -> list[Row]:
    """The wait over idle, and the time of the push over one without pulls."""
    with akv_server() as url:
        return akv.run(_run(f"{url}/bench", 4 << 20 if smoke else 256 << 20, 2 if smoke else 7))


async def _run(url: str, nbytes: int, repeats: int) -> list[Row]:
    async with akv.connect(url) as kv:
        bulk, small = np.ones(nbytes // 4, np.float32), np.ones(16, np.float32)
        await kv.init(["bulk", "small"], [bulk, small])
        idle = [await _pull(kv, small) for _ in range(200)]
        waits: list[float] = []
        alone, busy = [], []
        for _ in range(repeats):
            alone.append(await _push(kv, bulk))
            pulling = asyncio.create_task(_pulls(kv, small, waits))
            busy.append(await _push(kv, bulk))
            pulling.cancel()
            await asyncio.wait([pulling])
    over = median(waits) - median(idle)
    worst = sorted(waits)[int(len(waits) * 0.99)]
    return [
        Row(
            f"64 B pull during a push of {nbytes >> 20} MiB, over idle",
            f"{over * 1e3:.2f} ms",
            "<= 0.5 ms",
            f"median of {len(waits)}; the 99th percentile waits {worst * 1e3:.2f} ms; idle {median(idle) * 1e3:.2f} ms",
        ),
        Row(
            f"push of {nbytes >> 20} MiB with such pulls, one a millisecond",
            f"{min(busy) / min(alone):.2f} x",
            "<= 1.12 x",
            f"{min(busy) * 1e3:.0f} ms against {min(alone) * 1e3:.0f} ms without them",
        ),
    ]


async def _pulls(kv: akv.KVStore, out: np.ndarray, waits: list[float]) -> None:
    while True:
        await asyncio.sleep(1e-3)
        waits.append(await _pull(kv, out))


async def _pull(kv: akv.KVStore, out: np.ndarray) -> float:
    start = perf_counter()
    await kv.pull("small", out)
    return perf_counter() - start


async def _push(kv: akv.KVStore, value: np.ndarray) -> float:
    start = perf_counter()
    await kv.push("bulk", value)
    return perf_counter() - start


if __name__ == "__main__":
    print(*run("--smoke" in sys.argv), sep="\n")
