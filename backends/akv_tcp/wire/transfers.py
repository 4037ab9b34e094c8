"""A store as a whole on its way to a client, which saves it, or from one, which has loaded it.

Either way is a stream: what akv.checkpoint calls the contents, and then the bytes of all arrays in their order. A
client numbers its streams; it has one at a time, and a new one takes the place of the last.
"""

from __future__ import annotations

from dataclasses import dataclass

from .message import Message
from .requests import Batch, Request

__all__ = ["Announce", "Capture", "Fetch", "Release", "Restore", "Stage"]


@dataclass(slots=True)
class Capture(Request):
    """Begin a stream out of the store as it is now, without `values` only of what its optimizer keeps.

    The answer's one entry brings the contents.
    """

    stream: int = 0
    values: bool = True


@dataclass(slots=True)
class Fetch(Request):
    """Read the arrays' bytes from `offset` on, at most `nbytes`. Those before it will not be asked for again."""

    stream: int = 0
    offset: int = 0
    nbytes: int = 0


@dataclass(slots=True)
class Announce(Batch):
    """Begin a stream into the store. The one entry brings the contents; its key is the stream's number."""


@dataclass(slots=True)
class Stage(Batch):
    """The next of the arrays' bytes. The one entry's key is the stream's number, its `number` the offset."""


@dataclass(slots=True)
class Restore(Request):
    """Have all that was staged take effect."""

    stream: int = 0


@dataclass(slots=True)
class Release(Message):
    """Nobody wants this stream any more."""

    stream: int
