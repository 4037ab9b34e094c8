"""CUDA C compiled by gcc and run on the CPU: threads of a block one after another, or, where they wait for each other,
as threads of the machine."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from akv_cupy.kernels import Kernel

SHIM = r"""
#include <math.h>
#include <pthread.h>
#include <string.h>
#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static
typedef struct { unsigned int x; } akv_index;
static __thread akv_index threadIdx, blockIdx;
static akv_index blockDim, gridDim;
static pthread_barrier_t akv_barrier;
static inline void __syncthreads(void) { pthread_barrier_wait(&akv_barrier); }
static inline unsigned int __float_as_uint(float value) { unsigned int to; memcpy(&to, &value, 4); return to; }
static inline float __uint_as_float(unsigned int value) { float to; memcpy(&to, &value, 4); return to; }
static inline double __longlong_as_double(long long value) { double to; memcpy(&to, &value, 8); return to; }
"""

ONE_BY_ONE = """
void run_{name}(unsigned int akv_blocks, unsigned int akv_threads, {taken}) {{
    gridDim.x = akv_blocks;
    blockDim.x = akv_threads;
    for (unsigned int akv_b = 0; akv_b < akv_blocks; akv_b++)
        for (unsigned int akv_t = 0; akv_t < akv_threads; akv_t++) {{
            blockIdx.x = akv_b;
            threadIdx.x = akv_t;
            {name}({passed});
        }}
}}
"""

TOGETHER = """
static struct {{ {fields}; }} given_{name};
static void *thread_{name}(void *number) {{
    threadIdx.x = (unsigned int)(size_t)number;
    for (unsigned int akv_b = 0; akv_b < gridDim.x; akv_b++) {{
        blockIdx.x = akv_b;
        {name}({given});
        __syncthreads();
    }}
    return 0;
}}
void run_{name}(unsigned int akv_blocks, unsigned int akv_threads, {taken}) {{
    pthread_t running[256];
    gridDim.x = akv_blocks;
    blockDim.x = akv_threads;
    {kept}
    pthread_barrier_init(&akv_barrier, 0, akv_threads);
    for (size_t akv_t = 0; akv_t < akv_threads; akv_t++)
        pthread_create(&running[akv_t], 0, thread_{name}, (void *)akv_t);
    for (size_t akv_t = 0; akv_t < akv_threads; akv_t++)
        pthread_join(running[akv_t], 0);
    pthread_barrier_destroy(&akv_barrier);
}}
"""


def compiler() -> str:
    """The C compiler, or the test is skipped."""
    found = shutil.which("gcc") or shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler")
    return found


class Compiled:
    """Kernels as functions of this process: `call(kernel, blocks, threads, size, *arguments)`."""

    def __init__(
        self, kernels: Iterable[Kernel], folder: Path, options: tuple[str, ...] = ("-ffp-contract=off",)
    ) -> None:
        each = {kernel.name: kernel for kernel in kernels}.values()
        text = SHIM + "".join(f"{_alone(kernel)}{_runner(kernel)}" for kernel in each)
        source, library = folder / "kernels.c", folder / "kernels.so"
        source.write_text(text)
        command = [compiler(), "-std=gnu11", "-O0", "-w", "-shared", "-fPIC", "-fno-math-errno", *options]
        subprocess.run([*command, str(source), "-o", str(library), "-lm", "-lpthread"], check=True, timeout=120)
        self._library = ctypes.CDLL(str(library))

    def call(self, kernel: Kernel, blocks: int, threads: int, size: int, *arguments: Any) -> None:
        function: Callable[..., object] = getattr(self._library, f"run_{kernel.name}")
        passed = [_passed(param.dtype, value) for param, value in zip(kernel.params, arguments, strict=True)]
        function(ctypes.c_uint(blocks), ctypes.c_uint(threads), ctypes.c_longlong(size), *passed)


def _passed(dtype: np.dtype[Any], value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.dtype == dtype
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_double(value) if dtype == np.float64 else ctypes.c_longlong(value)


def _alone(kernel: Kernel) -> str:
    """The source with helpers of its own, so that many fit one file."""
    text = re.sub(r"\bakv_(\w+)", rf"akv_\1_of_{kernel.name}", kernel.source)
    return text.replace('extern "C" ', "")


def _runner(kernel: Kernel) -> str:
    head = re.search(rf"\b{kernel.name}\((.*)\)$", kernel.source, re.MULTILINE)
    assert head is not None
    taken = head[1].split(", ")
    names = [re.split(r"[ *]", one)[-1] for one in taken]
    return (TOGETHER if "__syncthreads" in kernel.source else ONE_BY_ONE).format(
        name=kernel.name,
        taken=", ".join(taken),
        passed=", ".join(names),
        fields="; ".join(taken),
        given=", ".join(f"given_{kernel.name}.{name}" for name in names),
        kept=" ".join(f"given_{kernel.name}.{name} = {name};" for name in names),
    )
