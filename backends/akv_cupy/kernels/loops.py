"""Sums, rows and norms as loops, where the CPU has numpy code: in the subset of Python that is translated to CUDA C.

As in `akv.optim.loops`, these are plain functions of flat arrays. A loop over `team(...)` is one over `range(...)`; on
the GPU the threads of one block share it, while the loop around it is shared by the blocks.
"""

from __future__ import annotations

import math

from akv_cupy.kernels.kinds import (
    Count,
    Number,
    Read,
    ReadDoubles,
    ReadIndices,
    Squares,
    Written,
    WrittenDoubles,
)

team = range


def set_1(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i]


def set_2(out: Written, a: Read, b: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i]


def set_5(out: Written, a: Read, b: Read, c: Read, d: Read, e: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i] + d[i] + e[i]


def set_6(out: Written, a: Read, b: Read, c: Read, d: Read, e: Read, f: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i] + d[i] + e[i] + f[i]


def set_7(out: Written, a: Read, b: Read, c: Read, d: Read, e: Read, f: Read, g: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i] + d[i] + e[i] + f[i] + g[i]


def set_8(out: Written, a: Read, b: Read, c: Read, d: Read, e: Read, f: Read, g: Read, h: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i] + d[i] + e[i] + f[i] + g[i] + h[i]


def gather(out: Written, table: Read, rows: ReadIndices, width: Count) -> None:
    """out[r] = table[rows[r]], rows of `width` elements."""
    for r in range(rows.size):
        source, target = rows[r] * width, r * width
        for c in team(width):
            out[target + c] = table[source + c]


def scatter(out: Written, values: Read, rows: ReadIndices, width: Count) -> None:
    """out[rows[r]] = values[r]; each row once."""
    for r in range(rows.size):
        source, target = r * width, rows[r] * width
        for c in team(width):
            out[target + c] = values[source + c]


def scatter_add(out: Written, values: Read, rows: ReadIndices, width: Count) -> None:
    """out[rows[r]] += values[r]; each row once."""
    for r in range(rows.size):
        source, target = r * width, rows[r] * width
        for c in team(width):
            out[target + c] += values[source + c]


def sum_segments(
    out: Written, values: Read, order: ReadIndices, starts: ReadIndices, ends: ReadIndices, width: Count
) -> None:
    """out[s] = the sum of values[order[k]] for k from starts[s] to before ends[s], in that order; none is empty."""
    for s in range(starts.size):
        start, end, target = starts[s], ends[s], s * width
        for c in team(width):
            total = values[order[start] * width + c]
            for k in range(start + 1, end):
                total = total + values[order[k] * width + c]
            out[target + c] = total


def lars_norms(weight: Read, grad: Read, rescale: Number, squares: Squares) -> None:
    """squares += [weight . weight, rescale * grad . rescale * grad]."""
    weights, grads = 0.0, 0.0
    for i in range(weight.size):
        weights += weight[i] * weight[i]
        grads += grad[i] * grad[i]
    squares[0] += weights
    squares[1] += grads * rescale * rescale


def fold(squares: WrittenDoubles, partial: ReadDoubles, blocks: Count) -> None:
    """squares[k] = the sum over b of partial[2 * b + k], in the order of the blocks."""
    for k in range(squares.size):
        total = 0.0
        for b in range(blocks):
            total = total + partial[2 * b + k]
        squares[k] = total


def lamb_ratio(numbers: WrittenDoubles, squares: ReadDoubles, lower: Number, upper: Number) -> None:
    """numbers[0], a rate, times the ratio that `akv.optim.LAMB.ratio` has; bounds of 0 and infinity are none."""
    for i in range(numbers.size):
        weight, step = math.sqrt(squares[0]), math.sqrt(squares[1])
        bounded = lower if weight < lower else weight
        bounded = upper if bounded > upper else bounded
        numbers[i] = numbers[i] * (bounded / step if bounded != 0.0 and step != 0.0 else 1.0)


def lars_ratio(numbers: WrittenDoubles, squares: ReadDoubles, eta: Number, wd: Number, eps: Number) -> None:
    """numbers (rate, bound, weight decay of the descent) times the ratio that `akv.optim.LARS.ratio` has."""
    for i in range(numbers.size):
        weight, grad = math.sqrt(squares[0]), math.sqrt(squares[1])
        ratio = eta * weight / (grad + wd * weight + eps) if weight != 0.0 and grad != 0.0 else 1.0
        numbers[i] = numbers[i] * ratio
