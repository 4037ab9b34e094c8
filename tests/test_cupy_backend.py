"""The backend on simulated devices keeps the contract of akv.testing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cupy_cases import SCHEME, provider, stored

from akv.testing import BackendTests
from akv.values.keys import Key


class TestSimulated(BackendTests):
    def url(self, folder: Path) -> str:
        provider()
        return f"{SCHEME}://0,1/{folder.name}"

    def peek(self, url: str, key: Key) -> np.ndarray:
        return stored(url, key).copy()

    def poke(self, url: str, key: Key, array: np.ndarray) -> None:
        stored(url, key)[...] = array

    def forget(self, url: str) -> None:
        complaints = [each for machine in provider().machines for each in machine.scheduler.complaints]
        provider().machines.clear()
        assert not complaints
