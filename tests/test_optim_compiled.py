"""The compiled loops give the bits of the formulas that they stand for, and numba is only used where it may be."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from optim_cases import CASES, Case, arithmetic, normal, push

from akv import optim
from akv.errors import ShapeMismatch
from akv.optim import compiled, loops
from akv.optim.blocks import BLOCK
from akv.optim.layerwise import Layerwise

pytest.importorskip("numba")

each = pytest.mark.parametrize("case", CASES, ids=str)
TEST = Case(optim.Test(rescale_grad=1.5), lambda w, g, s, t, lr, wd: w + g)
NUMBERS: dict[str, Any] = {
    "plain": {},
    "all": {"wd": 0.03, "clip_gradient": 0.7, "rescale_grad": 1.7, "learning_rate": 0.01},
    "frozen": {"learning_rate": 0.0},
}


def results(kind: str, case: Case, weight: np.ndarray, grads: list[np.ndarray]) -> list[np.ndarray]:
    with arithmetic(kind):
        weight = weight.copy()
        return [weight, *push(case, weight, grads)]


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("case", [*CASES, TEST], ids=str)
def test_they_give_the_same_bits(case: Case, dtype: Any, numbers: dict[str, Any]) -> None:
    case = case.changed(**numbers)
    weight, grads = normal(1003, 1, dtype), [normal(1003, seed, dtype) for seed in (2, 3, 4)]
    grads[1][:5] = [np.nan, np.inf, -np.inf, 0.0, -0.0]
    exact = case.optimizer.elementwise
    if not exact:  # their norms are sums, rounded in another order
        grads[1][:3] = 0.0
    for one, other in zip(*(results(kind, case, weight, grads) for kind in ("numpy", "numba")), strict=True):
        if exact:
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=2e-3 if dtype == np.float16 else 1e-5, atol=1e-6)


@pytest.mark.parametrize("count", range(1, 11))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_sums_have_the_same_bits(dtype: Any, count: int) -> None:
    values, sums = [normal(BLOCK + 9, seed, dtype) for seed in range(count)], []
    values[0][:4] = [np.nan, np.inf, 0.0, -0.0]
    for kind in ("numpy", "numba"):
        with arithmetic(kind):
            fresh, onto = np.empty(BLOCK + 9, dtype), values[0].copy()
            optim.sum_into(fresh, values)
            optim.sum_into(onto, [onto, *values[1:]])
            sums += [fresh, onto]
    for other in sums[1:]:
        np.testing.assert_array_equal(other, sums[0])


@each
def test_a_loop_takes_what_the_formula_takes(case: Case) -> None:
    optimizer: Any = case.optimizer
    scalars = [(optimizer.formula, optimizer.scalars("w", 1, optim.Settings()))]
    if isinstance(optimizer, Layerwise):
        squares = (*optimizer.norms_scalars("w", 1, optim.Settings()), np.zeros(2))
        scalars.append((optimizer.norms_formula, squares))
    for formula, numbers in scalars:
        if formula.loop is not None:
            arrays = 2 + len(optimizer.state_names)
            assert len(formula.loop.__annotations__) == arrays + len(numbers) + 1


def test_a_read_only_gradient_needs_no_compilation_of_its_own() -> None:
    with arithmetic("numba"):
        optim.Adam().prepare(np.dtype(np.float32))
        before = compiled.compiled.cache_info().misses
        grad = np.ones(3, np.float32)
        grad.setflags(write=False)
        weight = np.ones(3, np.float32)
        push(Case(optim.Adam(), TEST.step), weight, [grad, np.ones(3, np.float32)])
        assert compiled.compiled.cache_info().misses == before
        loop: Any = compiled.compiled(loops.adam, np.dtype(np.float32))
        assert len(loop.signatures) == 1


@pytest.mark.parametrize("kind", ["numpy", "numba"])
@each
def test_sizes_are_checked_before_a_loop_that_checks_no_bounds(case: Case, kind: str) -> None:
    weight = normal(8)
    state = case.optimizer.create_state(weight)
    with arithmetic(kind):
        kernel = case.optimizer.bind("w", 1, optim.Settings())
        with pytest.raises(ShapeMismatch, match=r"weight of 8 elements .* of 7"):
            kernel(weight, normal(7), state)
        if state:
            with pytest.raises(ShapeMismatch, match=r"weight of 8 elements .* of 7"):
                kernel(weight, normal(8), tuple(array[:7] for array in state))
    np.testing.assert_array_equal(weight, normal(8))


def test_akv_numba_0_switches_it_off() -> None:
    with arithmetic("numpy"):
        assert compiled.compiled(loops.adam, np.dtype(np.float32)) is None


def test_without_numba_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    with arithmetic("numba"):
        monkeypatch.setattr(importlib, "import_module", missing)
        assert compiled.compiled(loops.adam, np.dtype(np.float32)) is None


def test_without_a_place_for_the_cache_it_compiles_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = importlib.import_module("numba")
    njit, asked = numba.njit, []

    def nowhere(signature: Any, *, cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(signature, **options)

    with arithmetic("numba"):
        monkeypatch.setattr(numba, "njit", nowhere)
        assert compiled.compiled(loops.add_1, np.dtype(np.float32)) is not None
    assert asked == [True, False]


def test_importing_akv_does_not_import_numba() -> None:
    code = "import sys, akv.optim; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
