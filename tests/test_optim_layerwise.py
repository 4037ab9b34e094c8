"""LAMB and LARS: a tensor in parts on several servers is updated as the whole one is."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import CASES, Case, both_ways, normal, push

from akv import optim
from akv.optim.blocks import BLOCK
from akv.optim.layerwise import Layerwise

each = pytest.mark.parametrize("case", [c for c in CASES if not c.optimizer.elementwise], ids=str)

__all__ = ["both_ways"]  # every test runs with numpy and with numba


def push_in_parts(case: Case, weight: np.ndarray, grads: list[np.ndarray], cuts: list[int]) -> tuple[np.ndarray, ...]:
    optimizer: Any = case.optimizer
    state, live = optimizer.create_state(weight), optim.Settings()
    parts = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, len(weight)], strict=True)]
    for count, grad in enumerate(grads, 1):
        measure = optimizer.bind_norms("w", count, live)
        pieces = [(weight[part], grad[part], tuple(array[part] for array in state)) for part in parts]
        norms = sum(measure(*piece) for piece in pieces)
        kernel = optimizer.bind("w", count, live, norms=norms)
        for piece in pieces:
            kernel(*piece)
    return tuple(state)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 30), cuts=st.lists(st.integers(0, 30), max_size=3))
@each
def test_parts_are_updated_as_the_whole(case: Case, rows: int, cuts: list[int]) -> None:
    case = case.changed(wd=0.1, clip_gradient=0.8, rescale_grad=0.5)
    whole, grads = normal((rows, 4)), [normal((rows, 4), seed) for seed in (1, 2, 3)]
    parts = whole.copy()
    state = push(case, whole, grads)
    cut_state = push_in_parts(case, parts, grads, sorted(min(cut, rows) for cut in cuts))
    for one, other in zip((whole, *state), (parts, *cut_state), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@each
def test_large_parts_with_and_without_a_master_copy(case: Case, dtype: Any) -> None:
    case = case.changed(multi_precision=True)
    whole, grads = normal(2 * BLOCK + 100, 0, dtype), [normal(2 * BLOCK + 100, seed, dtype) for seed in (1, 2)]
    parts = whole.copy()
    state, cut_state = push(case, whole, grads), push_in_parts(case, parts, grads, [BLOCK + 50])
    for one, other in zip(state, cut_state, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@each
def test_measuring_changes_nothing(case: Case) -> None:
    optimizer = case.optimizer
    assert isinstance(optimizer, Layerwise)
    weight, grad = normal(BLOCK + 5, 1, np.float16), normal(BLOCK + 5, 2, np.float16)
    state = optimizer.create_state(weight)
    for array in (weight, grad, *state):
        array.setflags(write=False)
    squares = optimizer.bind_norms("w", 1, optim.Settings())(weight, grad, state)
    np.testing.assert_allclose(squares[0], np.sum(weight.astype(np.float64) ** 2), rtol=1e-5)
    assert squares.dtype == np.float64
    assert squares.shape == (2,)


@each
def test_a_zero_weight_or_gradient_takes_the_plain_rate(case: Case) -> None:
    for weight, grad in ((np.zeros(3), np.ones(3)), (np.ones(3), np.zeros(3))):
        push(case, weight, [grad])
        assert np.isfinite(weight).all()


@pytest.mark.parametrize("key", ["layer.bias", "bn_gamma", "bn_beta"])
def test_lars_leaves_the_rate_of_biases_alone(key: str) -> None:
    lars, sgd = normal(5), normal(5)
    for optimizer, weight in ((optim.LARS(learning_rate=0.1), lars), (optim.SGD(learning_rate=0.1), sgd)):
        optimizer.bind(key, 1, optim.Settings())(weight, normal(5, 1), ())
    np.testing.assert_array_equal(lars, sgd)


def test_lars_corrects_the_momentum_while_the_rate_changes() -> None:
    schedule = optim.FactorScheduler(step=1, factor=0.5, base_lr=1.0)
    numbers: dict[str, Any] = {"momentum": 0.8, "lr_scheduler": schedule}
    corrected = [optim.LARS(**numbers).scalars("w", count, optim.Settings())[-1] for count in (1, 2)]
    assert corrected == [0.8, 0.4]
    assert optim.LARS(momentum_correction=False, **numbers).scalars("w", 2, optim.Settings())[-1] == 0.8
