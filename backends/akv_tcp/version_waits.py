"""Waits for versions: requests that hold no turn of a key, and of which any number may be open."""

from __future__ import annotations

from collections.abc import Callable

from akv import operations as ops
from akv.errors import AkvError
from akv.operations import Operation
from akv.values.keys import Key

from . import wire as w
from .payloads import bare
from .slots import SLOTS

__all__ = ["VersionWaits"]

Arrive = Callable[[Operation, AkvError | None], None]


class _VersionWait:
    """What one operation waits for: for each of its keys a request, first for the version there is, then for more."""

    __slots__ = ("op", "requests", "versions")

    def __init__(self, op: Operation) -> None:
        self.op = op
        self.requests: dict[int, w.Wait] = {}
        self.versions: dict[Key, int] = {}


class VersionWaits:
    """All of them.

    Args:
        send: sends a message to the server, or does nothing while there is no connection.
        arrive: called once for each operation, when what it waits for is there or, with an error, will not come.
        error: what an operation ends with that the server answers so.
    """

    def __init__(self, send: Callable[[w.Message], None], arrive: Arrive, error: Callable[[w.Error], AkvError]) -> None:
        self._send = send
        self._arrive = arrive
        self._error = error
        self._count = 0
        self._by_op: dict[Operation, _VersionWait] = {}
        self._by_number: dict[int, _VersionWait] = {}

    def begin(self, op: Operation) -> None:
        """Wait until the keys that `op` awaits have its `min_version`."""
        version_wait = self._by_op[op] = _VersionWait(op)
        for key in op.awaited:
            self._ask(version_wait, key, 0)
        if not version_wait.requests:
            self._end(version_wait, None)

    def stop(self, op: Operation) -> None:
        """Nobody waits any more; nothing where nobody did."""
        version_wait = self._by_op.pop(op, None)
        for number in version_wait.requests if version_wait is not None else ():
            del self._by_number[number]
            self._send(w.Cancel(number))

    def answered(self, message: w.Result | w.Error) -> None:
        """A version was reached, or will not be; nothing where nobody waits for it."""
        version_wait = self._by_number.pop(message.request, None)
        if version_wait is None:
            return
        request = version_wait.requests.pop(message.request)
        if isinstance(message, w.Error):
            self._end(version_wait, self._error(message))
            return
        asked, op = request.entries[0], version_wait.op
        if asked.key is not None:
            version_wait.versions[asked.key] = version = max(
                [asked.version, *[entry.version for entry in message.entries]]
            )
            if version < op.min_version:
                self._ask(version_wait, asked.key, op.min_version)
            elif isinstance(op, ops.Wait):
                op.reached = version
        if not version_wait.requests:
            self._end(version_wait, None)

    def version(self, key: Key) -> int | None:
        """What the newest wait for this key knows; None where nobody waits. From any thread."""
        return next(
            (version_wait.versions[key] for version_wait in [*self._by_op.values()] if key in version_wait.versions),
            None,
        )

    def restored(self) -> None:
        """Ask again on a new connection."""
        for version_wait in self._by_op.values():
            for request in version_wait.requests.values():
                self._send(request)

    def give_up(self, error: AkvError) -> None:
        """There will be no answers."""
        for version_wait in list(self._by_op.values()):
            self._end(version_wait, type(error)(f"{version_wait.op}: {error}"))

    def _end(self, version_wait: _VersionWait, error: AkvError | None) -> None:
        del self._by_op[version_wait.op]
        for number in version_wait.requests:
            del self._by_number[number]
            self._send(w.Cancel(number))
        self._arrive(version_wait.op, error)

    def _ask(self, version_wait: _VersionWait, key: Key, version: int) -> None:
        number = self._number()
        version_wait.requests[number] = request = w.Wait(number, 0, None, (bare(key, version),))
        self._by_number[number] = version_wait
        self._send(request)

    def _number(self) -> int:
        """A number of slot 0, of which a server remembers no answers, that no open request has."""
        while True:
            self._count = self._count % ((1 << 22) - 1) + 1
            if (number := self._count * SLOTS) not in self._by_number:
                return number
