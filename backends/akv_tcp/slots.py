"""The numbers of requests.

A number is a slot (its lowest ten bits) and a count that goes up with each use of the slot. A client takes a slot for a
new request only when it wants no more of the one before, so a server has to remember one answer for each slot, and no
number is used twice within four million requests. (After the reply cache of NFS 4.1, RFC 8881, section 2.10.6.)
"""

from __future__ import annotations

__all__ = ["HALF", "SLOTS", "Slots", "is_later", "slot_of"]

SLOTS = 1024
_NUMBERS = 1 << 32
HALF = _NUMBERS // 2


def slot_of(number: int) -> int:
    """The slot of a request."""
    return number % SLOTS


def is_later(number: int, other: int) -> bool:
    """Whether a number of the same slot came after another one; numbers start anew when all were used."""
    return 0 < (number - other) % _NUMBERS < HALF


class Slots:
    """A client's free slots. The one used last is used next, which keeps the number of answers remembered small."""

    def __init__(self) -> None:
        # Slot 0 is left out: 0 is no request's number.
        self._next = list(range(SLOTS - 1, 0, -1))

    def __len__(self) -> int:
        return len(self._next)

    def take(self) -> int:
        """A number for a new request; there must be one."""
        return self._next.pop()

    def give_back(self, number: int) -> None:
        """Nobody wants anything of this request any more."""
        self._next.append((number + SLOTS) % _NUMBERS)
