"""What a row of the table says of one message, and how a header is held against it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from enum import Enum
from operator import attrgetter

from .entries import Entry, Kind, check_entry
from .fields import Check, listed, run_check
from .limits import MOST_ENTRIES
from .message import Message

__all__ = ["Phase", "Row", "Side"]


class Side(Enum):
    """An end of a connection."""

    CLIENT = "client"
    SERVER = "server"


class Phase(Enum):
    """How far a connection has come."""

    NEW = "new"
    GREETED = "greeted"
    CHALLENGED = "challenged"
    OPEN = "open"
    CLOSED = "closed"


class Row:
    """One type of message.

    `code`: its number. `make`: its class. `sender`: None for either side. `when`: the phases it may occur in. `then`:
    the phase it leads to. `checks`: of its header fields. `kinds`: those its entries may have; None: it has no entries.
    """

    __slots__ = ("addressed", "checks", "code", "keyed", "kinds", "make", "name", "sender", "then", "values", "when")

    def __init__(
        self,
        code: int,
        make: type[Message],
        sender: Side | None,
        when: tuple[Phase, ...],
        then: Phase | None = None,
        checks: tuple[Check, ...] = (),
        kinds: Iterable[Kind] | None = None,
    ) -> None:
        names = [field.name for field in fields(make)]
        self.code = code
        self.make: Callable[..., Message] = make
        self.name = make.__name__
        self.sender = sender
        self.when = when
        self.then = then
        self.checks = checks
        self.kinds = None if kinds is None else frozenset(map(int, kinds))
        self.keyed = sender is Side.CLIENT
        self.addressed = "request" in names
        self.values = _getter([name for name in names if name not in ("request", "entries", "data")])

    def __repr__(self) -> str:
        return f"<Row {self.code} {self.name}>"

    def request_of(self, message: Message) -> int:
        """The request that goes into the head; 0 where the message has none. Raises ValueError."""
        if not self.addressed:
            return 0
        request: int = getattr(message, "request")  # noqa: B009 - only some subclasses have it, as `addressed` says
        if type(request) is not int or not 0 < request < 2**32:
            raise ValueError(f"request {request} is not in 1..2**32-1")
        return request

    def check_fields(self, raw: tuple[object, ...]) -> tuple[object, ...]:
        """The values of the header fields, as the message has them. Raises ValueError."""
        if len(raw) != len(self.checks):
            raise ValueError(f"{len(raw)} header fields where {len(self.checks)} were due")
        return tuple(map(run_check, self.checks, raw))

    def check_entries(self, raw: object) -> tuple[Entry, ...]:
        """The entries of one frame. Raises ValueError; an answer may leave out keys, a request may not."""
        entries = tuple(map(check_entry, listed(raw, 0, MOST_ENTRIES)))
        kinds, keyed = self.kinds or (), self.keyed
        for entry in entries:
            if entry.kind not in kinds or (keyed and entry.key is None):
                raise ValueError(f"an entry of kind {Kind(entry.kind).name}, or without a key, does not belong here")
        return entries


def _getter(names: list[str]) -> Callable[[Message], tuple[object, ...]]:
    if not names:
        return lambda message: ()
    # attrgetter gives a tuple for two names or more.
    return attrgetter(*names) if len(names) > 1 else lambda message: (getattr(message, names[0]),)
