"""The backend on simulated devices keeps the contract of akv.testing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from covering import pairs
from cupy_cases import SCHEME, provider, stored

from akv.testing import BackendTests
from akv.testing.cancellation import CancellationTests
from akv.testing.concurrency import ConcurrencyTests
from akv.testing.faces import ASYNC_QUEUED, Face
from akv.testing.harness import Hooks
from akv.testing.lifetime import LifetimeTests
from akv.testing.order import OrderTests
from akv.testing.versions import VersionTests
from akv.values.keys import Key


class OnDevices(Hooks):
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


class TestSimulated(OnDevices, BackendTests):
    # The backend knows no loop; how its threads reach one is the business of test_memory_backend.py, and the below.
    loops = ("asyncio",)
    repeats = staticmethod(pairs)


class TestSimulatedUvloop(OnDevices, ConcurrencyTests, CancellationTests, LifetimeTests, OrderTests, VersionTests):
    """What is about waiting."""

    loops = ("uvloop",)

    @pytest.fixture(params=[ASYNC_QUEUED], ids=str)
    def face(self, request: pytest.FixtureRequest) -> Face:
        """The one that waits on the loop for the threads of the devices."""
        face: Face = request.param
        return face
