"""Operations that wait until their keys have reached a version.

They hold no turn of their keys, since that would keep out the push they wait for.
"""

from __future__ import annotations

from collections.abc import Iterable

from akv.backend.protocol import Backend, Remote
from akv.errors import QueueFull
from akv.operations import Operation
from akv.scheduler import Line
from akv.values.keys import Key

__all__ = ["Waits"]


class Waits:
    """The waiting operations, by key. Not thread-safe: the engine holds its lock.

    Attributes:
        parked: all of them, the longest waiting first.
    """

    def __init__(self, backend: Backend) -> None:
        self.parked: dict[Operation, None] = {}
        self._by_key: dict[Key, dict[Operation, None]] = {}
        self._backend = backend
        self._remote = backend if isinstance(backend, Remote) else None

    def park(self, op: Operation) -> None:
        """Keep `op` until its version is reached or it is withdrawn.

        Raises:
            QueueFull: too many wait already; nothing has changed.
        """
        if len(self.parked) >= self._backend.budget.queued:
            raise QueueFull(f"{op.verb}: {len(self.parked)} operations wait for versions, the most that may")
        for key in op.awaited:
            self._by_key.setdefault(key, {})[op] = None
        self.parked[op] = None
        if self._remote is not None:
            self._remote.look_out(op)

    def take_reached(self, keys: Iterable[Key]) -> list[Operation]:
        """Forget those who waited for one of `keys` and have their version now; return them, the oldest first."""
        affected = dict.fromkeys(op for key in keys for op in self._by_key.get(key, ()))
        reached = [op for op in affected if self._backend.has_reached(op)]
        for op in reached:
            self._forget(op)
        return reached

    def withdraw(self, op: Operation) -> bool:
        """Forget `op`; False when it does not wait here."""
        if op not in self.parked:
            return False
        self._forget(op)
        if self._remote is not None:
            self._remote.look_away(op)
        return True

    def withdraw_all(self, line: Line | None = None) -> list[Operation]:
        """Forget the waiting operations of one handle, or all; return them."""
        withdrawn = [op for op in self.parked if line is None or op.line is line]
        for op in withdrawn:
            self.withdraw(op)
        return withdrawn

    def reason(self, op: Operation) -> str:
        """What `op` waits for, and how far its first keys are, for the texts of errors."""
        versions = [(key, self._backend.version(key)) for key in op.awaited[:5]]
        known = [f", {key!r} is at version {version}" for key, version in versions if version is not None]
        return f"it waits for version {op.min_version}{''.join(known)}"

    def _forget(self, op: Operation) -> None:
        del self.parked[op]
        for key in op.awaited:
            waiting = self._by_key[key]
            del waiting[op]
            if not waiting:
                del self._by_key[key]
