"""Saving and loading against the same bytes written to, and read from, one file in the plainest way that is safe."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

import akv
from benchmarks.measure import Row, ratio, turns

CHUNK = 1 << 20


def run(smoke: bool) -> list[Row]:
    """Ratios to a raw file: 128 MiB in 8 keys, and what a key of 256 bytes costs."""
    nbytes, many, repeats = (1 << 20, 100, 1) if smoke else (128 << 20, 10_000, 5)
    with tempfile.TemporaryDirectory(dir=os.environ.get("AKV_BENCH_DIR")) as folder:
        return akv.run(_run(Path(folder), nbytes, many, repeats))


async def _run(folder: Path, nbytes: int, many: int, repeats: int) -> list[Row]:
    payload = np.random.default_rng(0).integers(0, 256, nbytes, np.uint8)
    async with akv.connect("memory://") as kv, akv.connect("memory://") as other, akv.connect("memory://") as small:
        await kv.init([f"w{number}" for number in range(8)], list(payload.view(np.float32).reshape(8, -1)))
        await small.init(list(range(many)), [np.zeros(64, np.float32)] * many)

        async def write() -> None:
            _write(folder / "raw", payload)

        async def read() -> None:
            _read(folder / "raw", nbytes)

        async def save() -> None:
            await kv.save(folder / "ck")

        async def load() -> None:
            await other.load(folder / "ck")

        async def save_many() -> None:
            await small.save(folder / "many")

        async def load_many() -> None:
            await small.load(folder / "many")

        steps = {"write": write, "save": save, "read": read, "load": load, "many": save_many, "load many": load_many}
        took = await turns(steps, repeats)
    size = f"{nbytes >> 20} MiB"
    return [
        ratio(f"save {size} in 8 keys", took["save"], took["write"], 2.0, "one file, written, synced and renamed"),
        ratio(f"load {size} in 8 keys", took["load"], took["read"], 2.5, "one file, read into a fresh array"),
        Row(f"save {many} keys of 256 B, per key", f"{took['many'] / many * 1e6:.1f} us"),
        Row(f"load {many} keys of 256 B, per key", f"{took['load many'] / many * 1e6:.1f} us"),
    ]


def _write(path: Path, payload: np.ndarray) -> None:
    left = payload.data
    with open(f"{path}.tmp", "wb", buffering=0) as file:
        while left:
            left = left[file.write(left[:CHUNK]) :]
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)


def _read(path: Path, nbytes: int) -> None:
    left = np.empty(nbytes, np.uint8).data
    with open(path, "rb", buffering=0) as file:
        while left:
            left = left[file.readinto(left[:CHUNK]) :]


if __name__ == "__main__":
    print(*run(smoke=False), sep="\n")
