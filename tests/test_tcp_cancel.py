"""Calls that are cancelled, or run out of time: buffers are free at once, no other call is harmed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tcp_cases import PATIENCE, Running, process, serving, stored, until

import akv
from akv import sync
from akv_tcp.connection import Connection

SHAPE = (4,)
LARGE = 32 << 20


def ones(value: float = 1.0) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def connection_of(kv: akv.KVStore) -> Connection:
    connection: Connection = kv.engine.backend._channel.connection  # type: ignore[attr-defined]
    return connection


def hold(server: Running) -> Callable[[], None]:
    """Have the server read nothing until the returned function is called."""
    connections = [peer.connection for peer in server._peers]
    for connection in connections:
        connection.hold()
        connection.take_events()  # which stops the reading
        # Else the kernel may take all of a push, up to 32 MiB, and nothing of it gets stuck.
        assert connection._transport is not None
        connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)

    def go_on() -> None:
        for connection in connections:
            connection.go_on()

    return go_on


async def stuck(connection: Connection) -> None:
    """Wait until nothing more can be sent; the kernel's buffers grow for a while."""
    sizes = [0]
    async with asyncio.timeout(PATIENCE):
        while not sizes[-1] or len(set(sizes[-10:])) > 1:
            await asyncio.sleep(0.02)
            sizes.append(connection.unsent)


async def cancelled(pending: asyncio.Future[Any]) -> bool:
    """Whether it ended by its cancellation; the other end is a result."""
    async with asyncio.timeout(PATIENCE):
        try:
            await pending
        except asyncio.CancelledError:
            return True
    return False


# -- at every point -------------------------------------------------------------------------------------------

