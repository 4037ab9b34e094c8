"""What kernels promise to those who launch them: arguments, grids, references; with numba and without."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import cupy_kernels as cases
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optim_cases import CASES, Case

from akv import optim
from akv.errors import AkvError, DTypeMismatch, InvalidArgument
from akv.optim import loops as formulas
from akv.optim.blocks import Formula
from akv_cupy import kernels
from akv_cupy.kernels import Kernel, codecs, loops, references

KERNELS = cases.every_kernel()
each_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


@each_kernel
def test_the_source_declares_what_the_params_say(kernel: Kernel) -> None:
    found = re.search(rf'^extern "C" __global__ .*\b{kernel.name}\((.*)\)$', kernel.source, re.MULTILINE)
    assert found is not None
    first, *others = found[1].split(", ")
    assert first == "long long size_"
    for text, param in zip(others, kernel.params, strict=True):
        assert text.endswith(f"{'*' if param.array else ' '}{param.name}")
        assert text.startswith("const ") == (param.array and not param.written)
        assert param.array or text.split()[0] == {"int64": "long", "float64": "double"}[param.dtype.name]
    assert [kernel.params[place].written for place in kernel.writes] == [True] * len(kernel.writes)
    assert "#include" not in kernel.source


@each_kernel
def test_grids_are_within_limits(kernel: Kernel) -> None:
    for size in (0, 1, 31, 256, 257, 10**6, 10**10):
        blocks, threads = kernel.grid(size)
        assert 1 <= blocks < 2**31
        assert threads in (32, 64, 128, 256)
        assert threads <= kernels.THREADS
        if "norms" in kernel.name and not kernel.by_block:
            assert blocks <= kernels.SUM_BLOCKS


@given(size=st.integers(0, 10**9))
def test_a_thread_takes_several_elements_only_of_large_tensors(size: int) -> None:
    blocks, threads = kernels.kernel(formulas.adam, cases.F4).grid(size)
    share = -(-size // (blocks * threads))
    assert share <= 1 if size <= 2048 * 256 else share <= 8
    assert blocks * threads - size < threads or size == 0 or share > 1


def test_kernels_are_made_once() -> None:
    assert kernels.kernel(formulas.adam, cases.F4) is kernels.kernel(formulas.adam, np.dtype("f4"), grad=cases.F4)
    assert kernels.sums(3, cases.F2) is kernels.sums(3, cases.F2, cases.F2)
    assert kernels.sums(3, cases.F2) is not kernels.sums(3, cases.F2, cases.F4)


OPTIMIZERS = [case for case in CASES if case.optimizer.elementwise]
MIXTURES = [(cases.F4, None, False), (cases.F8, None, False), (cases.F2, None, False), (cases.F2, cases.F4, True)]
MIXTURES += [(cases.B2, None, False), (cases.B2, None, True)]


@pytest.mark.parametrize(("dtype", "grad", "master"), MIXTURES, ids=str)
@pytest.mark.parametrize("case", OPTIMIZERS, ids=str)
def test_they_take_what_an_optimizer_binds(case: Case, dtype: Any, grad: Any, master: bool) -> None:
    """The same arguments in the same order as `Optimizer.bind` and `scalars` have them, and the same bits."""
    optimizer = case.changed(multi_precision=master, wd=0.03, clip_gradient=0.7, rescale_grad=1.7).optimizer
    random, given = np.random.default_rng(3), {} if grad is None else {"grad": grad}
    weight = random.standard_normal(99).astype(dtype)
    state, copy = optimizer.create_state(weight), weight.copy()
    mine = tuple(array.copy() for array in state)
    one = kernels.kernel(kernels.loop_of(optimizer.formula), dtype, master=master, **given)
    for count in (1, 2, 3):
        pushed = random.standard_normal(99).astype(grad or dtype)
        optimizer.bind("w", count, optim.Settings())(weight, pushed, state)
        one.reference(copy, pushed, *mine, *optimizer.scalars("w", count, optim.Settings()))
        assert cases.same(copy, weight)
        assert all(cases.same(a, b) for a, b in zip(mine, state, strict=True))


@pytest.mark.parametrize("dtype", cases.FLOATS, ids=str)
@pytest.mark.parametrize("optimizer", [optim.LAMB(wd=0.1), optim.LARS(wd=0.1, eta=0.5, momentum=0.9)], ids=repr)
def test_a_layerwise_step_without_a_look_at_the_norms(optimizer: Any, dtype: Any) -> None:
    """Norms, their sum, the ratio and the update, the numbers all the while in (what stands for) device memory."""
    settings, random = optim.Settings(), np.random.default_rng(4)
    weight, grad = (random.standard_normal(500).astype(dtype) for _ in range(2))
    state = optimizer.create_state(weight)
    copy, mine = weight.copy(), tuple(array.copy() for array in state)
    optimizer.bind("w", 1, settings)(weight, grad, state)
    partial, squares = np.zeros((kernels.SUM_BLOCKS, 2)), np.empty(2)
    measure = kernels.kernel(kernels.loop_of(optimizer.norms_formula), dtype)
    arrays = (copy, grad, *mine) if isinstance(optimizer, optim.LAMB) else (copy, grad)
    measure.reference(*arrays, *optimizer.norms_scalars("w", 1, settings), partial)
    kernels.kernel(loops.fold, cases.F8).reference(squares, partial, kernels.SUM_BLOCKS)
    numbers = np.array(optimizer.scalars("w", 1, settings))
    if isinstance(optimizer, optim.LAMB):
        kernels.kernel(loops.lamb_ratio, cases.F8).reference(numbers[:1], squares, 0.0, np.inf)
    else:
        ratio = kernels.kernel(loops.lars_ratio, cases.F8)
        ratio.reference(numbers[:3], squares, optimizer.eta, optimizer.wd, optimizer.eps)
    kernels.kernel(optimizer.formula.loop, dtype, numbers=True).reference(copy, grad, *mine, numbers)
    tolerance = {"bfloat16": 2e-2, "float16": 2e-3}.get(np.dtype(dtype).name, 1e-5)
    np.testing.assert_allclose(copy.astype(float), weight.astype(float), rtol=tolerance, atol=tolerance)
    for one, other in zip(mine, state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", cases.elementwise(), ids=lambda kernel: kernel.name)
def test_references_need_no_numba(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")

    def plainly(one: Kernel, blocks: int, threads: int, size: int, *arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(references, "numba_module", lambda: None)
            one.reference(*arguments)

    for seed in (1, 2):
        cases.check(plainly, kernel, seed, 40, 1, 1)


def test_references_check_what_they_get() -> None:
    kernel, row = kernels.sums(2, cases.F4), np.ones(6, np.float32)
    with pytest.raises(InvalidArgument, match="a is a C-contiguous array of float32, not of float64"):
        kernel.reference(row, row.astype(np.float64), row)
    with pytest.raises(InvalidArgument, match="strides"):
        kernel.reference(np.ones(12, np.float32)[::2], row, row)
    with pytest.raises(InvalidArgument, match="256 threads, not 48"):
        kernels.kernel(formulas.adam, cases.F4, threads=48)
    with pytest.raises(InvalidArgument, match=r"no array \['weight'\]"):
        kernels.kernel(formulas.set_3, cases.F2, master=True)
    with pytest.raises(InvalidArgument, match="takes 3 arguments, not 2"):
        kernel.reference(row, row)


def test_shapes_are_flattened() -> None:
    out = np.zeros((2, 3), np.float32)
    kernels.sums(2, cases.F4).reference(out, np.ones((2, 3), np.float32), np.ones(6, np.float32))
    assert (out == 2).all()


REFUSED = [np.bool_, np.complex64, ml_dtypes.float8_e5m2, ">f4", "M8[s]", "S3"]


@pytest.mark.parametrize("dtype", REFUSED, ids=str)
def test_what_no_kernel_takes(dtype: Any) -> None:
    for make in (lambda: kernels.sums(2, np.dtype(dtype)), lambda: kernels.kernel(formulas.adam, np.dtype(dtype))):
        with pytest.raises(DTypeMismatch, match="no kernel takes"):
            make()


def test_what_is_refused_beside() -> None:
    with pytest.raises(DTypeMismatch, match="real numbers, not of int32"):
        kernels.kernel(formulas.adam, np.dtype(np.int32))
    with pytest.raises(DTypeMismatch, match="real numbers, not of int32"):
        kernels.kernel(codecs.decode_1bit, np.dtype(np.int32))
    with pytest.raises(DTypeMismatch, match="takes no int32"):
        kernels.kernel(formulas.add_1, cases.F4, a=np.dtype(np.int32))
    with pytest.raises(DTypeMismatch, match="rows of complex128"):
        kernels.gather(np.dtype(np.complex128), 4)
    with pytest.raises(InvalidArgument, match="1 to 8 arrays"):
        kernels.sums(9, cases.F4)
    with pytest.raises(InvalidArgument, match=r"no array \['gard'\]"):
        kernels.kernel(formulas.adam, cases.F4, gard=cases.F4)
    with pytest.raises(InvalidArgument, match="256 threads, not 48"):
        kernels.kernel(formulas.adam, cases.F4, threads=48)
    with pytest.raises(InvalidArgument, match=r"no array \['weight'\]"):
        kernels.kernel(formulas.set_3, cases.F2, master=True)
    with pytest.raises(InvalidArgument, match="takes 3 arguments, piece 0 has 2"):
        kernels.table(kernels.sums(2, cases.F4), [(1, (0, 0))])
    with pytest.raises(InvalidArgument, match="not written as a loop"):
        kernels.loop_of(Formula(test_what_is_refused_beside))
    with pytest.raises(AkvError, match="take a block each"):
        kernels.many(codecs.encode_int8, cases.F4)


def test_it_needs_neither_cupy_nor_numba() -> None:
    code = "import sys, akv_cupy.kernels; sys.exit('cupy' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
