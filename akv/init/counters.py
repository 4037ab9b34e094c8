"""Random numbers by position: each follows from a seed, a row and a column alone, so any row can be made at any time.

The bits are those of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014),
in 64-bit arithmetic that wraps around:

    G = 0x9E3779B97F4A7C15
    mix(z):  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;  z = (z ^ z >> 27) * 0x94D049BB133111EB;  return z ^ z >> 31
    start(seed, row)        = mix(seed + (row + 1) * G)
    bits(seed, row, column) = mix(start(seed, row) + (column + 1) * G)
    unit(seed, row, column) = ((bits >> 12) + 0.5) / 2**52

So the starts of the rows are the generator's output from `seed`, and the columns of a row its output from that start.
`unit` is exact in float64, strictly between 0 and 1, and symmetric about 1/2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from akv.values.rowsparse import Ids

__all__ = ["Words", "starts", "units"]

Words = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_SHIFTS = tuple(map(np.uint64, (30, 27, 31)))
_DROPPED = np.uint64(12)
# The bits of 1.0: 52 bits k below them make 1 + k / 2**52, without the slow conversion of integers.
_EXPONENT = np.uint64(0x3FF0000000000000)
_SHORT_OF_ONE = 1 - 2.0**-53


def starts(seed: int, rows: Ids) -> Words:
    """Where the generator of each row starts; shape ``(n, 1)``."""
    places = rows.astype(np.uint64)
    places += _ONE
    places *= _GAMMA
    places += np.uint64(seed)
    _mix(places, np.empty_like(places))
    return places[:, None]


def units(start: Words, columns: int, first: int = 0) -> NDArray[np.float64]:
    """A fresh ``(n, columns)`` array of numbers between 0 and 1, from column `first` on."""
    words = start + np.arange(first + 1, first + columns + 1, dtype=np.uint64) * _GAMMA
    _mix(words, np.empty_like(words))
    words >>= _DROPPED
    words |= _EXPONENT
    numbers = words.view(np.float64)
    numbers -= _SHORT_OF_ONE
    return numbers


def _mix(words: Words, other: Words) -> None:
    """Change `words` in place, with `other` as scratch memory."""
    for shift, factor in zip(_SHIFTS, (_FIRST, _SECOND, None), strict=True):
        np.right_shift(words, shift, out=other)
        np.bitwise_xor(words, other, out=words)
        if factor is not None:
            np.multiply(words, factor, out=words)
