"""The peak memory of a server over what it has to hold: the stored values, and the pushes that are on their way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import akv
from benchmarks.measure import Row


def run(smoke: bool) -> list[Row]:
    """Two clients push all keys at once, and pull them, some times over."""
    keys, nbytes, rounds = (2, 1 << 20, 1) if smoke else (8, 64 << 20, 4)
    if not Path("/proc/self/status").exists():
        return [Row("peak RSS of a server", "", "", "needs /proc")]
    with _server() as (url, process):
        base = _peak(process)
        akv.run(_load(f"{url}/bench", keys, nbytes, rounds))
        peak = _peak(process) - base
    stored, moving = keys * nbytes, 2 * keys * nbytes
    detail = f"{peak >> 20} MiB for {stored >> 20} MiB stored and {moving >> 20} MiB pushed by two clients at once"
    name = f"peak RSS of a server over values and pushes under way, {keys} keys of {nbytes >> 20} MiB"
    return [Row(name, f"{peak / (stored + moving):.2f} x", "", detail)]


async def _load(url: str, count: int, nbytes: int, rounds: int) -> None:
    keys = [f"k{number}" for number in range(count)]
    value = np.ones(nbytes // 4, np.float32)
    async with akv.connect(url) as one, akv.connect(url) as other:
        await one.init(keys, [value] * count)
        outs = [np.empty_like(value) for _ in range(2)]
        for _ in range(rounds):
            await asyncio.gather(*[kv.push(key, value) for kv in (one, other) for key in keys])
            for key in keys:
                await asyncio.gather(*[kv.pull(key, out) for kv, out in zip((one, other), outs, strict=True)])


@contextmanager
def _server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "akv", "serve", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1], process
        finally:
            process.terminate()


def _peak(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    print(*run("--smoke" in sys.argv), sep="\n")
