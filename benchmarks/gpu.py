"""A store on one GPU: sums and Adam against what its memory allows, host pushes against the copy, small round trips.

`python -m benchmarks gpu`. It is not among those that run without a name, since few machines have a GPU; without one it
says what is missing. `python -m benchmarks.gpu` runs the tests that need a GPU before.
"""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import numpy as np

import akv
from akv.optim import Adam
from akv_cupy.probe import probe
from benchmarks.measure import Row, best, ratio

__all__ = ["run"]

MIB = 1 << 20


def run(smoke: bool) -> Iterator[Row]:
    """Measure, or say why not."""
    missing = next((step for step in probe([0]) if not step.good), None)
    if missing is not None:
        raise SystemExit(f"no GPU benchmark here: {missing.name}: {missing.text}; {missing.advice}")
    cupy: Any = importlib.import_module("cupy")
    about = cupy.cuda.runtime.getDeviceProperties(0)
    yield Row("the card", about["name"].decode(), "", f"{about['totalGlobalMem'] / 2**30:.0f} GiB")
    yield from akv.run(_measure(cupy, smoke))


async def _measure(cupy: Any, smoke: bool) -> list[Row]:
    scale, repeats = (64, 3) if smoke else (1, 20)
    async with akv.connect("cupy://0") as kv, _lag() as lags:
        rows = [
            await _sum(cupy, kv, 64 * MIB // scale, repeats),
            await _adam(cupy, kv, 256 * MIB // scale, repeats),
            await _host_push(cupy, kv, 64 * MIB // scale, repeats),
            *await _small(kv, 20 if smoke else 2000),
        ]
        rows.append(
            Row("gpu: loop lag during all this", f"{1e3 * max(lags):.2f} ms", "", "the longest turn of the loop")
        )
    return rows


async def _sum(cupy: Any, kv: akv.KVStore, nbytes: int, repeats: int) -> Row:
    parts = [cupy.full(nbytes // 4, number, cupy.float32) for number in range(4)]
    await kv.init("sum", np.zeros(nbytes // 4, np.float32))
    ours = await _best(lambda: kv.push("sum", parts), repeats)
    # Four are read and one is written, where a copy reads one and writes one.
    floor = _copy_seconds(cupy, nbytes, repeats) * 5 / 2
    return ratio(f"gpu: sum of 4 x {nbytes // MIB} MiB", ours, floor, 1.3, "the same bytes at the speed of a copy")


async def _adam(cupy: Any, kv: akv.KVStore, nbytes: int, repeats: int) -> Row:
    grad = cupy.full(nbytes // 4, 0.5, cupy.float32)
    await kv.init("adam", np.zeros(nbytes // 4, np.float32))
    await kv.set_optimizer(Adam())
    ours = await _best(lambda: kv.push("adam", grad), repeats)
    await kv.set_updater("assign")
    # Weight, gradient and two moments are read, all but the gradient written.
    floor = _copy_seconds(cupy, nbytes, repeats) * 7 / 2
    return ratio(f"gpu: Adam on {nbytes // MIB} MiB", ours, floor, 1.3, "the same bytes at the speed of a copy")


async def _host_push(cupy: Any, kv: akv.KVStore, nbytes: int, repeats: int) -> Row:
    value = np.ones(nbytes // 4, np.float32)
    await kv.init("host", value)
    ours = await _best(lambda: kv.push("host", value), repeats)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(nbytes), np.float32, nbytes // 4)
    array, stream = cupy.empty(nbytes // 4, cupy.float32), cupy.cuda.Stream(non_blocking=True)

    def transfer() -> None:
        array.set(pinned, stream=stream)
        stream.synchronize()

    # The two go side by side, so the slower one is the limit.
    limit = max(best(lambda: np.copyto(pinned, value), repeats), best(transfer, repeats))
    what = "the slower of the copies into page-locked memory and from there"
    return ratio(f"gpu: push of {nbytes // MIB} MiB from the host", ours, limit, 1.2, what)


async def _small(kv: akv.KVStore, repeats: int) -> list[Row]:
    value, out = np.ones(16, np.float32), np.zeros(16, np.float32)
    await kv.init("small", value)
    push = await _best(lambda: kv.push("small", value), repeats)
    pull = await _best(lambda: kv.pull("small", out), repeats)
    return [
        Row("gpu: push of 64 B from the host", f"{1e6 * push:.1f} us", "", "awaited, one after the other, best"),
        Row("gpu: pull of 64 B to the host", f"{1e6 * pull:.1f} us", "", "awaited, one after the other, best"),
    ]


def _copy_seconds(cupy: Any, nbytes: int, repeats: int) -> float:
    """One copy within the device's memory, as CUDA's own events see it."""
    source, target = cupy.ones(nbytes, cupy.uint8), cupy.empty(nbytes, cupy.uint8)
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    times = []
    for _ in range(repeats):
        start.record()
        target.data.copy_from_device_async(source.data, nbytes)
        stop.record()
        stop.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3)
    return min(times)


async def _best(step: Callable[[], Awaitable[object]], repeats: int) -> float:
    shortest = float("inf")
    for _ in range(repeats):
        begin = perf_counter()
        await step()
        shortest = min(shortest, perf_counter() - begin)
    return shortest


@asynccontextmanager
async def _lag() -> AsyncIterator[list[float]]:
    """While this lasts, a task of its own times the turns of the loop."""
    turns = [0.0]

    async def watch() -> None:
        while True:
            begin = perf_counter()
            await asyncio.sleep(0.001)
            turns.append(max(0.0, perf_counter() - begin - 0.001))

    task = asyncio.create_task(watch())
    try:
        yield turns
    finally:
        task.cancel()
        await asyncio.wait({task})


def main() -> None:
    """The tests that need a GPU, then the table."""
    rows = run(smoke=False)
    print(next(rows), flush=True)  # or it ends here, saying what is missing
    status = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_cupy_gpu.py"]).returncode
    print(*rows, sep="\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
