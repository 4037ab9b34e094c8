"""The same loops on numpy arrays: what a launch does, on the CPU, called with the same arguments."""

from __future__ import annotations

import ctypes
import importlib
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from akv.errors import InvalidArgument
from akv.optim.compiled import compiled, numba_module
from akv_cupy.kernels.body import Body
from akv_cupy.kernels.description import Param
from akv_cupy.kernels.elements import Elements, parameters_of
from akv_cupy.kernels.kinds import REAL
from akv_cupy.kernels.recipe import MANY, NUMBERS, Recipe
from akv_cupy.kernels.statements import Scalar

__all__ = ["reference"]

Loop = Callable[..., None]

# math.sqrt makes a double of a float32 and refuses negative numbers; numba, CUDA and numpy's do neither.
_MATH = types.SimpleNamespace(sqrt=np.sqrt)


def reference(recipe: Recipe) -> Callable[..., None]:
    """A function of the arguments that a launch of this kernel takes, with numpy arrays in the place of the device's.

    Raises InvalidArgument for another number of arguments, and arrays that are not C-contiguous or of another dtype.
    """
    loop = numpy_loop(recipe)
    params = recipe.params

    def run(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            if recipe.form == MANY:
                _each_row(loop, params, *arguments)
            elif recipe.form == NUMBERS:
                loop(*_with_numbers(params, arguments))
            else:
                loop(*arguments)

    return run


def numpy_loop(recipe: Recipe) -> Loop:
    """The loop as a launch of the form ONE calls it: narrow arrays are widened before, and rounded after."""

    def run(*arguments: Any) -> None:
        if len(arguments) != len(recipe.params):
            raise InvalidArgument(f"{recipe.name} takes {len(recipe.params)} arguments, not {len(arguments)}")
        given = dict(zip((param.name for param in recipe.params), arguments, strict=True))
        flat = {param.name: _flat(param, given[param.name]) for param in recipe.params if param.array}
        wide = {name: _wide(recipe, name, array) for name, array in flat.items() if name != "model"}
        _fastest(recipe.loop, recipe.work)(*({**given, **wide}[name] for name in parameters_of(recipe.loop)))
        for param in recipe.params:
            if param.written and param.name == "model":
                np.copyto(flat["model"], wide["weight"], casting="same_kind")
            elif param.written and wide[param.name] is not flat[param.name]:
                np.copyto(flat[param.name], wide[param.name], casting="same_kind")

    return run


def _flat(param: Param, array: Any) -> Any:
    if array.dtype != param.dtype or not array.flags.c_contiguous:
        raise InvalidArgument(
            f"{param.name} is a C-contiguous array of {param.dtype}, not of {array.dtype} with strides {array.strides}"
        )
    return array.reshape(-1)


def _wide(recipe: Recipe, name: str, array: Any) -> Any:
    calculated = parameters_of(recipe.loop)[name].kind == REAL
    return array.astype(recipe.work) if calculated and array.dtype != recipe.work else array


def _with_numbers(params: tuple[Param, ...], arguments: tuple[Any, ...]) -> list[Any]:
    *others, numbers = arguments
    rest, scalars = iter(others), iter(numbers.tolist())
    return [next(scalars) if param.number else next(rest) for param in params]


def _each_row(loop: Loop, params: tuple[Param, ...], table: Any) -> None:
    """A row for each tensor: its size, then addresses and numbers."""
    for size, *entries in table.reshape(-1, len(params) + 1).tolist():
        loop(*(_entry(param, entry, size) for param, entry in zip(params, entries, strict=True)))


def _entry(param: Param, entry: int, size: int) -> Any:
    if not param.array:
        return entry if param.dtype == np.int64 else float(np.int64(entry).view(np.float64))
    count = 2 if param.name == "squares" else size
    memory = (ctypes.c_char * (count * param.dtype.itemsize)).from_address(entry)
    return np.frombuffer(memoryview(memory), param.dtype)


def _fastest(loop: Loop, work: np.dtype[Any]) -> Loop:
    if numba_module() is None:
        return plain(loop)
    names = {loop.__annotations__[name] for name in parameters_of(loop)}
    fast = compiled(loop, work) if names <= {"Written", "Read", "Squares", "Number"} else _compiled(loop)
    return fast or plain(loop)


@cache
def plain(loop: Loop) -> Loop:
    """The loop as Python runs it, with numpy's square root."""
    return types.FunctionType(loop.__code__, {**loop.__globals__, "math": _MATH}, loop.__name__)


@cache
def _compiled(loop: Loop) -> Loop:
    """A loop that calls helpers, or has arrays of several dtypes: compiled when it is called, per mixture of dtypes."""
    numba = numba_module()
    register = importlib.import_module("numba.extending").register_jitable
    for helper in _helpers(Body(loop, np.dtype(np.float32), {}, None)):
        register(helper)
    options = {"nogil": True, "error_model": "numpy"}
    try:
        fast: Loop = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # there is no place to keep the cache
        fast = numba.njit(**options)(loop)
    return fast


def _helpers(body: Elements) -> list[Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    waiting = list(body.helpers.values())
    while waiting:
        helper = waiting.pop()
        if helper.__name__ not in found:
            found[helper.__name__] = helper
            waiting += Scalar(helper, body.work).helpers.values()
    return list(found.values())
