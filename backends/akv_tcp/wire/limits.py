"""The numbers of the protocol: what is fixed for both sides, and what a server may choose."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "ALIGN",
    "BATCH",
    "ENTRY_COST",
    "GREETING_HEADER",
    "INLINE",
    "MAX_BLOB",
    "MAX_DESCRIPTION",
    "MAX_DIMS",
    "MAX_HEADER",
    "MAX_KEY",
    "MAX_RANKS",
    "MAX_TEXT",
    "MOST_ENTRIES",
    "SLICE",
    "Limits",
    "cost",
]

MAX_HEADER: Final = 16 * 1024
"""Bytes of one frame's msgpack header: it bounds what a header can unpack to (measured: 0.45 MiB at most)."""

GREETING_HEADER: Final = 4 * 1024
"""Bytes of a header until WELCOME: a stranger gets no more than that (Redis learnt it from CVE-2021-32675)."""

INLINE: Final = 128 * 1024
"""A tensor below this many bytes rides in the frame of its entry; from here on it travels in DATA slices.

Copying 64 KiB costs 1.6 us, less than the system call that a frame of its own would need.
"""

SLICE: Final = 512 * 1024
"""Default bytes of a DATA slice. During a push of 256 MiB a 64 B request then takes 0.21 ms (0.08 alone), and the push
1.12 times as long; with 1 MiB it is 0.36 ms and 1.05, with 64 KiB 0.07 ms and 1.8 to 2.
"""

BATCH: Final = 2 * SLICE + 4 * 1024
"""Default bytes handed to the transport at once: 1 MiB of a tensor, and the heads and small frames that go with it.

One huge write held the loop for 44 ms; of one slice alone a push and pull of 1 MiB takes 1.1 times as long.
"""

ALIGN: Final = 64
"""Slices meet at multiples of this, so a slice of a dense tensor holds whole elements and can be summed at once."""

MAX_DIMS: Final = 32
MAX_KEY: Final = 1024
MAX_TEXT: Final = 2048
MAX_BLOB: Final = 256

MAX_DESCRIPTION: Final = 12 * 1024
"""Bytes of an optimizer's description: one with a learning rate of its own for each of hundreds of keys is long."""

MAX_RANKS: Final = 1024

MOST_ENTRIES: Final = 1 << 24
"""Entries of an answer, which a client has to take: a store may have that many keys."""

ENTRY_COST: Final = 1024
"""Bytes charged to the budget for each entry besides its tensor: the Python objects that stand for it."""


class Limits(NamedTuple):
    """What a receiver accepts; the server tells its own in WELCOME. All three are counts up to 2**63 - 1.

    `entries`: entries in one message. `message`: bytes of tensors in one message. `window`: bytes of unanswered
    requests (see `cost`) that the server holds for one connection; one request alone may be larger.
    """

    entries: int = 16 * 1024
    message: int = 1 << 40
    window: int = 1 << 30


def cost(count: int, total: int) -> int:
    """Bytes that a message of `count` entries with `total` bytes of tensors takes from the receiver's budget."""
    return total + ENTRY_COST * count
