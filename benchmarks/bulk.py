"""Large arrays on memory://: sums, assigns, SGD, donated arrays and snapshots."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import akv
from benchmarks.measure import Row, ratio, turns

# Elements per block that the peers are tried with; the best of them counts.
BLOCKS = (1 << 16, 1 << 17, 1 << 18)
THREADS = (1, 2)
LR, MOMENTUM = 0.01, 0.9


def run(smoke: bool) -> list[Row]:
    """Ratios to the best numpy of the same run."""
    size, repeats = (1 << 18, 2) if smoke else (1 << 24, 9)
    return akv.run(_run(size, repeats))


async def _run(size: int, repeats: int) -> list[Row]:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(size, np.float32) for _ in range(4)]
    total, weight, momentum = values[0].copy(), values[0].copy(), np.zeros(size, np.float32)
    async with akv.connect("memory://") as plain, akv.connect("memory://") as trained:
        await plain.init("w", values[0])
        await trained.init("w", values[0])
        await trained.set_optimizer(akv.optim.SGD(learning_rate=LR, momentum=MOMENTUM))
        with ThreadPoolExecutor(max(THREADS)) as pool:
            steps: dict[str, Callable[[], Awaitable[object]]] = {
                "copyto": _awaitable(lambda: np.copyto(total, values[0])),
                "assign": lambda: plain.push("w", values[0]),
                "sum": lambda: plain.push("w", values),
                "sgd": lambda: trained.push("w", values[0]),
            }
            for threads, block in itertools.product(THREADS, BLOCKS):
                steps[f"numpy sum {threads} {block}"] = _awaitable(
                    lambda threads=threads, block=block: _spread(pool, threads, size, _sum_part, total, values, block)
                )
                steps[f"numpy sgd {threads} {block}"] = _awaitable(
                    lambda threads=threads, block=block: _spread(
                        pool, threads, size, _sgd_part, weight, momentum, values[0], block
                    )
                )
            took = await turns(steps, repeats)
            handed = await _independent_of_size(plain, size, repeats)
    best_sum = min(seconds for name, seconds in took.items() if name.startswith("numpy sum"))
    best_sgd = min(seconds for name, seconds in took.items() if name.startswith("numpy sgd"))
    megabytes = size * 4 >> 20
    return [
        ratio(f"push of 4 values of {megabytes} MiB", took["sum"], best_sum, 1.15, "the best blocked numpy sum"),
        ratio(f"push of 1 value of {megabytes} MiB", took["assign"], took["copyto"], 1.1, "np.copyto"),
        ratio(f"SGD with momentum on {megabytes} MiB", took["sgd"], best_sgd, 1.15, "the best chunked numpy"),
        *handed,
    ]


async def _independent_of_size(kv: akv.KVStore, size: int, repeats: int) -> list[Row]:
    small, large = np.ones(16, np.float32), np.ones(size, np.float32)
    await kv.init("small", small)
    took = await turns(
        {
            "donate small": lambda: kv.push("small", small, donate=True),
            "donate large": lambda: kv.push("w", large, donate=True),
            "snapshot small": lambda: kv.snapshot("small"),
            "snapshot large": lambda: kv.snapshot("w"),
        },
        repeats * 20,
    )
    return [
        ratio(f"{what} of {large.nbytes >> 20} MiB", took[f"{what} large"], took[f"{what} small"], 1.5, "64 B")
        for what in ("donate", "snapshot")
    ]


def _awaitable(step: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def run() -> None:
        step()

    return run


def _spread(pool: ThreadPoolExecutor, threads: int, size: int, part: Callable[..., None], *arguments: object) -> None:
    bounds = [size * number // threads for number in range(threads + 1)]
    jobs = [pool.submit(part, start, stop, *arguments) for start, stop in itertools.pairwise(bounds)]
    for job in jobs:
        job.result()


def _sum_part(start: int, stop: int, total: np.ndarray, values: list[np.ndarray], block: int) -> None:
    for at in range(start, stop, block):
        part = slice(at, min(at + block, stop))
        np.add(values[0][part], values[1][part], out=total[part])
        for value in values[2:]:
            np.add(total[part], value[part], out=total[part])


def _sgd_part(start: int, stop: int, weight: np.ndarray, momentum: np.ndarray, grad: np.ndarray, block: int) -> None:
    scratch = np.empty(block, np.float32)
    for at in range(start, stop, block):
        part = slice(at, min(at + block, stop))
        step = scratch[: part.stop - at]
        np.multiply(momentum[part], MOMENTUM, out=momentum[part])
        np.multiply(grad[part], LR, out=step)
        np.subtract(momentum[part], step, out=momentum[part])
        np.add(weight[part], momentum[part], out=weight[part])


if __name__ == "__main__":
    print(*run(smoke=False), sep="\n")
