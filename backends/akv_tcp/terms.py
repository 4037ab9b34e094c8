"""What a server grants its clients: times and sizes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

__all__ = ["Terms"]


def _quarter_of_memory() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    return 1 << 30


@dataclass(frozen=True, slots=True)
class Terms:
    """All times are in seconds, all sizes in bytes.

    heartbeat: between two heartbeats, both ways; after three without a sign of life a connection ends.
    lease: in which a client whose connection broke may come back; then it is forgotten, and gets SessionExpired.
    greeting: for the handshake.
    stall: in which a client has to go on with a message that it has sent in part (by 512 KiB, or to its end), and to
        take something of what it is sent; else its connection ends, and what it held is free.
    connections: the most at a time, the most sessions without a connection, and so for strangers.
    held: of requests that are not answered, for all clients together; also the most for one request.
    window: the same for one connection. A single request may always be larger.
    outbox: of answers that one client does not take; while there are more, its requests are not read. When all clients
        together leave more than `held`, 1 MiB is enough for that.
    jobs: the most; each keeps what is stored in it until the server ends.
    """

    heartbeat: float = 2.0
    lease: float = 60.0
    greeting: float = 5.0
    stall: float = 10.0
    connections: int = 1024
    held: int = field(default_factory=_quarter_of_memory)
    window: int = 1 << 30
    outbox: int = 64 << 20
    jobs: int = 1024
