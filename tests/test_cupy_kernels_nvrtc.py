"""Every kernel is CUDA C that NVRTC takes, without warnings, and stays within what a launch may ask for."""

from __future__ import annotations

import re
from collections.abc import Callable

import cupy_kernels as cases
import pytest
from cupy_nvrtc import CompileError, compiled, library

from akv.optim import loops as formulas
from akv_cupy import kernels
from akv_cupy.kernels import THREADS, Kernel
from akv_cupy.kernels.body import AT_ONCE

pytestmark = pytest.mark.skipif(library() is None, reason="no NVRTC: pip install nvidia-cuda-nvrtc")

KERNELS = cases.every_kernel() if library() else ()
UPDATES = [kernels.kernel(loop, dtype) for loop in cases.OPTIMIZERS for dtype in cases.FLOATS] if library() else []


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_it_compiles(kernel: Kernel, architecture: str) -> None:
    assert compiled(kernel, architecture).startswith(b"\x7fELF")


@pytest.mark.parametrize("kernel", UPDATES, ids=lambda kernel: kernel.name)
def test_nothing_is_contracted(kernel: Kernel) -> None:
    """A product is rounded before it is added: PTX says so with `mul.rn` and `add.rn`, and has no `fma`."""
    text = compiled(kernel, "compute_90").decode()
    assert "fma" not in text
    assert not re.search(r"\b(mul|add|sub)\.(ftz\.)?f(32|64)", text), "may be contracted by ptxas"
    assert ".ftz" not in text
    assert "approx" not in text


@pytest.mark.parametrize("make", [lambda: kernels.kernel(formulas.adam, cases.F4), lambda: kernels.sums(4, cases.F2)])
def test_a_thread_reads_several_elements_before_it_writes_one(make: Callable[[], Kernel]) -> None:
    """Loads in flight are what keeps memory busy: here of 4 arrays."""
    text = compiled(make(), "compute_90").decode()
    assert text[: text.index("st.global")].count("ld.global") == 4 * AT_ONCE


def test_it_would_be_contracted_without_the_options() -> None:
    text = compiled(kernels.kernel(formulas.adam, cases.F4), "compute_90", ()).decode()
    assert "fma.rn" in text


def test_halves_are_converted_by_one_instruction_each() -> None:
    text = compiled(kernels.sums(2, cases.F2), "compute_90").decode()
    assert text.count("cvt.f32.f16") == 2 * AT_ONCE
    assert text.count("cvt.rn.f16.f32") == AT_ONCE


@pytest.mark.parametrize("kernel", KERNELS[:5], ids=lambda kernel: kernel.name)
def test_it_is_compiled_for_no_more_threads_than_it_is_launched_with(kernel: Kernel) -> None:
    assert f".maxntid {THREADS}" in compiled(kernel, "compute_80").decode()


def test_a_mistake_is_seen() -> None:
    kernel = kernels.kernel(formulas.adam, cases.F4)
    broken = Kernel(kernel.name, kernel.source.replace("float g =", "flot g ="), kernel.params, kernel.reference)
    with pytest.raises(CompileError, match="flot"):
        compiled(broken, "sm_80")
