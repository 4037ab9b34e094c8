"""Loops to kernels. Each is made when it is first asked for, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from struct import Struct

import numpy as np
import numpy.typing as npt

from akv.errors import DTypeMismatch, InvalidArgument
from akv.optim.blocks import Formula
from akv.values.dtypes import DType, accumulator
from akv_cupy.kernels import loops
from akv_cupy.kernels.description import THREADS, Kernel, Param
from akv_cupy.kernels.elements import parameters_of
from akv_cupy.kernels.kinds import INT, REAL
from akv_cupy.kernels.recipe import MANY, NUMBERS, ONE, Recipe
from akv_cupy.kernels.references import reference
from akv_cupy.kernels.source import translate
from akv_cupy.kernels.subset import within

__all__ = ["SUM_BLOCKS", "kernel", "loop_of", "many", "table"]

Loop = Callable[..., None]

#: So many blocks at most add up a norm, each into two float64 of its own, which `loops.fold` then adds up.
SUM_BLOCKS = 256

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def loop_of(formula: Formula) -> Loop:
    """The loop of an optimizer's formula; raises InvalidArgument if it has none."""
    found: Loop | None = formula.loop or getattr(loops, formula.apply.__name__, None)
    if found is None:
        raise InvalidArgument(f"the formula {formula.apply.__qualname__} is not written as a loop, so it has no kernel")
    return found


def kernel(
    loop: Loop, dtype: DType, *, master: bool = False, numbers: bool = False, threads: int = THREADS, **memory: DType
) -> Kernel:
    """The kernel of a loop of `akv.optim.loops`, `akv_cupy.kernels.loops` or `akv_cupy.kernels.codecs`.

    dtype: of the weights, of `out`, or, where there is a residual, of the gradient. For float16 and bfloat16 the
    arithmetic is float32, and so are state, residual and a master copy; every element is rounded once.
    master: a float16 or bfloat16 weight has its float32 copy among its state; as in `Optimizer.bind` the arguments are
    then (weight, grad, copy, *other state, *numbers).
    numbers: the float64 numbers come as one array in device memory, the last argument, instead of one by one.
    threads: per block, a power of two up to 256.
    memory: the dtypes of single arrays by name, such as grad=float32 beside a float16 weight.

    Raises DTypeMismatch for what no kernel takes, InvalidArgument for other threads and for arrays that the loop has
    not, and NotTranslatable for a loop that uses more than the subset.
    """
    form = NUMBERS if numbers else ONE
    with within(loop):
        return _made(_recipe(loop, np.dtype(dtype), master, form, memory, threads))


def many(loop: Loop, dtype: DType, *, master: bool = False, **memory: DType) -> Kernel:
    """The kernel that does what `kernel(loop, dtype, ...)` does, to many tensors in one launch.

    It takes one array, made by `table`, and `size` is the number of its rows. A block of threads takes a row, so cut
    what is larger than some 64 Ki elements into several rows (norms excepted: their order would change).
    """
    with within(loop):
        return _made(_recipe(loop, np.dtype(dtype), master, MANY, memory, THREADS))


def table(one: Kernel, pieces: Sequence[tuple[int, Sequence[float]]]) -> npt.NDArray[np.int64]:
    """What a `many` kernel takes, in host memory: for each piece its size and the arguments of `one`.

    one: the kernel from `kernel` with the same loop and dtypes. An array among a piece's arguments is the address of
    its first element; keep the arrays alive until the launch is done.
    Raises InvalidArgument for a piece with another number of arguments.
    """
    layout = Struct("=q" + "".join("d" if param.number else "q" for param in one.params))
    rows = np.empty((len(pieces), len(one.params) + 1), np.int64)
    for row, (size, arguments) in enumerate(pieces):
        if len(arguments) != len(one.params):
            raise InvalidArgument(f"{one.name} takes {len(one.params)} arguments, piece {row} has {len(arguments)}")
        layout.pack_into(rows.data, row * layout.size, size, *arguments)
    return rows


def _recipe(loop: Loop, dtype: DType, master: bool, form: str, memory: dict[str, DType], threads: int) -> Recipe:
    if threads not in (32, 64, 128, THREADS):
        raise InvalidArgument(f"{loop.__name__}: a block has 32, 64, 128 or 256 threads, not {threads}")
    work, own = accumulator(dtype), parameters_of(loop)
    dtypes = _dtypes(loop, dtype, work) | {name: np.dtype(given) for name, given in memory.items()}
    if master:
        dtypes["weight"] = work
    if unknown := dtypes.keys() - _dtypes(loop, dtype, work).keys():
        raise InvalidArgument(f"{loop.__name__} has no array {sorted(unknown)} whose dtype could be chosen")
    for one in (dtype, *dtypes.values()):
        _check(loop, work, one)
    model = dtype if master and dtype != work and own["weight"].written else None
    others = tuple((name, one) for name, one in dtypes.items() if one != work)
    return Recipe(loop, work, others, model, form, threads)


def _dtypes(loop: Loop, dtype: DType, work: DType) -> dict[str, DType]:
    """The dtypes of a loop's arrays unless others are asked for: state and residuals are of the work dtype."""
    own = parameters_of(loop)
    real = [name for name, one in own.items() if one.array and one.kind == REAL]
    stateful = "weight" in own or "residual" in own
    return {name: work if stateful and name not in ("weight", "grad") else dtype for name in real}


def _check(loop: Loop, work: DType, dtype: DType) -> None:
    if dtype.name not in _FLOATS + _INTEGERS or not dtype.isnative:
        raise DTypeMismatch(f"{loop.__name__}: no kernel takes {dtype}")
    if dtype.name in _INTEGERS and dtype != work:
        raise DTypeMismatch(f"{loop.__name__}: a kernel of {work} takes no {dtype}")
    if dtype.name in _INTEGERS and any(one.kind not in (REAL, INT) for one in parameters_of(loop).values()):
        raise DTypeMismatch(f"{loop.__name__}: a formula of real numbers, not of {dtype}")


@cache
def _made(recipe: Recipe) -> Kernel:
    text = translate(recipe)
    params = recipe.params
    if recipe.form == MANY:
        params = (Param("table", np.dtype(np.int64), array=True),)
    elif recipe.form == NUMBERS:
        others = [param for param in params if not param.number]
        params = (*others, Param("numbers", np.dtype(np.float64), array=True))
    return Kernel(
        recipe.name,
        text.source,
        params,
        reference(recipe),
        threads=recipe.threads,
        by_block=text.by_block or recipe.form == MANY,
        most_blocks=SUM_BLOCKS if text.sums and recipe.form != MANY else None,
    )
