"""What a simple storage knows of one key, and how it is asked for the value."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from akv.backend.catalog import Described
from akv.backend.catalog_storage import Updated
from akv.errors import AkvError, BackendUnavailable
from akv.values.keys import Key

__all__ = ["Item", "Keeper", "asking"]


class Keeper(Protocol):
    """Where values are kept; see akv.backend.simple.SimpleStorage."""

    def get(self, key: Key) -> np.ndarray: ...
    def put(self, key: Key, array: np.ndarray, version: int) -> None: ...


class Item(Updated):
    """What is known of one key; its value is wherever the storage keeps it."""

    __slots__ = ("_keeper", "key")

    def __init__(self, keeper: Keeper, key: Key, value: Described, version: int) -> None:
        super().__init__(value.shape, value.dtype, version)
        self._keeper, self.key = keeper, key

    @property
    def array(self) -> np.ndarray:
        """The stored value, only to be read.

        Raises:
            BackendUnavailable: `get` failed, or gave something else than was put.
        """
        with asking(self.key, "get"):
            array = self._keeper.get(self.key)
        if array.shape != self.shape or array.dtype != self.dtype:
            raise BackendUnavailable(
                f"key {self.key!r}: get gave {array.dtype} {array.shape} where {self.dtype} {self.shape} was put; "
                "something else has changed it"
            )
        return array

    def keep(self, array: np.ndarray, version: int) -> None:
        """Put a new value. Raises BackendUnavailable: `put` failed, nothing has changed."""
        with asking(self.key, "put"):
            self._keeper.put(self.key, array, version)
        self.version = version


@contextmanager
def asking(key: Key, hook: str) -> Generator[None]:
    """Turn whatever a backend's hook raises into BackendUnavailable, unless it is akv's."""
    try:
        yield
    except AkvError:
        raise
    except Exception as error:
        raise BackendUnavailable(f"key {key!r}: the storage's {hook} failed, nothing has changed: {error}") from error
