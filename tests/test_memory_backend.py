"""The in-memory backend keeps the contract of akv.testing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from covering import pairs

from akv.backend import registry
from akv.testing import BackendTests
from akv.values.keys import Key
from akv_memory.cell import Cell
from akv_memory.storage import MemoryStorage


class TestMemory(BackendTests):
    lasting = True
    repeats = staticmethod(pairs)

    def url(self, folder: Path) -> str:
        return f"memory://{folder}"

    def peek(self, url: str, key: Key) -> np.ndarray:
        return cells(url)[key].array.copy()

    def poke(self, url: str, key: Key, array: np.ndarray) -> None:
        cells(url)[key].array[...] = array

    def forget(self, url: str) -> None:
        # A store with a name lasts as long as the process.
        registry._open.engines.pop(("memory", url.removeprefix("memory://")), None)


def cells(url: str) -> dict[Key, Cell]:
    backend: Any = registry._open.engines["memory", url.removeprefix("memory://")].backend
    assert isinstance(backend.storage, MemoryStorage)
    return backend.storage._catalog.entries
