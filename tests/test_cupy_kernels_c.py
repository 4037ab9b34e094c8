"""The CUDA C of the kernels, compiled for the CPU, does what the loop in Python does: to the bit."""

from __future__ import annotations

from typing import Any

import cupy_kernels as cases
import numpy as np
import pytest
from cupy_c import Compiled
from hypothesis import given, settings
from hypothesis import strategies as st

from akv import optim
from akv_cupy import kernels
from akv_cupy.kernels import Kernel

ELEMENTWISE = {kernel.name: kernel for kernel in cases.elementwise()}
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def c(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled([*cases.elementwise(), *cases.batched()], tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("kernel", ELEMENTWISE.values(), ids=ELEMENTWISE)
@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, size=st.integers(0, 70), blocks=st.integers(1, 3), threads=st.sampled_from([1, 2, 8]))
def test_elementwise(c: Compiled, kernel: Kernel, seed: int, size: int, blocks: int, threads: int) -> None:
    cases.check(c.call, kernel, seed, size, blocks, threads)


BATCHED = {many.name: (one, many) for one, many in cases.pairs()}


@pytest.mark.parametrize(("one", "many"), BATCHED.values(), ids=BATCHED)
@settings(max_examples=4, deadline=None)
@given(seed=SEEDS, sizes=st.lists(st.integers(0, 20), max_size=5), threads=st.sampled_from([1, 4]))
def test_many_tensors_in_one_launch(
    c: Compiled, one: Kernel, many: Kernel, seed: int, sizes: list[int], threads: int
) -> None:
    random = np.random.default_rng(seed)
    pieces = [(size, cases.arrays_of(one, random, size), cases.numbers_of(one, random)) for size in sizes]
    for _, arrays, _ in pieces:
        arrays.update({name: array[0].copy() for name, array in arrays.items() if name == "squares"})
    alone, by_python, by_c = (
        [(size, cases.copied(arrays), numbers) for size, arrays, numbers in pieces] for _ in range(3)
    )
    for _, arrays, numbers in alone:
        one.reference(*cases.in_order(one, arrays, numbers))
    many.reference(cases.addressed(one, by_python))
    c.call(many, 2, threads, len(sizes), cases.addressed(one, by_c))
    for expected, python, compiled in zip(alone, by_python, by_c, strict=True):
        cases.assert_same(many, cases.whole(expected[1]), cases.whole(python[1]))
        cases.assert_same(many, cases.whole(expected[1]), cases.whole(compiled[1]))


@pytest.mark.parametrize(("count", "dtype"), cases.SUMMED, ids=str)
def test_sums_are_those_of_the_cpu(c: Compiled, count: int, dtype: Any) -> None:
    kernel = kernels.sums(count, dtype)
    random = np.random.default_rng(count)
    given = [cases.values(random, 100, dtype, 0.02) for _ in range(count)]
    expected, out = np.empty(100, dtype), given[0].copy()
    optim.sum_into(expected, given)
    c.call(kernel, 2, 8, 100, out, out, *given[1:])  # onto the first
    assert cases.same(out, expected)
    kernel.reference(given[0], given[0], *given[1:])
    assert cases.same(given[0], expected)
