"""What the tests of workers that come to harm share: a server in a process of its own, and victims."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tcp_cases import PATIENCE, process
from tcp_victims import SIZE
from worker_laws import names

import akv

__all__ = ["IN_TIME", "LIMIT", "TIMEOUT", "Harm", "Place", "Victim", "ones", "whole", "with_victim"]

# Seconds without a sign of life. The others end within one more: most of them, in tests on a machine that others use.
TIMEOUT = 1.5
IN_TIME, LIMIT = TIMEOUT + 1.0, TIMEOUT + 5.0


class Place(NamedTuple):
    """A server in a process of its own, and a process that makes victims."""

    address: str
    breeder: socket.socket
    turn: threading.Lock


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
class Harm:
    """The victims take the time; the loop of the others makes no difference to them."""

    loops = ("asyncio",)

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls) -> Iterator[Place]:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"import tcp_victims; tcp_victims.breed({there.fileno()})"
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        breeder = subprocess.Popen([sys.executable, "-c", code], pass_fds=[there.fileno()], env=env)
        with here, there, breeder, process() as (url, _):
            there.close()
            yield Place(url, here, threading.Lock())
            here.close()
            assert breeder.wait(PATIENCE) == 0


class Victim:
    """A worker in a process of its own, as rank 1."""

    def __init__(self, told: Connection, pid: int) -> None:
        self.told, self.pid = told, pid

    @classmethod
    async def born(cls, what: str, place: Place, url: str, phase: str) -> Victim:
        """Have it made, in a thread: the others have to beat meanwhile."""

        def order() -> Victim:
            told, end = Pipe()
            with end, place.turn:
                socket.send_fds(place.breeder, [json.dumps([what, url, phase]).encode()], [end.fileno()])
                return cls(told, int(place.breeder.recv(64)))

        return await asyncio.to_thread(order)

    async def hear(self) -> Any:
        """The next that it tells."""
        async with asyncio.timeout(PATIENCE):
            while not self.told.poll():
                await asyncio.sleep(0.002)
        return self.told.recv()

    async def ended(self) -> None:
        """Wait until it is dead."""
        async with asyncio.timeout(PATIENCE):
            while _state(self.pid) not in "ZX":
                await asyncio.sleep(0.002)

    async def stopped(self) -> None:
        """Wait until it has been stopped."""
        async with asyncio.timeout(PATIENCE):
            while _state(self.pid) != "T":
                await asyncio.sleep(0.002)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.told.close()


def _state(pid: int) -> str:
    """As `ps` shows it; X for one that is not there any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


@asynccontextmanager
async def with_victim(
    what: str, place: Place, phase: str, policy: str
) -> AsyncGenerator[tuple[akv.KVStore, Victim, str]]:
    """A job of two: the handle of rank 0, and the other, which has taken part in a round if it is one of the large."""
    url = f"{place.address}/{next(names)}?workers=2&worker_timeout={TIMEOUT}&on_worker_loss={policy}"
    async with akv.connect(url, rank=0, timeout=PATIENCE) as kv:
        size = 4 if what == "runs_ahead" else SIZE
        await kv.init("w", np.zeros(size, np.float32))
        victim = await Victim.born(what, place, url, phase)
        try:
            if size == SIZE:
                await kv.push("w", np.ones(size, np.float32))
                assert whole(await kv.pull("w")) == 3.0
            assert await victim.hear() == "ready"
            yield kv, victim, url
        finally:
            victim.end()


def whole(array: np.ndarray) -> float:
    """The value that all elements have: nothing counts in part."""
    assert (array == array[0]).all(), np.unique(array)
    return float(array[0])


def ones() -> np.ndarray:
    return np.ones(SIZE, np.float32)
