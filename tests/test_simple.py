"""The base of simple backends: the ten lines of its docstring keep the contract, and a failing hook changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import akv
from akv.backend import registry
from akv.backend.item import Described
from akv.backend.simple import SimpleProvider, SimpleStorage
from akv.testing import BackendTests
from akv.testing.faces import ASYNC, BLOCKING_QUEUED, Face
from akv.testing.samples import array, same
from akv.values.keys import Key


class DictStorage(SimpleStorage):
    """The arrays it is given, as they are: a copy that the base class forgot would be seen."""

    def __init__(self, name: str) -> None:
        self.arrays: dict[Key, np.ndarray] = {}
        self.full = False
        stores[name] = self
        super().__init__()

    def get(self, key: Key) -> np.ndarray:
        return self.arrays[key]

    def put(self, key: Key, array: np.ndarray, version: int) -> None:
        if self.full:
            raise OSError("no space")
        self.arrays[key] = array

    def remove(self, key: Key, version: int) -> None:
        if self.full:
            raise OSError("no space")
        del self.arrays[key]


stores: dict[str, DictStorage] = {}
registry.register("dict", SimpleProvider("dict", lambda name, options: DictStorage(name), lasting=True))


class TestSimple(BackendTests):
    lasting = True
    loops = ("asyncio",)

    @pytest.fixture(params=[ASYNC, BLOCKING_QUEUED], ids=str)
    def face(self, request: pytest.FixtureRequest) -> Face:
        """The other two go the same ways."""
        face: Face = request.param
        return face

    def url(self, folder: Path) -> str:
        return f"dict://{folder}"

    def peek(self, url: str, key: Key) -> np.ndarray:
        return stores[url.removeprefix("dict://")].arrays[key].copy()

    def poke(self, url: str, key: Key, array: np.ndarray) -> None:
        stores[url.removeprefix("dict://")].arrays[key] = array

    def forget(self, url: str) -> None:
        name = url.removeprefix("dict://")
        registry._open.engines.pop(("dict", name), None)
        stores.pop(name, None)


def subtract(key: Key, pushed: Any, stored: np.ndarray) -> None:
    stored -= pushed.todense() if isinstance(pushed, akv.RowSparse) else pushed


MOMENTUM = akv.optim.SGD(learning_rate=0.5, momentum=0.5)
ROWS = akv.RowSparse([1], np.ones((1, 3), np.float32), (2, 3))


@pytest.mark.parametrize("updater", ["assign", "add", subtract, MOMENTUM], ids=["assign", "add", "function", "sgd"])
@pytest.mark.parametrize("pushed", [array(seed=1), ROWS], ids=["table", "rows"])
async def test_a_put_that_fails_changes_nothing(updater: Any, pushed: Any) -> None:
    async with akv.connect("dict://") as kv, akv.connect("memory://") as sound:
        for each in (kv, sound):
            await each.init("w", array())
            await (each.set_optimizer(updater) if isinstance(updater, akv.optim.SGD) else each.set_updater(updater))
            await each.push("w", array(seed=2))
        storage = stores.pop("")
        before = storage.arrays["w"].copy()
        storage.full = True
        for call in (lambda: kv.push("w", pushed), lambda: kv.init("v", array()), lambda: kv.delete("w")):
            with pytest.raises(akv.BackendUnavailable, match=r"'[wv]'.*no space"):
                await call()
        storage.full = False
        same(storage.arrays["w"], before)
        # The next push does what it does where nothing has failed: neither state nor counts have gone on.
        for each in (kv, sound):
            assert await each.push("w", pushed) == 3
            await each.init("v", array())
        same(await kv.pull("w"), await sound.pull("w"))
        same(await kv.pull("v"), array())
        assert await kv.keys() == ["w", "v"]


class Scanned(DictStorage):
    def scan(self) -> Iterable[tuple[Key, Described | None, int]]:
        self.arrays[3] = array()
        return [(3, array(), 7), (4, None, 5)]


async def test_what_a_scan_finds_is_there() -> None:
    location = registry.Location(
        "scanned",
        "",
        SimpleProvider("scanned", lambda name, options: Scanned(name)),
        registry.resolve("dict://", {}).options,
    )
    async with akv.KVStore(location) as kv:
        assert await kv.keys() == [3]
        assert (await kv.info(3)).version == 7
        same(await kv.pull(3), array())
        await kv.init([3, 4], [array(), array()])
        assert [info.version for info in await kv.info([3, 4])] == [7, 6]


async def test_a_storage_that_cannot_be_opened() -> None:
    def fail(name: str, options: Any) -> SimpleStorage:
        raise OSError("no such thing")

    with pytest.raises(akv.BackendUnavailable, match="broken://here cannot be opened: no such thing"):
        SimpleProvider("broken", fail).open("here", {})
