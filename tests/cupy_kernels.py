"""Every kernel there is, in every combination of dtypes that a store asks for, and arguments to call it with."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from akv.optim import loops as formulas
from akv.values.dtypes import accumulator
from akv_cupy import kernels
from akv_cupy.kernels import Kernel, codecs, loops

F2, F4, F8 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
B2 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (F4, F8, F2, B2)
INTEGERS = tuple(np.dtype(f"{sign}{size}") for sign in "iu" for size in (1, 2, 4, 8))

OPTIMIZERS = (
    *(formulas.add, formulas.descend, formulas.descend_with_momentum, formulas.look_ahead, formulas.adam),
    *(formulas.adamw, formulas.adagrad, formulas.adadelta, formulas.rmsprop, formulas.rmsprop_centered),
    *(formulas.ftrl, formulas.signsgd, formulas.signum, formulas.lamb),
)
NORMS = (formulas.lamb_norms, loops.lars_norms)
ADDED = (formulas.add_1, formulas.add_2, formulas.add_3, formulas.add_4)

#: (count, dtype) of the sums that are tried.
SUMMED = [(count, dtype) for dtype in FLOATS for count in range(1, 9)]
SUMMED += [(count, dtype) for dtype in INTEGERS for count in (1, 2, 8)]

#: Numbers that formulas take; those not named here are 0.9 or 0.99.
NUMBERS = {
    "rate": (0.0, 0.01, 0.3),
    "bound": (math.inf, 0.5),
    "limit": (math.inf, 1.5),
    "wd": (0.0, 0.01),
    "shrink": (0.0, 0.01),
    "rescale": (1.0, 1.7, -0.3),
    "epsilon": (1e-8, 1e-3),
    "correct": (1.0, 0.4),
    "lamda1": (0.0, 0.1),
    "lower": (0.0, 2.0),
    "upper": (math.inf, 3.0),
}


def elementwise() -> list[Kernel]:
    """Those whose arrays are all of one size."""
    found: list[Kernel] = []
    for loop in (*OPTIMIZERS, *NORMS):
        found += [kernels.kernel(loop, dtype) for dtype in FLOATS]
        found += [kernels.kernel(loop, dtype, grad=F4) for dtype in (F2, B2)]
        found += [
            kernels.kernel(loop, F4, grad=F2),
            kernels.kernel(loop, F8, grad=B2),
            kernels.kernel(loop, F4, grad=F8),
        ]
        found += [kernels.kernel(loop, F4, numbers=True)] if numbered(loop) else []
        if loop in NORMS:
            found += [kernels.kernel(loop, F2, weight=F4)]
        else:
            found += [kernels.kernel(loop, F2, master=True), kernels.kernel(loop, B2, master=True, grad=F4)]
    found += [kernels.sums(count, dtype) for count, dtype in SUMMED]
    found += [kernels.sums(count, dtype, F4) for dtype in (F2, B2) for count in range(1, 9)]
    found += [kernels.kernel(loop, dtype) for loop in ADDED for dtype in FLOATS]
    found += [kernels.kernel(formulas.add_1, dtype) for dtype in INTEGERS]
    found += [kernels.kernel(formulas.add_1, dtype, a=F4) for dtype in (F2, B2)]
    found += [kernels.kernel(loops.set_1, F4, out=out, a=a) for out in FLOATS for a in FLOATS]
    return found


def numbered(loop: Any) -> list[str]:
    """The numbers that a loop takes."""
    return [param.name for param in kernels.kernel(loop, F4).params if not param.array]


def pairs() -> list[tuple[Kernel, Kernel]]:
    """Kernels, and those that do the same to many tensors in one launch."""
    asked: list[tuple[Any, Any, dict[str, Any]]] = [
        *((loop, dtype, {}) for loop in (*OPTIMIZERS, *NORMS) for dtype in (F4, B2)),
        (formulas.adam, F2, {"master": True, "grad": F4}),
        (formulas.set_3, F4, {}),
        (formulas.add_1, F2, {"a": F4}),
    ]
    return [(kernels.kernel(loop, dtype, **how), kernels.many(loop, dtype, **how)) for loop, dtype, how in asked]


def batched() -> list[Kernel]:
    return [many for _, many in pairs()]


def encoders() -> list[Kernel]:
    names = ("encode_1bit", "encode_2bit", "encode_int8", "encode_fp16", "encode_bf16")
    names += ("quantise_int8", "quantise_fp16", "quantise_bf16")
    return [kernels.kernel(getattr(codecs, name), dtype) for name in names for dtype in FLOATS]


def decoders() -> list[Kernel]:
    names = [f"{verb}_{codec}" for verb in ("decode", "add") for codec in ("1bit", "2bit", "int8", "fp16", "bf16")]
    return [kernels.kernel(getattr(codecs, name), dtype) for name in names for dtype in FLOATS]


def rows() -> list[Kernel]:
    moved = [make(np.dtype(f"u{size}"), 40) for make in (kernels.gather, kernels.scatter) for size in (1, 2, 4, 8)]
    added = [kernels.scatter(dtype, 300, add=True) for dtype in (*FLOATS, *INTEGERS)]
    return [
        *moved,
        *added,
        kernels.scatter(F4, 1, add=True, values=B2),
        *(kernels.sum_segments(dtype, 300) for dtype in (*FLOATS, *INTEGERS)),
        kernels.sum_segments(F2, 3, F4),
    ]


def small() -> list[Kernel]:
    return [kernels.kernel(loop, F8) for loop in (loops.fold, loops.lamb_ratio, loops.lars_ratio)]


@cache
def every_kernel() -> tuple[Kernel, ...]:
    """All of them, each once."""
    made = [*elementwise(), *batched(), *encoders(), *decoders(), *rows(), *small()]
    return tuple({kernel.name: kernel for kernel in made}.values())


def numbers_of(kernel: Kernel, random: np.random.Generator) -> dict[str, float]:
    """A value for each number that the kernel takes one by one."""
    scalars = [param.name for param in kernel.params if not param.array]
    return {name: number(name, random) for name in scalars}


def number(name: str, random: np.random.Generator) -> float:
    return float(random.choice(NUMBERS.get(name, (0.9, 0.99))))


def values(random: np.random.Generator, size: int, dtype: np.dtype[Any], strange: float = 0.1) -> np.ndarray:
    """Normal numbers of different magnitudes, and among them NaN, infinities, zeros, subnormals and the largest."""
    if dtype.kind in "iu":
        return random.integers(0, 256, size * dtype.itemsize, np.uint8).view(dtype)
    wide = random.standard_normal(size) * 10.0 ** random.integers(-6, 3, size)
    info = ml_dtypes.finfo(dtype)
    odd = [0.0, -0.0, math.inf, -math.inf, math.nan, info.max, -info.max, info.smallest_subnormal, info.tiny, 1.0, 0.5]
    where = random.random(size) < strange
    wide[where] = random.choice(np.array(odd, np.float64), size)[where]
    with np.errstate(all="ignore"):
        return wide.astype(dtype)


NOT_NEGATIVE = {"var", "n", "history", "grads", "deltas", "copy"}


def arrays_of(kernel: Kernel, random: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """Arrays of one size for an elementwise kernel."""
    made: dict[str, np.ndarray] = {}
    for param in kernel.params:
        if param.name == "squares":
            made["squares"] = np.zeros((kernels.SUM_BLOCKS, 2))
        elif param.name == "numbers":
            loop = next(loop for loop in (*OPTIMIZERS, *NORMS) if kernel.name == f"{loop.__name__}_float32_numbers")
            made["numbers"] = np.array([number(name, random) for name in numbered(loop)])
        elif param.array:
            strange = 0.0 if any(one.name == "squares" for one in kernel.params) else 0.1
            made[param.name] = values(random, size, param.dtype, strange)
            if param.name in NOT_NEGATIVE and param.dtype.kind != "u":
                made[param.name] = np.abs(made[param.name])
    if "model" in made:  # what it is before: a frozen key leaves it alone
        with np.errstate(over="ignore"):
            made["model"] = made["weight"].astype(made["model"].dtype)
    return made


def work(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What is calculated in."""
    return accumulator(dtype)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal to the bit, except that every NaN is as good as another."""
    if one.dtype.kind in "iub":
        return bool(np.array_equal(one, other))
    bits = np.dtype(f"u{one.dtype.itemsize}")
    with np.errstate(all="ignore"):
        nan, too = np.isnan(one), np.isnan(other)
    return bool(np.array_equal(nan, too) and np.array_equal(one.view(bits)[~nan], other.view(bits)[~nan]))


def in_order(kernel: Kernel, arrays: dict[str, np.ndarray], numbers: dict[str, float]) -> list[Any]:
    return [arrays[param.name] if param.array else numbers[param.name] for param in kernel.params]


def assert_same(kernel: Kernel, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    for name, array in ours.items():
        if name == "squares":  # sums, in another order
            np.testing.assert_allclose(array.sum(axis=0), theirs[name].sum(axis=0), rtol=2e-5)
        else:
            assert same(array, theirs[name]), f"{kernel.name}: {name}\n{array}\n{theirs[name]}"


def copied(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}


def whole(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array[None] if name == "squares" else array for name, array in arrays.items()}


def addressed(one: Kernel, pieces: list[tuple[int, dict[str, np.ndarray], dict[str, float]]]) -> np.ndarray:
    rows = []
    for size, arrays, numbers in pieces:
        arguments = in_order(one, arrays, numbers)
        rows.append((size, [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]))
    return kernels.table(one, rows)


def check(run: Callable[..., None], kernel: Kernel, seed: int, size: int, blocks: int, threads: int) -> None:
    """Run an elementwise kernel and its reference on equal arrays, and compare what they have made of them."""
    random = np.random.default_rng(seed)
    ours, numbers = arrays_of(kernel, random, size), numbers_of(kernel, random)
    theirs = copied(ours)
    kernel.reference(*in_order(kernel, ours, numbers))
    run(kernel, blocks, threads, size, *in_order(kernel, theirs, numbers))
    assert_same(kernel, ours, theirs)
