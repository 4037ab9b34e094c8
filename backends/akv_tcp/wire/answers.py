"""What a server answers, what goes both ways, and what all messages with entries have in common.

For `entries` and `data` see `requests`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .buffers import Payload
from .entries import Entry
from .limits import cost
from .listing import Listing
from .message import Message
from .requests import Batch, Read
from .versions import Versions

__all__ = [
    "Abort",
    "Error",
    "Goodbye",
    "Heartbeat",
    "Keyed",
    "Result",
    "cost_of",
]


@dataclass(slots=True)
class Result(Message):
    """A request succeeded: versions, and values where the request asked for some."""

    request: int
    entries: Sequence[Entry] = ()
    data: Sequence[Payload] = ()


@dataclass(slots=True)
class Error(Message):
    """A request failed. `key`, missing `ranks` and seconds `waited` as far as they apply.

    The entries name the keys of a batch that were applied nevertheless.
    """

    request: int
    code: int
    text: str
    key: str | int | None = None
    ranks: tuple[int, ...] = ()
    waited: float | None = None
    entries: Sequence[Entry] = ()
    data: Sequence[Payload] = ()


@dataclass(slots=True)
class Abort(Message):
    """The message of this request, sent in part, ends here and counts for nothing."""

    request: int


@dataclass(slots=True)
class Heartbeat(Message):
    """`ping` is the sender's own count, `pong` the newest count it saw from its peer."""

    ping: int
    pong: int = 0


@dataclass(slots=True)
class Goodbye(Message):
    """The last message of a connection, and why it ends."""

    code: int
    text: str


Keyed: TypeAlias = Batch | Read | Result | Error
"""The messages with entries."""


def cost_of(message: Keyed) -> int:
    """Bytes that the decoder reserved for a message (see `limits.cost`), to be released when it is dealt with."""
    entries = message.entries
    if isinstance(entries, (Listing, Versions)):
        return cost(len(entries), entries.nbytes)
    return cost(len(entries), sum([entry.nbytes for entry in entries]))