VERBS: dict[str, Callable[[akv.KVStore], Any]] = {
    "init": lambda kv: kv.init("new", ones()),
    "push": lambda kv: kv.push("w", ones(5)),
    "push of many": lambda kv: kv.push(["w", "large"], [ones(5), np.full(40_000, 5, np.float32)]),
    "push of devices": lambda kv: kv.push("w", [ones(2), ones(3)]),
    "push of rows": lambda kv: kv.push("table", akv.RowSparse([1], np.ones((1, 2), np.float32), (3, 2))),
    "pull": lambda kv: kv.pull("w"),
    "pull of many": lambda kv: kv.pull(["w", "large"], [ones(0), np.zeros(40_000, np.float32)]),
    "pushpull": lambda kv: kv.pushpull("w", ones(5), ones(0)),
    "broadcast": lambda kv: kv.broadcast("new", ones(), ones(0)),
    "rows": lambda kv: kv.row_sparse_pull("table", row_ids=[0, 2]),
    "snapshot": lambda kv: kv.snapshot("large"),
    "wait": lambda kv: kv.wait_version("w", 1),
    "pull of a version": lambda kv: kv.pull("w", min_version=1),
    "keys": lambda kv: kv.keys(),
    "info": lambda kv: kv.info(["w", "large"]),
    "delete": lambda kv: kv.delete("old"),
    "set_updater": lambda kv: kv.set_updater("assign"),
    "set_optimizer": lambda kv: kv.set_optimizer(akv.optim.SGD(learning_rate=1.0)),
    "barrier": lambda kv: kv.barrier(),
    "flush": lambda kv: kv.flush(),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_at_every_point(verb: str) -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init(["w", "large", "table"], [ones(), np.zeros(40_000, np.float32), np.zeros((3, 2), np.float32)])
        connection = connection_of(kv)
        ended = turns = 0
        # It has to get through to its end a few times: the number of turns it takes is not always the same.
        while ended < 3:
            await kv.init("old", ones())
            async with akv.connect(f"{server.url}/job") as other:
                await other.delete([key for key in await other.keys() if key == "new"])
                before = (await other.info("w")).version

                async def call() -> None:
                    await VERBS[verb](kv)

                task = asyncio.ensure_future(call())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                ended += not await cancelled(task)
                # The same handle goes on as if nothing had been: what it does now comes after.
                await kv.set_updater("assign")
                version = await kv.push("w", ones(7))
                assert version in (before + 1, before + 2)
                assert (await kv.pull("w") == 7).all()
                assert (await other.pull("w") == 7).all()
                assert (await other.info("w")).version == version
                await other.delete("old" if "old" in await other.keys() else [])
            turns += 1
        assert connection_of(kv) is connection
        assert turns > 2


# -- large ones -----------------------------------------------------------------------------------------------


async def test_a_push_cut_off_half_sent_counts_for_nothing() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, akv.connect(f"{server.url}/job") as other:
        await kv.init(["w", "small"], [np.zeros(LARGE, np.uint8), ones()])
        value = np.ones(LARGE, np.uint8)
        connection = connection_of(kv)
        await other.keys()
        go_on = hold(server)
        pushing = kv.push("w", value)
        await stuck(connection)
        assert connection.sender.waiting
        assert pushing.cancel()
        await asyncio.sleep(0.05)
        assert not pushing.done(), "the transport still refers to the array"
        go_on()
        assert await cancelled(pushing)
        value[...] = 9  # it is the caller's again
        assert not connection.sender.queued
        assert await kv.push("small", ones(3)) == 2
        assert (await kv.info("w")).version == 1
        assert connection_of(kv) is connection, "no connection ends for it"
        assert not stored(server, "job", "w").any()
        assert await kv.push("w", value) == 2
        assert (stored(server, "job", "w") == 9).all()
    await until(lambda: server.budget.held == 0)


async def test_a_push_that_was_not_begun_is_free_at_once() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init(["a", "b"], [np.zeros(LARGE, np.uint8)] * 2)
        go_on = hold(server)
        first = kv.push("a", np.ones(LARGE, np.uint8))
        await stuck(connection_of(kv))
        value = np.ones(LARGE, np.uint8)
        second = kv.push("b", value)
        await asyncio.sleep(0)
        second.cancel()
        assert await cancelled(second)
        value[...] = 9
        go_on()
        assert await first == 2
        assert (await kv.info("b")).version == 1


async def test_a_cancelled_pull_writes_nothing_later() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        value = np.random.default_rng(1).integers(0, 255, LARGE, np.uint8)
        await kv.init(["w", "small"], [value, ones()])
        connection, out = connection_of(kv), np.zeros(LARGE, np.uint8)
        start = connection.count
        pulling = kv.pull("w", out)
        await until(lambda: connection.count > start + (2 << 20))
        pulling.cancel()
        assert await cancelled(pulling)
        assert out.any(), "it had not begun, so this proves nothing"
        assert not out[-1000:].any(), "it was over, so this proves nothing"
        seen = out.copy()
        assert (await kv.pull("small") == 1).all()
        assert np.array_equal(await kv.pull("w"), value)
        assert np.array_equal(out, seen)
        assert connection_of(kv) is connection
        # The server did not go on sending it.
        assert connection.count - start < 2 * LARGE


async def test_cancelling_some_leaves_the_others_alone() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        names = [f"w{number}" for number in range(40)]
        await kv.init(names, [np.zeros(30_000, np.float32)] * 40)
        await kv.set_updater("add")
        for _ in range(5):
            pushes = [kv.push(name, np.ones(30_000, np.float32)) for name in names]
            pulls = [kv.pull(name, np.empty(30_000, np.float32)) for name in names]
            await asyncio.sleep(0)
            for pending in [*pushes[::2], *pulls[1::2]]:
                pending.cancel()
            versions = await asyncio.gather(*pushes[1::2])
            seen = await asyncio.gather(*pulls[::2])
            assert all(isinstance(version, int) for version in versions)
            assert all((value == value[0]).all() for value in seen)
            await asyncio.gather(*pushes, *pulls, return_exceptions=True)
        for place, name in enumerate(names):
            info, value = await kv.info(name), await kv.pull(name)
            assert (value == info.version - 1).all()
            assert info.version == 6 or place % 2 == 0


async def test_cancelling_while_there_is_no_connection() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", ones())
        await kv.set_updater("add")
        assert server._server is not None
        connection_of(kv).abort()
        value = ones()
        pending = [kv.push("w", value), kv.wait_version("w", 99), kv.pull("w")]
        await asyncio.sleep(0)
        for each in pending:
            each.cancel()
            assert await cancelled(each)
        value[...] = 9
        assert await kv.push("w", ones()) == 2
        assert (await kv.pull("w") == 2).all()


# -- time-outs ------------------------------------------------------------------------------------------------


async def test_a_call_runs_out_of_time() -> None:
    async with serving() as server:
        async with akv.connect(f"{server.url}/job", timeout=0.1) as kv:
            await kv.init("w", ones())
            go_on = hold(server)
            with pytest.raises(akv.AkvTimeout, match=rf"push of key 'w'.*0\.1 s; .*{server.url} was last heard \d"):
                await kv.push("w", ones(5))
            with pytest.raises(akv.AkvTimeout, match="pull of key 'w'"):
                await kv.pull("w")
            go_on()
            assert await kv.push("w", ones(6)) in (2, 3)
            assert (await kv.pull("w") == 6).all()


def test_a_blocking_call_runs_out_of_time() -> None:
    with process() as (url, _), sync.connect(f"{url}/job") as kv:
        kv.init("w", ones())
        for wait in (lambda: kv.wait_version("w", 9, timeout=0.05), lambda: kv.pull("w", min_version=9, timeout=0.05)):
            with pytest.raises(akv.AkvTimeout, match=rf"'w'.*version 9.*at version 1; {url} was last heard"):
                wait()
        assert kv.push("w", ones(5), timeout=PATIENCE) == 2
        assert (kv.pull("w") == 5).all()
