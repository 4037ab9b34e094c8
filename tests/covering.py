"""Which combinations of loop and face the conformance suite can do without: all pairs of them remain."""

from __future__ import annotations

from zlib import crc32

import pytest

__all__ = ["pairs"]

FACE = "face"


def pairs(test: pytest.Function) -> bool:
    """Whether a test class that has this as its `repeats` leaves this one out; tests/conftest.py asks.

    Each test, with each of its own parameters, runs on every loop, through every face, inline and queued; in half of
    the combinations, so that any two of them meet, and in the other half the next test does. What is about certain
    faces (`only`) runs in all.
    """
    spec = test.callspec
    chosen = any(mark.args[0] == FACE for mark in test.iter_markers("parametrize"))
    if chosen or FACE not in spec.params:
        return False
    face, names = spec.params[FACE], spec.id.split("-")
    own = [name for name in names if name not in ("asyncio", "uvloop", *str(face).split("-"))]
    half = crc32(f"{test.originalname} {own}".encode())
    return (half + ("uvloop" in names) + face.blocking + face.inline) % 2 == 1
