"""A handle that is not opened in the end leaves nothing on the server: above all no worker that nobody is."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import numpy as np
import pytest
from tcp_cases import PATIENCE, Running, serving, until

import akv
from akv_tcp import channel, farewell
from akv_tcp import wire as w
from akv_tcp.channel import Channel
from akv_tcp.peer import Peer
from akv_tcp.session import Session


def calls_when_admitted(server: Running, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    """Have `call` called when the server has let the first client in, before that can know."""
    admit = server.admit

    def admitted(hello: w.Hello) -> Session:
        monkeypatch.setattr(server, "admit", admit)
        call()
        return admit(hello)

    monkeypatch.setattr(server, "admit", admitted)


def calls_when_welcomed(monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    """Have `call` called when the client has been let in, and `connect` has not returned."""
    welcomed = Channel._welcomed

    def noted(self: Channel, *arguments: Any) -> None:
        welcomed(self, *arguments)
        call()

    monkeypatch.setattr(Channel, "_welcomed", noted)


async def goes_on(server: Running) -> None:
    """The only place in the job is free."""
    assert not server.sessions
    async with akv.connect(f"{server.url}/job?workers=1&rank=0") as kv:
        await kv.init("w", np.ones(3))
        await kv.push("w", np.zeros(3))
    await until(lambda: not server.connections)


@pytest.mark.parametrize("moment", ["admitted", "welcomed"])
async def test_a_handle_cancelled_while_it_is_opened(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        task: asyncio.Task[akv.KVStore]
        with monkeypatch.context() as patched:
            if moment == "admitted":
                calls_when_admitted(server, patched, lambda: task.cancel())
            else:
                calls_when_welcomed(patched, lambda: task.cancel())
            task = asyncio.ensure_future(_opened(f"{server.url}/job?workers=1"))
            with pytest.raises(asyncio.CancelledError):
                await task
        await goes_on(server)


async def _opened(url: str) -> akv.KVStore:
    return await akv.connect(url)


async def test_a_server_that_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        monkeypatch.setattr(channel, "ATTEMPT", 0.05)
        slow: list[Any] = []

        async def welcome_late(peer: Any, hello: w.Hello) -> None:
            await asyncio.sleep(0.15)
            greet(peer, hello)

        greet = Peer._greet
        with monkeypatch.context() as patched:
            patched.setattr(
                Peer, "_greet", lambda peer, hello: slow.append(asyncio.ensure_future(welcome_late(peer, hello)))
            )
            with pytest.raises(akv.BackendUnavailable, match="does not answer"):
                await akv.connect(f"{server.url}/job?workers=1")
            await asyncio.gather(*slow)
        monkeypatch.setattr(channel, "ATTEMPT", PATIENCE)
        await goes_on(server)


async def test_a_server_that_says_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farewell, "_MOST", 0.05)
    connected = asyncio.Event()
    monkeypatch.setattr(Channel, "connected", lambda self, connection: connected.set())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        task = asyncio.ensure_future(_opened(f"tcp://127.0.0.1:{silent.getsockname()[1]}/job"))
        await connected.wait()
        task.cancel()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(asyncio.CancelledError):
                await task
