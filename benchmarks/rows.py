"""Rows of a table: against what numpy takes for the same rows, and against moving the table; and a table of 10**8."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import numpy as np

import akv
from benchmarks.measure import Row, ratio, turns

ROWS, COLUMNS, MOVED = 1_000_000, 64, 10_000

# In a process of its own, since a peak cannot be reset.
PROGRAM = r"""
import re, sys
import numpy as np
import akv
from akv import sync

def held():
    return int(re.search(r"VmRSS:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024

rows, touched, columns = map(int, sys.argv[1:])
ids = np.random.default_rng(0).choice(rows, touched, replace=False)
values = np.ones((1000, columns), np.float32)
table = akv.init.normal((rows, columns), std=0.01, seed=1)
with sync.connect("memory://") as kv:
    kv.set_optimizer(akv.optim.SGD(learning_rate=0.1))
    kv.init("warm", table)
    kv.push("warm", akv.RowSparse(ids[:1000], values, table.shape))
    before = held()
    kv.init("w", table)
    for start in range(0, touched, 1000):
        kv.push("w", akv.RowSparse(ids[start : start + 1000], values, table.shape))
    print(held() - before, kv.info("w").nbytes)
"""


def run(smoke: bool) -> list[Row]:
    """Dense and by initialiser, and the memory of a large one."""
    scale = 100 if smoke else 1
    return [*asyncio.run(_compare(ROWS // scale, MOVED // scale, 3 if smoke else 30)), _large(10**8, 10**5 // scale)]


async def _compare(rows: int, moved: int, repeats: int) -> list[Row]:
    floor, dense = (np.zeros((rows, COLUMNS), np.float32) for _ in range(2))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, rows, moved)
    gradient = akv.RowSparse(ids, np.ones((moved, COLUMNS), np.float32), dense.shape)
    fresh = iter(rng.permutation(rows * 100).reshape(-1, moved))
    async with akv.connect("memory://") as kv:
        await kv.init(["dense", "table", "huge"], [dense, akv.init.zeros(dense.shape), _uniform(rows * 100)])
        await kv.set_updater("add")
        for held in rng.permutation(rows).reshape(-1, moved):
            await kv.push("table", akv.RowSparse(held, gradient.values, dense.shape))

        async def numpy() -> None:
            floor[ids] += gradient.values
            floor[ids]

        async def push_and_pull(key: str) -> None:
            await kv.push(key, gradient)
            await kv.row_sparse_pull(key, row_ids=ids)

        async def move() -> None:
            await kv.push("dense", dense)
            await kv.pull("dense")

        async def touch() -> None:
            held = next(fresh)
            await kv.push("huge", akv.RowSparse(held, gradient.values, (rows * 100, COLUMNS)))
            await kv.row_sparse_pull("huge", row_ids=held)

        steps: dict[str, Any] = {"numpy": numpy, "touch": touch}
        steps |= {key: lambda key=key: push_and_pull(key) for key in ("dense", "table")}
        took = await turns(steps, repeats) | await turns({"move": move}, 3)
    what = f"push + row_sparse_pull of {moved} of {rows} rows of {COLUMNS} floats"
    peer = "numpy: table[ids] += values; table[ids]"
    return [
        ratio(f"{what}, an array", took["dense"], took["numpy"], 3.0, peer),
        ratio(f"{what}, a table by initialiser", took["table"], took["numpy"], 3.0, peer),
        ratio(f"of {rows * 100} rows, none touched before", took["touch"], took["numpy"], 0, peer)._replace(goal=""),
        *(_faster(key, took["move"] / took[key], took["move"]) for key in ("dense", "table")),
    ]


def _uniform(rows: int) -> akv.init.Table:
    return akv.init.uniform((rows, COLUMNS), seed=1)


def _faster(key: str, factor: float, seconds: float) -> Row:
    name = f"the same against push + pull of all of it, {'an array' if key == 'dense' else 'a table by initialiser'}"
    return Row(name, f"{factor:.0f} x faster", ">= 20 x", f"{seconds * 1e3:.0f} ms to push and pull the array")


def _large(rows: int, touched: int) -> Row:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(rows), str(touched), str(COLUMNS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    resident, held = map(int, output.split())
    payload = touched * COLUMNS * 4
    name = f"memory of a table of {rows} rows of {COLUMNS} floats, {touched} of them touched"
    detail = f"over {payload / 1e6:.1f} MB of touched rows; info says {held / 1e6:.1f} MB"
    return Row(name, f"{resident / payload:.2f} x", "", detail)
