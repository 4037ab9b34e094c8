"""What a decoder reports besides complete messages, and what it asks of the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from akv.errors import AkvError

from .buffers import Buffer
from .message import Message
from .small import SmallMessage

__all__ = ["Aborted", "Event", "Landing", "Part", "Refused", "Reserve"]


class Part(NamedTuple):
    """More of a message has come, or begins to: entries, or the first of slices that follow each other.

    The message follows when all is there.
    """

    request: int


class Aborted(NamedTuple):
    """The peer withdrew a message half-sent; the decoder has let go of its memory. `reserved`: bytes to release."""

    request: int
    reserved: int


class Refused(NamedTuple):
    """`reserve` or `landing` raised `error`: what still comes of the message is dropped. `reserved`: to be released."""

    request: int
    error: AkvError
    reserved: int


Event: TypeAlias = Message | SmallMessage | Part | Aborted | Refused

Landing: TypeAlias = Callable[[Message, int, int], Buffer]
"""landing(message, entry index, nbytes): writable memory of that length, asked for when the entry's first slice begins.

The message has all its entries, but not yet its `data`. The memory is the decoder's to write to until the message, or
Aborted or Refused of its request, is an event, or `Decoder.discard` was called. An AkvError refuses the message.
"""

Reserve: TypeAlias = Callable[[int], bool]
"""reserve(nbytes): take this many bytes from the budget, before the decoder allocates anything; see `limits.cost`.

False: not now. The decoder is `blocked` and asks again at the next `next_event`. Answer so only if bytes become free
without anything more from this peer, else both wait for ever. An AkvError refuses the message.
"""
