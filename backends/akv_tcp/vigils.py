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

__all__ = ["Vigils"]

Arrive = Callable[[Operation, AkvError | None], None]


class _Vigil:
    """What one operation waits for: for each of its keys a request, first for the version there is, then for more."""

    __slots__ = ("op", "requests", "versions")

    def __init__(self, op: Operation) -> None:
        self.op = op
        self.requests: dict[int, w.Wait] = {}
        self.versions: dict[Key, int] = {}


class Vigils:
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
        self._by_op: dict[Operation, _Vigil] = {}
        self._by_number: dict[int, _Vigil] = {}

    def begin(self, op: Operation) -> None:
        """Wait until the keys that `op` awaits have its `min_version`."""
        vigil = self._by_op[op] = _Vigil(op)
        for key in op.awaited:
            self._ask(vigil, key, 0)
        if not vigil.requests:
            self._end(vigil, None)

    def stop(self, op: Operation) -> None:
        """Nobody waits any more; nothing where nobody did."""
        vigil = self._by_op.pop(op, None)
        for number in vigil.requests if vigil is not None else ():
            del self._by_number[number]
            self._send(w.Cancel(number))

    def answered(self, message: w.Result | w.Error) -> None:
        """A version was reached, or will not be; nothing where nobody waits for it."""
        vigil = self._by_number.pop(message.request, None)
        if vigil is None:
            return
        request = vigil.requests.pop(message.request)
        if isinstance(message, w.Error):
            self._end(vigil, self._error(message))
            return
        asked, op = request.entries[0], vigil.op
        if asked.key is not None:
            vigil.versions[asked.key] = version = max([asked.version, *[entry.version for entry in message.entries]])
            if version < op.min_version:
                self._ask(vigil, asked.key, op.min_version)
            elif isinstance(op, ops.Wait):
                op.reached = version
        if not vigil.requests:
            self._end(vigil, None)

    def version(self, key: Key) -> int | None:
        """What the newest wait for this key knows; None where nobody waits. From any thread."""
        return next((vigil.versions[key] for vigil in [*self._by_op.values()] if key in vigil.versions), None)

    def restored(self) -> None:
        """Ask again on a new connection."""
        for vigil in self._by_op.values():
            for request in vigil.requests.values():
                self._send(request)

    def give_up(self, error: AkvError) -> None:
        """There will be no answers."""
        for vigil in list(self._by_op.values()):
            self._end(vigil, type(error)(f"{vigil.op}: {error}"))

    def _end(self, vigil: _Vigil, error: AkvError | None) -> None:
        del self._by_op[vigil.op]
        for number in vigil.requests:
            del self._by_number[number]
            self._send(w.Cancel(number))
        self._arrive(vigil.op, error)

    def _ask(self, vigil: _Vigil, key: Key, version: int) -> None:
        number = self._number()
        vigil.requests[number] = request = w.Wait(number, 0, None, (bare(key, version),))
        self._by_number[number] = vigil
        self._send(request)

    def _number(self) -> int:
        """A number of slot 0, of which a server remembers no answers, that no open request has."""
        while True:
            self._count = self._count % ((1 << 22) - 1) + 1
            if (number := self._count * SLOTS) not in self._by_number:
                return number
