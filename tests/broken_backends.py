"""The conformance suite for each backend with one thing wrong; run by test_broken_backends.py, not by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import broken_memory
import broken_running
import broken_steps
import broken_sums
import broken_tables
import numpy as np
import pytest
from broken import CAUGHT_BY, Sound

from akv.backend import registry
from akv.backend.local import LocalBackend
from akv.testing import BackendTests, Hooks
from akv.testing.faces import ASYNC, BLOCKING_QUEUED, Face
from akv.values.keys import Key

__all__ = ["CAUGHT_BY", "MISTAKES"]

MISTAKES = (broken_memory, broken_running, broken_steps, broken_sums, broken_tables)


class Provider:
    """Opens one of them."""

    shared = lasting = True
    options: Mapping[str, Any] = {}

    def __init__(self, broken: type[Any]) -> None:
        self._broken = broken

    def open(self, name: str, options: Mapping[str, Any]) -> LocalBackend:
        if issubclass(self._broken, LocalBackend):
            return self._broken(Sound(), options["max_queued"])
        return LocalBackend("broken", self._broken(), options["max_queued"])


class Broken(Hooks):
    """What their suites have in common."""

    loops = ("asyncio",)
    broken: type[Any]
    patience = 0.3  # many of them make a test wait in vain
    lasting = True

    @property
    def scheme(self) -> str:
        return self.broken.__name__.lower()

    def url(self, folder: Path) -> str:
        if self.scheme not in registry._registered:
            registry.register(self.scheme, Provider(self.broken))
        return f"{self.scheme}://{folder}"

    def peek(self, url: str, key: Key) -> np.ndarray:
        return self._cells(url)[key].array.copy()

    def poke(self, url: str, key: Key, array: np.ndarray) -> None:
        self._cells(url)[key].array[...] = array

    @pytest.fixture(params=[ASYNC, BLOCKING_QUEUED], ids=str)
    def face(self, request: pytest.FixtureRequest) -> Face:
        """Two of the four do."""
        face: Face = request.param
        return face

    def forget(self, url: str) -> None:
        registry._open.engines.pop(self._place(url), None)

    def _place(self, url: str) -> tuple[str, str]:
        return self.scheme, url.partition("://")[2]

    def _cells(self, url: str) -> Any:
        backend: Any = registry._open.engines[self._place(url)].backend
        return backend.storage._catalog.entries


def suite_for(broken: type[Any], tests: Iterable[str]) -> type[Broken]:
    """The suite with some of its tests: collecting all of them for each would take ten seconds."""
    chosen = {test: getattr(BackendTests, test) for test in tests}
    return type(f"Test{broken.__name__}", (Broken,), {"broken": broken, **chosen})


TestSound = suite_for(Sound, set().union(*CAUGHT_BY.values()))
TestSound.patience = BackendTests.patience
for broken, tests in CAUGHT_BY.items():
    globals()[f"Test{broken.__name__}"] = suite_for(broken, tests)
