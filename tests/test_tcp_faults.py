"""Rounds over a network that fails: each worker's contribution counts once in its round, whatever happens on the way.

Push i of every worker adds one to element i of what is stored, so the stored sum says exactly what was lost or doubled.
"""

from __future__ import annotations

import asyncio
import os

import numpy as np
import pytest
from tcp_cases import PATIENCE, QUICK, process, serving, until
from tcp_proxy import Proxy, fates
from test_tcp_once import Forgetful, one

import akv
from akv_tcp import wire as w
from akv_tcp.memory_budget import Share
from akv_tcp.slots import slot_of

WORKERS = 2
# Of all workers together.
PUSHES = 10_000 if os.environ.get("AKV_LONG") == "1" else 2_000
SIZE = 500

_SERVER = """
import asyncio, signal
from akv.loop import run
from akv_tcp.hosting import host, host_rounds
from akv_tcp.server import Server
from akv_tcp.terms import Terms

async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    terms = Terms(heartbeat=0.1, greeting=1.0, stall=1.0)
    server = Server(host("memory://"), terms, host_rounds("memory://"))
    print("tcp://%s:%d" % await server.start("127.0.0.1", 0), flush=True)
    await stopped.wait()
    await server.stop()

run(main())
"""


async def push_all(port: int, pushes: int, patience: float) -> tuple[Proxy, np.ndarray, list[int]]:
    """Push each element once as each worker; return the network, what is stored in the end, and the versions."""
    proxy = Proxy(port, fates(2, 100_000))
    keys = [f"w{place}" for place in range(0, pushes // WORKERS, SIZE)]
    async with proxy.run() as url, asyncio.timeout(patience):
        place = f"{url}/job?workers={WORKERS}&worker_timeout=20"
        await asyncio.gather(*[work(place, keys) for _ in range(WORKERS)])
        async with akv.connect(f"tcp://127.0.0.1:{port}/job?role=reader&workers={WORKERS}&worker_timeout=20") as kv:
            found = await kv.pull(keys)
            return proxy, np.concatenate(found), [await kv.wait_version(key, 1) for key in keys]


async def work(place: str, keys: list[str]) -> None:
    """One worker: keys side by side, the pushes of one key one after the other."""
    async with akv.connect(place) as kv:
        await kv.init(keys, [np.zeros(SIZE, np.uint8)] * len(keys))
        await kv.set_updater("add")

        async def fill(key: str) -> None:
            for element in range(SIZE):
                await kv.push(key, one(SIZE, element))

        await asyncio.gather(*map(fill, keys))
        await kv.barrier()


@pytest.mark.timeout(300)
async def test_every_contribution_counts_once() -> None:
    with process(_SERVER) as (url, _):
        proxy, found, versions = await push_all(int(url.rpartition(":")[2]), PUSHES, PATIENCE + PUSHES / 50)
    print(f"{PUSHES} pushes over {proxy.count} connections, {dict(proxy.struck)}, {proxy.twins} of them twice")
    assert proxy.cuts > 10, "the network did too little harm"
    assert set(versions) == {1 + SIZE}
    assert (found == WORKERS).all()


class Twice(Forgetful):
    """Counts what it does again."""

    count = 0

    def take(self, request: w.Request, share: Share) -> None:
        record = self._records.get(slot_of(request.request))
        done = record is not None and record.number == request.request and record.answer is not None
        Twice.count += done and isinstance(request, w.Push)
        super().take(request, share)


async def test_a_server_that_forgets_is_found_out() -> None:
    Twice.count = 0
    async with serving(QUICK, new_session=Twice) as server:
        pushing = asyncio.create_task(push_all(server.port, 2 * SIZE, PATIENCE))
        await until(lambda: Twice.count or pushing.done())
        await asyncio.wait([pushing], timeout=0.5)
        pushing.cancel()
        try:
            _, found, versions = await pushing
        except (akv.AkvError, asyncio.CancelledError):
            assert Twice.count, "else something is wrong with the test"
            return  # who counts twice in a round leaves the others waiting for the last
        assert (found != WORKERS).any() or set(versions) != {1 + SIZE}, "so the test above proves nothing"
