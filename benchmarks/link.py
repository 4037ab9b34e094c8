"""Gradient compression on a link of 1 Gbit/s: a push of 64 MiB, dense and packed, until it is acknowledged."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import numpy as np

import akv
from benchmarks.measure import Row, turns
from benchmarks.peers import akv_server, process

RATE = 125e6  # bytes per second
# What is compared with dense, and how many times faster it is to be.
SPECS = {"2bit": ({"type": "2bit", "threshold": 0.5}, 12.0), "int8": ({"type": "int8"}, 3.5)}


def run(smoke: bool) -> list[Row]:
    """How many times faster than dense."""
    with akv_server() as url, limited(url.removeprefix("tcp://")) as address:
        return akv.run(_run(f"tcp://{address}", 1 << 20 if smoke else 64 << 20, 1 if smoke else 5))


@contextmanager
def limited(address: str) -> Iterator[str]:
    """An address behind which is `address`, over a link of RATE."""
    with process([sys.executable, str(Path(__file__).with_name("proxy.py")), address, str(RATE)]) as port:
        yield f"127.0.0.1:{port.strip()}"


async def _run(url: str, nbytes: int, repeats: int) -> list[Row]:
    grad = (np.random.default_rng(0).standard_normal(nbytes // 4) * 0.3).astype(np.float32)
    steps: dict[str, Callable[[], akv.Pending[int]]] = {}
    async with AsyncExitStack() as stack:
        for name in ("dense", *SPECS):
            kv = await stack.enter_async_context(akv.connect(f"{url}/{name}"))
            if name in SPECS:
                await kv.set_gradient_compression(SPECS[name][0])
            await kv.init("w", np.zeros_like(grad))
            await kv.push("w", grad)  # numba may have to compile
            steps[name] = lambda kv=kv: kv.push("w", grad)
        took = await turns(steps, repeats)
    engine = "numba" if importlib.util.find_spec("numba") else "numpy alone"
    return [
        Row(
            f"push of {nbytes >> 20} MiB at 1 Gbit/s, {name}",
            f"{took['dense'] / took[name]:.1f} x faster",
            f">= {goal} x",
            f"{took[name] * 1e3:.1f} ms against {took['dense'] * 1e3:.1f} ms dense, {engine}",
        )
        for name, (_, goal) in SPECS.items()
    ]


if __name__ == "__main__":
    print(*run("--smoke" in sys.argv), sep="\n")
