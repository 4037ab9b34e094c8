"""Row ids in order, and the sums of rows that repeat."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from akv.values.arrays import Array
from akv.values.dtypes import accumulator

__all__ = ["Ids", "ascends", "firsts_of", "quiet", "ranked_of", "runs_of", "sum_runs", "unique"]

Ids: TypeAlias = NDArray[np.int64]

# With fewer rows than this left, and more repeats than rows, summing each one's repeats in one go beats one fancy add
# per repeat: 40,000 Zipf-distributed ids, the commonest 10,000 times, with 64 columns take 15 ms instead of 75.
_FEW_ROWS = 16

# Overflow in a sum is not for numpy's warnings but for the store's on_nonfinite.
quiet = np.errstate(over="ignore", invalid="ignore")


def unique(ids: Ids) -> Ids:
    """Sorted, flattened, unique: np.unique, whose hash table takes four times as long for 10,000 ids (numpy 2.4)."""
    ranked: Ids = np.sort(ids, axis=None)
    return ranked[firsts_of(ranked)]


def firsts_of(ranked: Ids) -> NDArray[np.bool_]:
    """Where each run of equal ids begins."""
    mask = np.ones(ranked.shape, np.bool_)
    np.not_equal(ranked[1:], ranked[:-1], out=mask[1:])
    return mask


def ascends(ids: Ids) -> bool:
    """Whether the ids are in order, each once."""
    return ids.size < 2 or bool((ids[1:] > ids[:-1]).all())


def ranked_of(ids: Ids) -> tuple[Ids, Ids]:
    """The ids in order, and where each of them stands in `ids`; equal ones in the order given."""
    bits = len(ids).bit_length()
    if int(ids.max(initial=0)) >> (63 - bits):
        order = np.argsort(ids, kind="stable")
        return ids[order], order
    # Both in one number, whose sort takes 0.25 ms for 10,000 ids; a stable argsort takes 0.43 (numpy 2.4).
    packed = ids << bits
    packed |= np.arange(len(ids))
    packed.sort()
    return packed >> bits, packed & ((1 << bits) - 1)


def runs_of(firsts: NDArray[np.bool_]) -> Ids:
    """Where each run begins, and last where the last one ends."""
    return np.append(np.flatnonzero(firsts), len(firsts))


@quiet
def sum_runs(values: Array, order: Ids, runs: Ids) -> Array:
    """The sum of each run of rows that follow each other in `order`, in that order."""
    starts, counts = runs[:-1], np.diff(runs)
    if not (counts > 1).any():
        return np.take(values, order[starts], axis=0)
    wide = accumulator(values.dtype)
    total = np.take(values, order[starts], axis=0).astype(wide, copy=False)
    repeat, most = 1, counts.max()
    while (more := np.flatnonzero(counts > repeat)).size > min(_FEW_ROWS, max(most - repeat - 1, 0)):
        total[more] += values[order[starts[more] + repeat]]
        repeat += 1
    for row in more:
        tail = values[order[starts[row] + repeat : runs[row + 1]]]
        total[row] = np.add.accumulate(np.concatenate((total[row : row + 1], tail)), dtype=wide)[-1]
    return total.astype(values.dtype, copy=False)
