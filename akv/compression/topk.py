"""topk: only the largest magnitudes are sent, exactly, with their positions; error feedback keeps the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from akv.compression.buffers import Array, Packed, magnitude_bits
from akv.compression.codec import Compression
from akv.compression.compiled import kernels
from akv.errors import ProtocolError
from akv.optim.parameters import Interval, check_fields, number
from akv.values.dtypes import DType

# Positions within a chunk fit 16 bits, and a chunk (256 KiB of float32) fits a slice on the wire and a core's cache.
CHUNK = 65_536
# Odd, so that a sample meets every column of a matrix whose rows are a power of two long.
STRIDE = 61
# How far below its best guess a bound is set. Selecting among all values takes 1 ms per chunk, among those that reach
# the first bound 15 us; in one chunk of a hundred too few do, then the second is tried. A wrong guess costs time only.
_SIGMAS = (2, 6)
_EIGHT_TRUE = np.uint64(0x0101010101010101)


@dataclass(frozen=True, slots=True)
class TopK(Compression):
    """Of every chunk of 65,536 values the ceil(ratio * size) of largest magnitude, 6 bytes each.

    Of equal magnitudes the first are taken, so the bytes follow from the input alone. A chunk is packed as positions
    (uint16, ascending), then values (float32). NaN counts as larger than infinity, so it is sent first; its residual
    starts again from zero, as does that of a float64 too large for float32.
    """

    name: ClassVar[str] = "topk"
    needs_residual: ClassVar[bool] = True

    ratio: float = number(0.01, Interval(0, 1, open_low=True))

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def granule(self) -> int:
        return CHUNK

    @property
    def _step(self) -> int:
        return CHUNK

    def packed_nbytes(self, size: int) -> int:
        whole, rest = divmod(size, CHUNK)
        return 6 * (whole * self._count(CHUNK) + self._count(rest))

    def _count(self, size: int) -> int:
        return min(math.ceil(self.ratio * size), size)

    def _pack(self, grad: Array, kept: Array | None, packed: Packed) -> None:
        assert kept is not None
        np.add(kept, grad, out=kept)
        chosen = _largest(kept, self._count(kept.size))
        positions, numbers = _fields(packed)
        positions[...] = chosen
        numbers[...] = sent = kept[chosen]
        kept[chosen] = 0 if kept.dtype == numbers.dtype else _unsent(sent, numbers)

    def _check(self, packed: Packed, size: int) -> None:
        for part, unit in self._steps(size, CHUNK):
            positions, count = _fields(packed[unit])[0], part.stop - part.start
            if positions[-1] >= count or not (positions[1:] > positions[:-1]).all():
                raise ProtocolError(f"topk: positions in a chunk of {count} values are not ascending or beyond its end")

    def _unpack(self, packed: Packed, values: Array) -> None:
        positions, numbers = _fields(packed)
        values[...] = 0
        values[positions] = numbers

    def _add(self, packed: Packed, block: Array, work: DType) -> None:
        positions, numbers = _fields(packed)
        block[positions] += numbers


def _fields(packed: Packed) -> tuple[Array, Array]:
    count = packed.size // 6
    return packed[: 2 * count].view("<u2"), packed[2 * count :].view("<f4")


def _unsent(values: Array, sent: Array) -> Array:
    """What rounding to float32 has left."""
    values -= sent
    values[~np.isfinite(values)] = 0
    return values


def _largest(values: Array, count: int) -> Array:
    """The ascending positions of the `count` largest magnitudes; of equal ones the first."""
    sample = _magnitudes(values[::STRIDE])
    for sigmas in _SIGMAS:
        candidates = _reaching(values, _low_guess(sample, count, sigmas).view(values.dtype))
        if candidates.size >= count:
            break
    else:
        candidates = np.flatnonzero(values)
    if candidates.size < count:
        zeros = np.flatnonzero(values[:count] == 0)
        return np.sort(np.concatenate((candidates, zeros[: count - candidates.size])))
    return candidates[_largest_of_few(values[candidates], count)]


def _largest_of_few(values: Array, count: int) -> Array:
    magnitudes = _magnitudes(values)
    least = np.partition(magnitudes, magnitudes.size - count)[magnitudes.size - count]
    chosen = np.flatnonzero(magnitudes >= least)
    if chosen.size == count:
        return chosen
    ties = np.flatnonzero(magnitudes[chosen] == least)
    return np.delete(chosen, ties[count - chosen.size :])


def _reaching(values: Array, bound: Any) -> Array:
    """Where |value| >= bound, or NaN (hence not asked that way round)."""
    fast = kernels()
    if fast is not None:
        found = np.empty(values.size, np.uint16)
        return found[: fast.reach(values, bound, np.empty(values.size, np.bool_), found)]
    below = values < bound
    below &= values > -bound
    return _unset(below)


def _unset(flags: Array) -> Array:
    """Where `flags` are False, which few are.

    Finding one among many takes 20 ns, a wrong guess of the processor; so first those eight are sought, one in seven,
    that are not all True: 29 us for 65,536, against 35.
    """
    whole = flags.size // 8 * 8
    words = flags[:whole].view(np.uint64)
    groups = (words != _EIGHT_TRUE).nonzero()[0]
    within = np.bitwise_xor(words[groups], _EIGHT_TRUE).view(np.bool_).nonzero()[0]
    found: Array = groups[within >> 3] * 8 + (within & 7)
    if whole == flags.size:
        return found
    return np.concatenate((found, np.flatnonzero(~flags[whole:]) + whole))


def _low_guess(sample: Array, count: int, sigmas: int) -> Any:
    """A magnitude above zero that `count` values reach most probably, and few more.

    sample: the magnitudes of every STRIDE-th value; it is put in another order.
    """
    expected = count / STRIDE
    rank = sample.size - math.ceil(expected + sigmas * math.sqrt(expected) + 2)
    if rank <= 0:
        return sample.dtype.type(1)
    sample.partition(rank)
    return max(sample[rank], sample.dtype.type(1))


def _magnitudes(values: Array) -> Array:
    bits, mask = magnitude_bits(values)
    magnitudes: Array = bits & mask
    return magnitudes
