"""Rows, norms and ratios as C: what numpy, RowSparse and the optimizers make of the same arrays."""

from __future__ import annotations

import math
from typing import Any

import cupy_kernels as cases
import numpy as np
import pytest
from cupy_c import Compiled
from hypothesis import given, settings
from hypothesis import strategies as st

from akv import optim
from akv.values.rowsparse import RowSparse
from akv_cupy import kernels
from akv_cupy.kernels import Kernel, loops

SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def c(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled([*cases.rows(), *cases.small(), norms()], tmp_path_factory.mktemp("rows"))


def norms() -> Kernel:
    return kernels.kernel(loops.lars_norms, cases.F8)


@pytest.mark.parametrize("kernel", cases.rows(), ids=lambda kernel: kernel.name)
@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, table=st.integers(1, 9), width=st.integers(0, 9), threads=st.sampled_from([1, 4]))
def test_rows(c: Compiled, kernel: Kernel, seed: int, table: int, width: int, threads: int) -> None:
    random = np.random.default_rng(seed)
    loop = kernel.name[: -len(kernel.name.lstrip("abcdefghijklmnopqrstuvwxyz_"))].rstrip("_")
    by_name = {param.name: param.dtype for param in kernel.params}
    chosen = random.permutation(table)[: random.integers(table + 1)].astype(np.int64)
    if "segments" in loop:
        chosen = random.integers(0, table, 3 * table)
        expected, arguments = segments(random, chosen, by_name, width)
    else:
        expected, arguments = moved(random, loop, chosen, by_name, table, width)
    size = len(arguments[3]) if "segments" in loop else len(chosen)
    mine = [arguments[0].copy(), *arguments[1:]]
    c.call(kernel, 2, threads, size, *mine, width)
    assert cases.same(mine[0], expected)
    kernel.reference(*arguments, width)
    assert cases.same(arguments[0], expected)


def moved(
    random: np.random.Generator, loop: str, chosen: np.ndarray, dtypes: dict[str, Any], table: int, width: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What numpy makes of it, and the arguments but for the width."""
    if loop.startswith("gather"):
        source = cases.values(random, table * width, dtypes["table"])
        out = cases.values(random, len(chosen) * width, dtypes["out"])
        return source.reshape(table, width)[chosen].reshape(-1), [out, source, chosen]
    out = cases.values(random, table * width, dtypes["out"])
    values = cases.values(random, len(chosen) * width, dtypes["values"])
    expected, new = out.copy().reshape(table, width), values.reshape(len(chosen), width)
    with np.errstate(all="ignore"):
        if "add" in loop:
            new = (expected[chosen].astype(cases.work(out.dtype)) + new.astype(cases.work(out.dtype))).astype(out.dtype)
        expected[chosen] = new
    return expected.reshape(-1), [out, values, chosen]


def segments(
    random: np.random.Generator, ids: np.ndarray, dtypes: dict[str, Any], width: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """RowSparse.canonical() as the law, and the arguments but for the width."""
    values = cases.values(random, len(ids) * width, dtypes["values"])
    rows = values.reshape(len(ids), width)
    unique, counts = np.unique(ids, return_counts=True)
    ends = np.cumsum(counts).astype(np.int64)
    wide = rows.astype(dtypes["out"])
    given = RowSparse(ids, wide, (int(ids.max()) + 1, width)).canonical()
    expected = np.ascontiguousarray(given.values).reshape(-1)
    out = np.zeros(len(unique) * width, dtypes["out"])
    order = np.argsort(ids, kind="stable").astype(np.int64)
    return expected, [out, values, order, ends - counts, ends]


def test_blocks_add_up(c: Compiled) -> None:
    """The norms of a tensor over many blocks and threads, folded, are those that numpy has."""
    fold, measure = kernels.kernel(loops.fold, cases.F8), norms()
    random = np.random.default_rng(5)
    weight, grad = random.standard_normal(5000), random.standard_normal(5000)
    for blocks, threads in ((1, 1), (7, 16), (3, 64)):
        partial, squares = np.zeros((blocks, 2)), np.empty(2)
        c.call(measure, blocks, threads, 5000, weight, grad, 0.5, partial)
        assert (partial > 0.0).all()  # each block has numbers of its own
        c.call(fold, 1, 4, 2, squares, partial, blocks)
        np.testing.assert_allclose(squares, [weight @ weight, grad @ grad / 4], rtol=1e-12)
        again = np.zeros((blocks, 2))
        c.call(measure, blocks, threads, 5000, weight, grad, 0.5, again)
        np.testing.assert_array_equal(again, partial)  # to the bit, whenever


@settings(max_examples=40, deadline=None)
@given(
    squares=st.tuples(*[st.sampled_from([0.0, 1e-4, 4.0, 9.0])] * 2),
    lower=st.sampled_from([None, 0.1, 2.5]),
    upper=st.sampled_from([None, 1.0, 10.0]),
    wd=st.sampled_from([0.0, 0.1]),
)
def test_ratios_are_those_of_the_optimizers(
    c: Compiled, squares: tuple[float, float], lower: float | None, upper: float | None, wd: float
) -> None:
    norms, lamb = np.array(squares), optim.LAMB(lower_bound=lower, upper_bound=upper, learning_rate=0.5)
    lars = optim.LARS(eta=0.3, eps=0.1, wd=wd)
    ratios = [one.ratio("w", optim.Settings(), norms) for one in (lamb, lars)]
    for run in (lambda k, n, *a: c.call(k, 1, 2, n, *a), lambda k, n, *a: k.reference(*a)):
        numbers = np.array([0.5, 2.0, 0.25])
        run(kernels.kernel(loops.lamb_ratio, cases.F8), 1, numbers[:1], norms, lower or 0.0, upper or math.inf)
        assert numbers.tolist() == [0.5 * ratios[0], 2.0, 0.25]
        numbers[0] = 0.5
        run(kernels.kernel(loops.lars_ratio, cases.F8), 3, numbers, norms, 0.3, wd, 0.1)
        np.testing.assert_array_equal(numbers, np.array([0.5, 2.0, 0.25]) * ratios[1])
