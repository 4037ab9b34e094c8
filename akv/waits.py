"""Operations that wait until their keys have reached a version.

They hold no turn of their keys, since that would keep out the push they wait for.
"""

from __future__ import annotations

from collections.abc import Iterable

from akv.operations import Operation
from akv.scheduler import Line
from akv.values.keys import Key

__all__ = ["Waits"]


class Waits:
    """The waiting operations, by key.

    Attributes:
        parked: all of them, the longest waiting first.
    """

    def __init__(self) -> None:
        self.parked: dict[Operation, None] = {}
        self._by_key: dict[Key, dict[Operation, None]] = {}

    def add(self, op: Operation) -> None:
        """Park `op` until `remove`."""
        for key in op.awaited:
            self._by_key.setdefault(key, {})[op] = None
        self.parked[op] = None

    def remove(self, op: Operation) -> bool:
        """Forget `op`; False when it does not wait here."""
        if op not in self.parked:
            return False
        del self.parked[op]
        for key in op.awaited:
            waiting = self._by_key[key]
            del waiting[op]
            if not waiting:
                del self._by_key[key]
        return True

    def affected(self, keys: Iterable[Key]) -> list[Operation]:
        """The operations that wait for one of `keys`, the longest waiting first."""
        return list(dict.fromkeys(op for key in keys for op in self._by_key.get(key, ())))

    def remove_all(self, line: Line) -> list[Operation]:
        """Forget the waiting operations of one handle; return them."""
        return [op for op in list(self.parked) if op.line is line and self.remove(op)]
