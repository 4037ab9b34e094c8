"""What deliberately broken backends are made of: a sound storage, and which tests have to catch a mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from akv.backend.storage import Storage, Transaction
from akv_memory.storage import MemoryStorage

__all__ = ["CAUGHT_BY", "Altered", "Done", "Sound", "caught_by"]

T = TypeVar("T", bound=type)

#: Filled by importing the modules broken_*.
CAUGHT_BY: dict[type[Any], tuple[str, ...]] = {}


def caught_by(*tests: str) -> Callable[[T], T]:
    """Name the tests that have to fail for a storage or a backend."""

    def note(broken: T) -> T:
        CAUGHT_BY[broken] = tests
        return broken

    return note


class Sound(MemoryStorage):
    """The in-memory storage without its short ways, so that all goes through transactions."""

    write = Storage.write
    write_one = Storage.write_one
    read = Storage.read
    read_one = Storage.read_one


class Altered(Transaction):
    """A transaction with another commit."""

    def __init__(self, inner: Transaction, commit: Callable[[], Any]) -> None:
        super().__init__(inner.nbytes, inner.passes, inner.tentative)
        self._inner, self._commit = inner, commit

    @property
    def length(self) -> int:
        return self._inner.length

    def commit(self) -> Any:
        return self._commit()

    def abort(self) -> None:
        self._inner.abort()

    def end(self) -> None:
        self._inner.end()


class Done(Transaction):
    """Nothing is left to do."""

    def __init__(self, result: Any) -> None:
        super().__init__(0)
        self._result = result

    def commit(self) -> Any:
        return self._result
