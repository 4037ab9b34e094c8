"""A store behind a server keeps the contract: in a process of its own, and in this one for what needs its innards."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from covering import pairs
from tcp_cases import TAKES_ALL, Here, process, stored

import akv
from akv import sync
from akv.optim import updaters
from akv.optim.updaters import FunctionUpdater
from akv.portal import Portal
from akv.testing import BackendTests
from akv.testing.cancellation import CancellationTests
from akv.testing.faces import ASYNC_QUEUED, BLOCKING_QUEUED, Face
from akv.testing.gate import held
from akv.testing.harness import Hooks, only
from akv.testing.order import OrderTests
from akv.testing.samples import array
from akv.testing.subject import Subject
from akv.testing.updaters import UpdaterTests
from akv.values.keys import Key


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server, for all tests: each has a job of its own."""
    with process(TAKES_ALL) as (url, _):
        yield url


class TwoFaces(Hooks):
    @pytest.fixture(params=[ASYNC_QUEUED, BLOCKING_QUEUED], ids=str)
    def face(self, request: pytest.FixtureRequest) -> Face:
        """Nothing is small enough to run in its caller, so the two other faces would be these once more."""
        found: Face = request.param
        return found


class Witness:
    """Clients that look at the jobs of a server and tidy them up, all on one loop."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._portal = Portal("akv-witness")
        self._handles: dict[str, akv.KVStore] = {}

    def pull(self, url: str, key: Key) -> np.ndarray:
        async def pull() -> np.ndarray:
            found: np.ndarray = await (await self._handle(url)).pull(key)
            return found

        return self._portal.run(pull())

    def forget(self, url: str) -> None:
        async def forget() -> None:
            async with await self._handle(url) as kv:
                del self._handles[url]
                await kv.delete(await kv.keys())

        self._portal.run(forget())

    def close(self) -> None:
        self._portal.close()

    async def _handle(self, url: str) -> akv.KVStore:
        if url not in self._handles:
            self._handles[url] = await akv.connect(url)
        return self._handles[url]


@pytest.fixture(scope="module")
def witness(address: str) -> Iterator[Witness]:
    witness = Witness(address)
    yield witness
    witness.close()


class TestTcp(TwoFaces, BackendTests):
    lasting = True
    calls_functions = False
    repeats = staticmethod(pairs)

    @pytest.fixture(autouse=True)
    def _server(self, witness: Witness, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """The blocking face has a loop of its own, here of the kind of the test's."""
        self._witness = witness
        monkeypatch.setenv("AKV_UVLOOP", "1" if "[uvloop" in request.node.name else "0")

    def url(self, folder: Path) -> str:
        return f"{self._witness.address}{folder}"

    def peek(self, url: str, key: Key) -> np.ndarray:
        return self._witness.pull(url, key)

    def forget(self, url: str) -> None:
        self._witness.forget(url)


@pytest.fixture(scope="module")
def here() -> Iterator[Here]:
    """A server in this process."""
    server = Here()
    yield server
    server.close()


class _Named(FunctionUpdater):
    """A function that this server knows by name, as one that its operator has registered."""

    names = itertools.count()

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        self.name = f"function {next(self.names)}"
        updaters._BY_NAME[self.name] = self  # type: ignore[assignment]


class _Subject(Subject):
    """Its handles send functions by name."""

    async def open_async(self, **options: object) -> akv.KVStore:
        return _by_name(await super().open_async(**options))

    def open_blocking(self, **options: object) -> sync.KVStore:
        return _by_name(super().open_blocking(**options))


def _by_name(handle: Any) -> Any:
    send = handle.set_updater
    handle.set_updater = lambda updater: send(_Named(updater).name if callable(updater) else updater)
    return handle


class TestTcpHere(TwoFaces, UpdaterTests, OrderTests, CancellationTests):
    repeats = staticmethod(pairs)

    @pytest.fixture(autouse=True)
    def _server(self, here: Here) -> None:
        self._here = here

    @pytest_asyncio.fixture
    async def subject(self, face: Face, tmp_path: Path) -> AsyncIterator[Subject]:
        async with _Subject(self.url(tmp_path), face, self) as subject:
            yield subject

    def url(self, folder: Path) -> str:
        return f"{self._here.url}/{folder.name}"

    def peek(self, url: str, key: Key) -> np.ndarray:
        return stored(self._here.server, url.rpartition("/")[2], key)

    async def test_an_exception_changes_nothing_and_reaches_the_pusher(self, subject: Subject, kv: akv.KVStore) -> None:
        """As an error of akv's: no class but those travels."""

        def fail(key: Key, pushed: np.ndarray, stored: np.ndarray) -> None:
            stored[...] = -1
            raise ZeroDivisionError("on purpose")

        await kv.init("w", array())
        await kv.set_updater(fail)
        with pytest.raises(akv.AkvError, match=r"ZeroDivisionError: on purpose .*'w'"):
            await kv.push("w", array())
        await subject.check("w", array(), version=1)

    async def test_an_exception_names_the_keys_done_before_it(self, subject: Subject, kv: akv.KVStore) -> None:
        def fail_at_b(key: Key, pushed: np.ndarray, stored: np.ndarray) -> None:
            if key == "b":
                raise ZeroDivisionError
            stored[...] = pushed

        await kv.init(["a", "b"], [array(), array()])
        await kv.set_updater(fail_at_b)
        with pytest.raises(akv.AkvError, match=r"ZeroDivisionError.*\['a'\]"):
            await kv.push(["a", "b"], [array(seed=1)] * 2)
        await subject.check("a", array(seed=1), version=2)
        await subject.check("b", array(), version=1)

    @only(ASYNC_QUEUED)
    async def test_the_queue_is_bounded(self, subject: Subject) -> None:
        """Each handle has a queue of its own, whose first operation waits at the server."""
        kv = await subject.open(max_queued=3)
        async with held(subject, kv):
            waiting = [kv.push("gate", array(seed=seed)) for seed in range(4)]
            with pytest.raises(akv.QueueFull, match="3"):
                await kv.push("gate", array())
        assert [await each for each in waiting] == [3, 4, 5, 6]
        assert await kv.push("gate", array()) == 7
