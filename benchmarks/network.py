"""tcp:// on loopback, one worker: push, then pull(out=), against the same bytes over blocking sockets."""

from __future__ import annotations

import asyncio
import socket

import numpy as np

import akv
from benchmarks.measure import Row, ratio, turns
from benchmarks.peers import Pairs, akv_server, placed, placements, raw_server, redis_pairs

# Bytes, and the goal.
SIZES = ((64, 2.0), (64 << 10, 1.4), (1 << 20, 1.15), (16 << 20, 1.15), (64 << 20, 1.15))
PAIRS = 2000
# Keys of one call.
LIST = 500


def run(smoke: bool) -> list[Row]:
    """Ratios to blocking sockets, and how many small pairs go through one connection in a second."""
    rows = []
    for where, server, client in placements():
        with placed(server), raw_server() as raw, redis_pairs() as redis, akv_server() as url, placed(client):
            rows += akv.run(_run(raw, redis, f"{url}/bench", smoke, where))
    return rows


async def _run(raw: socket.socket, redis: Pairs | None, url: str, smoke: bool, where: str) -> list[Row]:
    rows = []
    async with akv.connect(url) as kv:
        for nbytes, goal in SIZES[:2] if smoke else SIZES:
            rows.append(await _one_size(kv, raw, nbytes, goal, 3 if smoke else 11, where))
        rows += await _many(kv, redis, 50 if smoke else PAIRS, where)
    return rows


async def _one_size(kv: akv.KVStore, raw: socket.socket, nbytes: int, goal: float, repeats: int, where: str) -> Row:
    value, out = np.ones(nbytes // 4, np.float32), np.empty(nbytes // 4, np.float32)
    sent, received = memoryview(value).cast("B"), memoryview(out).cast("B")
    calls = max(1, min(200, (4 << 20) // nbytes))
    await kv.init(f"w{nbytes}", value)

    async def ours() -> None:
        for _ in range(calls):
            await kv.push(f"w{nbytes}", value)
            await kv.pull(f"w{nbytes}", out=out)

    async def peer() -> None:
        for _ in range(calls):
            _push_and_pull(raw, sent, received)

    took = await turns({"ours": ours, "peer": peer}, repeats)
    name = f"push + pull of {_size(nbytes)}, {where}"
    return ratio(name, took["ours"] / calls, took["peer"] / calls, goal, "blocking sockets")


async def _many(kv: akv.KVStore, redis: Pairs | None, count: int, where: str) -> list[Row]:
    keys = [f"k{number}" for number in range(count)]
    value = np.ones(16, np.float32)
    values, outs = [value] * count, [np.empty_like(value) for _ in keys]
    await kv.init(keys, values)

    async def single() -> None:
        calls = []
        for key, out in zip(keys, outs, strict=True):
            calls += [kv.push(key, value), kv.pull(key, out)]
        await asyncio.gather(*calls)

    async def listed() -> None:
        await asyncio.gather(kv.push(keys, values), kv.pull(keys, outs))

    async def in_lists() -> None:
        calls = []
        for start in range(0, count, LIST):
            part = slice(start, start + LIST)
            calls += [kv.push(keys[part], values[part]), kv.pull(keys[part], outs[part])]
        await asyncio.gather(*calls)

    async def peer() -> None:
        if redis is not None:
            redis(count)

    took = await turns({"single": single, "in_lists": in_lists, "listed": listed, "redis": peer}, 7)
    names = {
        "single": f"{count} push and {count} pull calls of 64 B, awaited together, {where}",
        "in_lists": f"the same in calls of {min(LIST, count)} keys, {where}",
        "listed": f"one push and one pull call of {count} keys of 64 B, {where}",
    }
    return [
        _against_redis(name, took[how] / count, None if redis is None else took["redis"] / count)
        for how, name in names.items()
    ]


def _against_redis(name: str, ours: float, theirs: float | None) -> Row:
    if theirs is None:
        return Row(name, f"{ours * 1e6:.1f} us a pair", "", "redis-py or redis-server is not installed")
    detail = f"{ours * 1e6:.1f} us a pair against {theirs * 1e6:.1f} us for redis-py's pipelined SET and GET"
    return Row(name, f"{theirs / ours:.2f} x as many", ">= 2 x", detail)


def _push_and_pull(sock: socket.socket, sent: memoryview, received: memoryview) -> None:
    sock.sendall(len(sent).to_bytes(8, "little"))
    sock.sendall(sent)
    _exactly(sock, memoryview(bytearray(8)))
    sock.sendall(bytes(8))
    _exactly(sock, received)


def _exactly(sock: socket.socket, view: memoryview) -> None:
    while len(view):
        view = view[sock.recv_into(view) :]


def _size(nbytes: int) -> str:
    units = ((1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
    return next(f"{nbytes // unit} {name}" for unit, name in units if nbytes >= unit)


if __name__ == "__main__":
    print(*run(smoke=False), sep="\n")
