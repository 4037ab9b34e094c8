"""What holds for every optimizer: its formula, slices, rows, dtypes, threads, and that gradients are only read."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_cases import CASES, Case, both_ways, normal, push, run

from akv import optim
from akv.errors import DTypeMismatch
from akv.optim.blocks import BLOCK

each = pytest.mark.parametrize("case", CASES, ids=str)
elementwise = pytest.mark.parametrize("case", [c for c in CASES if c.optimizer.elementwise], ids=str)
BF16 = np.dtype(ml_dtypes.bfloat16)
NUMBERS: dict[str, Any] = {
    "plain": {},
    "decay": {"wd": 0.03},
    "clipped": {"clip_gradient": 0.4, "rescale_grad": 2.0, "wd": 0.01},
    "rescaled": {"rescale_grad": -0.25},
    "multipliers": {"lr_mult": {"w": 0.5, 3: 0.1}, "wd_mult": {"w": 2.0}, "wd": 0.1},
    "schedule": {"lr_scheduler": optim.FactorScheduler(step=1, factor=0.5, warmup_steps=2)},
}

__all__ = ["both_ways"]  # every test runs with numpy and with numba


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each
def test_it_is_the_formula(case: Case, dtype: Any, numbers: dict[str, Any]) -> None:
    case = case.changed(**numbers)
    weight, grads = normal((6, 5), 1, dtype), [normal((6, 5), seed, dtype) for seed in range(2, 8)]
    expected = run(case, weight, grads)
    push(case, weight, grads)
    tolerance = {np.float32: 2e-5, np.float64: 1e-12}[dtype]
    np.testing.assert_allclose(weight, expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    rate=st.just(0.0) | st.floats(1e-3, 0.5),
    wd=st.floats(0, 0.5),
    clip=st.none() | st.floats(0.01, 10),
    rescale=st.sampled_from([0.0, 1.0]) | st.floats(-2, 2),
    steps=st.integers(1, 4),
)
@each
def test_it_is_the_formula_for_any_shape_and_numbers(
    case: Case, shape: list[int], rate: float, wd: float, clip: float | None, rescale: float, steps: int
) -> None:
    case = case.changed(learning_rate=rate, wd=wd, clip_gradient=clip, rescale_grad=rescale)
    weight, grads = normal(shape, 1, np.float64), [normal(shape, seed, np.float64) for seed in range(steps)]
    expected = run(case, weight, grads)
    push(case, weight, grads)
    np.testing.assert_allclose(weight, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [BLOCK, BLOCK + 1, 3 * BLOCK + 7])
@elementwise
def test_sliced_is_whole(case: Case, size: int) -> None:
    case = case.changed(wd=0.01, clip_gradient=1.5)
    grads, whole = [normal(size, seed) for seed in (1, 2)], normal(size)
    sliced = whole.copy()
    state = push(case, whole, grads)
    parts = case.optimizer.create_state(sliced)
    for count, grad in enumerate(grads, 1):
        kernel = case.optimizer.bind("w", count, optim.Settings())
        for cut in (slice(0, 1000), slice(1000, BLOCK - 5), slice(BLOCK - 5, None)):
            kernel(sliced[cut], grad[cut], tuple(array[cut] for array in parts))
    for one, other in zip((whole, *state), (sliced, *parts), strict=True):
        np.testing.assert_array_equal(one, other)


@elementwise
def test_gathered_rows_are_updated_as_in_the_dense_weight(case: Case) -> None:
    table, rows = normal((20, 3), 1), np.array([0, 7, 19])
    grads = [normal((3, 3), seed) for seed in (2, 3)]
    some = table[rows]
    expected = run(case, some, grads)
    state = case.optimizer.create_state(table)
    for count, grad in enumerate(grads, 1):
        gathered, parts = table[rows], tuple(array[rows] for array in state)
        case.optimizer.bind("w", count, optim.Settings())(gathered, grad, parts)
        for array, part in zip((table, *state), (gathered, *parts), strict=True):
            array[rows] = part
    np.testing.assert_allclose(table[rows], expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(np.delete(table, rows, 0), np.delete(normal((20, 3), 1), rows, 0))


@pytest.mark.parametrize("size", [33, BLOCK + 11])
@each
def test_a_gradient_is_only_read(case: Case, size: int) -> None:
    grad = normal(size, 5)
    grad.setflags(write=False)
    push(case.changed(clip_gradient=0.5, rescale_grad=3.0, wd=0.1), normal(size), [grad, grad])
    np.testing.assert_array_equal(grad, normal(size, 5))


@pytest.mark.parametrize("rows", [3, 2 * BLOCK // 64])
@each
def test_a_gradient_may_be_strided_and_of_another_dtype(case: Case, rows: int) -> None:
    grad = normal((rows, 64), 3, np.float16)
    straight, strided, wide = normal((rows, 64)), normal((rows, 64)), normal((rows, 64))
    push(case, straight, [grad.astype(np.float32)])
    push(case, strided, [np.asfortranarray(grad.astype(np.float32))])
    push(case, wide, [grad.astype(np.float64)])
    for other in (strided, wide):
        np.testing.assert_array_equal(other, straight)


@pytest.mark.parametrize("size", [50, BLOCK + 50])
@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16], ids=str)
@each
def test_a_master_copy_makes_small_floats_as_good_as_float32(case: Case, dtype: Any, size: int) -> None:
    case = case.changed(multi_precision=True)
    weight, grads = normal(size, 1, dtype), [normal(size, seed, dtype) for seed in (2, 3, 4)]
    wide = weight.astype(np.float32)
    master, *state = push(case, weight, grads)
    wide_state = push(case, wide, [grad.astype(np.float32) for grad in grads])
    assert master.dtype == np.float32
    for one, other in zip((master, *state), (wide, *wide_state), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(weight, wide.astype(dtype))


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16, np.dtype(ml_dtypes.float8_e5m2)], ids=str)
@each
def test_without_one_each_step_is_rounded_once(case: Case, dtype: Any) -> None:
    weight, grads = normal(40, 1, dtype), [normal(40, seed, dtype) for seed in (2, 3)]
    state, wide_state = case.optimizer.create_state(weight), case.optimizer.create_state(weight.astype(np.float32))
    assert {array.dtype for array in state} <= {np.dtype(np.float32)}
    for count, grad in enumerate(grads, 1):
        kernel, wide = case.optimizer.bind("w", count, optim.Settings()), weight.astype(np.float32)
        kernel(wide, grad.astype(np.float32), wide_state)
        kernel(weight, grad, state)
        np.testing.assert_array_equal(weight, wide.astype(dtype))


@elementwise
def test_threads_update_disjoint_slices(case: Case) -> None:
    size = 3 * BLOCK
    alone, shared, grad = normal(size), normal(size), normal(size, 1)
    push(case, alone, [grad])
    state, kernel = case.optimizer.create_state(shared), case.optimizer.bind("w", 1, optim.Settings())
    parts = [slice(start, start + BLOCK // 8) for start in range(0, size, BLOCK // 8)]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(kernel, shared[p], grad[p], tuple(array[p] for array in state)) for p in parts]
        for future in done:
            future.result()
    np.testing.assert_array_equal(shared, alone)


@each
def test_infinity_and_nan_pass_without_a_warning(case: Case) -> None:
    weight = normal(4, 1, np.float16)
    push(case, weight, [np.array([np.nan, np.inf, -np.inf, 1.0], np.float16)] * 2)
    assert np.isnan(weight[0])
    assert np.isfinite(weight[3]) or not case.optimizer.elementwise


@each
def test_the_state_is_fresh_contiguous_and_of_the_weights_shape(case: Case) -> None:
    weight = np.asfortranarray(normal((3, 4)))
    state = case.optimizer.create_state(weight)
    assert len(state) == len(case.optimizer.state_names)
    for array in state:
        assert array.shape == (3, 4)
        assert array.flags.c_contiguous
        assert array.flags.owndata
        assert not array.any()


@each
def test_a_description_travels(case: Case) -> None:
    sent = case.changed(lr_scheduler=optim.CosineScheduler(max_update=9), lr_mult={1: 2.0}, wd_mult={2: 0.0}).optimizer
    got = optim.from_dict(msgpack.unpackb(msgpack.packb(sent.to_dict())))
    assert got == sent
    assert hash(got) == hash(sent)
    assert got != case.optimizer


@each
def test_a_live_rate_replaces_the_descriptions_own(case: Case) -> None:
    live = optim.Settings()
    live.learning_rate = 0.05
    one, other = normal(5), normal(5)
    case.optimizer.bind("w", 1, live)(one, normal(5, 1), case.optimizer.create_state(one))
    push(case.changed(learning_rate=0.05), other, [normal(5, 1)])
    np.testing.assert_array_equal(one, other)


@each
def test_live_multipliers_replace_the_descriptions_own(case: Case) -> None:
    live = optim.Settings()
    live.lr_mult["w"], live.wd_mult["w"] = 0.5, 3.0
    one, other = normal(5), normal(5)
    described = case.changed(wd=0.1, lr_mult={"w": 9.0}, wd_mult={"w": 9.0}).optimizer
    described.bind("w", 1, live)(one, normal(5, 1), described.create_state(one))
    push(case.changed(wd=0.1, lr_mult={"w": 0.5}, wd_mult={"w": 3.0}), other, [normal(5, 1)])
    np.testing.assert_array_equal(one, other)


@each
def test_only_floats_can_be_updated(case: Case) -> None:
    for good in ("float16", "float32", "float64", BF16):
        case.optimizer.check("w", np.dtype(good))
    for bad in ("int32", "bool", "complex64", "uint8", "float128", ">f4"):
        with pytest.raises(DTypeMismatch, match=rf"key 'w' has dtype {np.dtype(bad)}"):
            case.optimizer.check("w", np.dtype(bad))


@each
def test_it_is_frozen(case: Case) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.optimizer.wd = 1.0  # type: ignore[misc]
