"""What a backend's test class brings, and the fixtures that its tests get."""

from __future__ import annotations

import itertools
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

import akv
from akv.testing.faces import Face
from akv.testing.subject import Subject
from akv.values.keys import Key

__all__ = [
    "Hooks",
    "needs_checkpoints",
    "needs_compression",
    "needs_functions",
    "needs_rows",
    "needs_snapshots",
    "needs_tables",
    "only",
]

# For tests of what a backend may leave out.
needs_checkpoints = pytest.mark.usefixtures("checkpoints")
needs_compression = pytest.mark.usefixtures("compression")
needs_functions = pytest.mark.usefixtures("functions")
needs_rows = pytest.mark.usefixtures("rows")
needs_snapshots = pytest.mark.usefixtures("snapshots")
needs_tables = pytest.mark.usefixtures("tables")

_numbers = itertools.count()
FACES = [Face(blocking, inline) for blocking in (False, True) for inline in (True, False)]


class Hooks(ABC):
    """The base of the suite: what differs from backend to backend.

    Attributes:
        patience: seconds after which something that should have happened counts as lost.
        lasting: whether a store's values are there when it is opened again after its last handle was closed.
        calls_functions: whether a function may be an updater; a store in another process says no.
    """

    pytestmark = pytest.mark.asyncio
    patience: float = 10.0
    lasting: bool = False
    calls_functions: bool = True

    @abstractmethod
    def url(self, folder: Path) -> str:
        """The URL of an empty store, whose handles all see the same values; always the same one for the same folder.

        There is no such folder yet; a store in memory may use it as a name. What is there after the test is removed.
        """

    @abstractmethod
    def peek(self, url: str, key: Key) -> np.ndarray:
        """A copy of what is stored under an existing key, read behind the store's back."""

    def poke(self, url: str, key: Key, array: np.ndarray) -> None:
        """Change what is stored under an existing key, behind the store's back; `array` is like the one that is there.

        Leave it as it is if that cannot be done: the tests that need it are skipped.
        """
        pytest.skip("this backend's values cannot be changed behind its back")

    def forget(self, url: str) -> None:
        """The test is over, and all handles are closed."""

    @pytest.fixture(params=FACES, ids=str)
    def face(self, request: pytest.FixtureRequest) -> Face:
        """Through which face the test goes, and whether small operations may run in their caller.

        A backend whose operations never do may override this with the queued ones of akv.testing.faces.
        """
        face: Face = request.param
        return face

    @pytest_asyncio.fixture
    async def subject(self, face: Face, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Subject]:
        """The store of this test."""
        # Not tmp_path: to make and remove 4000 folders that most backends do not need takes half a minute.
        folder = tmp_path_factory.getbasetemp().resolve() / f"akv-{next(_numbers)}"
        async with Subject(self.url(folder), face, self) as subject:
            yield subject
        self.forget(subject.url)
        if folder.exists():
            shutil.rmtree(folder)

    @pytest_asyncio.fixture
    async def kv(self, subject: Subject) -> akv.KVStore:
        """A handle on it."""
        return await subject.open()

    @pytest.fixture
    def functions(self) -> None:
        """Skip the test unless a function may be an updater."""
        self.need_functions()

    def need_functions(self) -> None:
        """The same, for a test that finds out on its way."""
        if not self.calls_functions:
            pytest.skip("this backend calls no functions")

    @pytest.fixture
    def checkpoints(self, kv: akv.KVStore) -> None:
        """Skip the test unless the store can be saved."""
        _need(kv, "checkpoint")

    @pytest.fixture
    def compression(self, kv: akv.KVStore) -> None:
        """Skip the test unless gradients can be compressed."""
        _need(kv, "compression")

    @pytest.fixture
    def rows(self, kv: akv.KVStore) -> None:
        """Skip the test unless single rows can be read."""
        _need(kv, "rows")

    @pytest.fixture
    def snapshots(self, kv: akv.KVStore) -> None:
        """Skip the test unless there are snapshots."""
        _need(kv, "snapshots")

    @pytest.fixture
    def tables(self, kv: akv.KVStore) -> None:
        """Skip the test unless a table may be made of an initialiser."""
        _need(kv, "tables")


def _need(kv: akv.KVStore, word: str) -> None:
    if not kv.is_capable(word):
        pytest.skip(f"this backend is not capable of: {word}")


def only(*faces: Face) -> pytest.MarkDecorator:
    """For a test that is about these faces alone."""
    return pytest.mark.parametrize("face", faces, indirect=True, ids=str)
