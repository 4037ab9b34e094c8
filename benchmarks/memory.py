"""How much memory the store takes: the peak RSS of a process of its own (Linux), over the size of the values."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measure import Row

# Runs in a fresh process, since a peak cannot be reset. The array that all pushes share is the caller's, not counted.
PROGRAM = r"""
import asyncio, re, sys
import numpy as np
import akv

def peak():
    # Not getrusage: its maximum counts the process that this one was forked from.
    return int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024

async def main(keys, size):
    names = [f"w{number}" for number in range(keys)]
    value = np.ones(size, np.float32)
    async with akv.connect("memory://") as kv:
        before = peak()
        for name in names:
            await kv.init(name, value)
        for _ in range(3):
            await asyncio.gather(*(kv.push(name, [value, value]) for name in names))
        print((peak() - before) / (keys * value.nbytes))

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


def run(smoke: bool) -> list[Row]:
    """The growth of peak RSS over the payload, after pushes to all keys at once."""
    keys, size = (4, 1 << 18) if smoke else (16, 1 << 24)
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(keys), str(size)], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    name = f"peak RSS over payload, {keys} keys of {size * 4 >> 20} MiB, summed pushes to all at once"
    return [Row(name, f"{float(output):.2f} x", "", "1.00 x is one copy of each value")]


if __name__ == "__main__":
    print(*run(smoke=False), sep="\n")
