"""What happened, in order: a hash of all of it, and the last lines for whoever looks for a bug."""

from __future__ import annotations

import hashlib
import os
from collections import deque

from simulation.loop import SimLoop

__all__ = ["Trace"]


class Trace:
    """Lines with their time. `tail`: the last of them, or all with AKV_SEED, which asks for one run."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._hash = hashlib.blake2b(digest_size=8)
        self.tail: deque[str] = deque(maxlen=None if os.environ.get("AKV_SEED") else 60)
        self.count = 0

    def note(self, text: str) -> None:
        line = f"{self._loop.time():.6f} {text}"
        self._hash.update(line.encode() + b"\n")
        self.tail.append(line)
        self.count += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
