"""From loops to complete CUDA C: helpers, a device function with the loop, and the kernel that calls it.

Three forms of kernel call the same device function. ONE gets what the loop gets. NUMBERS gets the loop's numbers as one
array in device memory, so that another kernel can have worked them out. MANY gets a table with a row for each of many
small tensors, which one block of threads takes: its size, then its arguments, 8 bytes each.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from akv_cupy.kernels.body import Body, reducer
from akv_cupy.kernels.description import THREADS, Param
from akv_cupy.kernels.elements import Elements
from akv_cupy.kernels.recipe import MANY, NUMBERS, ONE, Recipe
from akv_cupy.kernels.statements import Scalar
from akv_cupy.kernels.subset import NotTranslatable, definition, within

__all__ = ["Text", "translate"]

# What the GPU has an instruction for; elsewhere (in the tests) the translated helper stands.
_INSTRUCTIONS = {
    "half": (
        'unsigned short bits;\n    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));\n'
        "    return value == value ? bits : 0x7E00;"
    ),
    "unhalf": 'float value;\n    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));\n    return value;',
}

_REDUCER = """\
static __device__ {type} {name}({type} value)
{{
    __shared__ {type} shared[{threads}];
    shared[threadIdx.x] = value;
    __syncthreads();
    for (unsigned int apart = blockDim.x / 2; apart > 0; apart /= 2) {{
        if (threadIdx.x < apart)
            shared[threadIdx.x] = {combined};
        __syncthreads();
    }}
    value = shared[0];
    __syncthreads();
    return value;
}}
"""


@dataclass(frozen=True, slots=True)
class Text:
    """A translated kernel."""

    source: str
    by_block: bool
    sums: bool
    """Whether it adds up over all elements: a block adds its part to two numbers of its own in `squares`."""


def translate(recipe: Recipe) -> Text:
    """The CUDA C of a kernel. Raises NotTranslatable, naming file, line and reason."""
    body = Body(recipe.loop, recipe.work, dict(recipe.memory), recipe.model)
    helpers = _helpers(body, recipe.work)
    parts = [*helpers, *_reducers(body), _device(recipe, body), _FORMS[recipe.form](recipe, body)]
    sums = any(how == "+" for how, _ in body.reducers)
    return Text("\n".join(parts), body.by_block, sums)


def _helpers(body: Elements, work: np.dtype[Any]) -> list[str]:
    """The helpers that the body calls, those that they call before them."""
    texts: dict[str, str] = {}

    def visit(names: Mapping[str, Callable[..., Any]]) -> None:
        for name, function in names.items():
            if name not in texts:
                with within(function):
                    helper = Scalar(function, work)
                visit(helper.helpers)
                texts[name] = _helper(name, helper)

    visit(body.helpers)
    return list(texts.values())


def _helper(name: str, helper: Scalar) -> str:
    taken = ", ".join(f"{helper.c(one.kind)} {parameter}" for parameter, one in helper.parameters.items())
    lines = "\n".join(helper.lines)
    if name in _INSTRUCTIONS:
        lines = f"#ifdef __CUDACC__\n    {_INSTRUCTIONS[name]}\n#else\n{lines}\n#endif"
    return f"static __device__ {helper.c(helper.result)} akv_{name}({taken})\n{{\n{lines}\n}}\n"


def _reducers(body: Body) -> list[str]:
    texts = []
    for how, kind in sorted(body.reducers):
        one, other = "shared[threadIdx.x]", "shared[threadIdx.x + apart]"
        combined = f"{one} + {other}" if how == "+" else f"akv_{how}({one}, {other})"
        texts.append(_REDUCER.format(type=kind, name=reducer(how, kind), threads=THREADS, combined=combined))
    return texts


def _device(recipe: Recipe, body: Body) -> str:
    taken = ", ".join([*recipe.c_params, "long long size_", "long long first_", "long long stride_"])
    lines = "\n".join(body.lines)
    return f"static __device__ void akv_{recipe.loop.__name__}({taken})\n{{\n{lines}\n}}\n"


def _share(body: Body) -> str:
    """The first element of a thread, or of a block, and how far it is to its next."""
    if body.by_block:
        return "blockIdx.x, gridDim.x"
    return "(long long)blockIdx.x * blockDim.x + threadIdx.x, (long long)gridDim.x * blockDim.x"


def _kernel(recipe: Recipe, params: list[str], lines: list[str]) -> str:
    taken = ", ".join(["long long size_", *params])
    head = f'extern "C" __global__ void __launch_bounds__({THREADS}) {recipe.name}({taken})'
    return "\n".join([head, "{", *(f"    {line}" for line in lines), "}", ""])


def _passed(recipe: Recipe, name: str) -> str:
    """An argument of the device function. Each block adds to two numbers of its own."""
    return f"{name} + 2 * blockIdx.x" if _is_squares(recipe, name) else name


def _is_squares(recipe: Recipe, name: str) -> bool:
    found = [one for one in definition(recipe.loop).args.args if one.arg == name]
    return bool(found) and found[0].annotation is not None and ast.unparse(found[0].annotation) == "Squares"


def _one(recipe: Recipe, body: Body) -> str:
    passed = ", ".join(_passed(recipe, param.name) for param in recipe.params)
    line = f"akv_{recipe.loop.__name__}({passed}, size_, {_share(body)});"
    return _kernel(recipe, recipe.c_params, [line])


def _numbers(recipe: Recipe, body: Body) -> str:
    places = iter(range(len(recipe.params)))
    passed = [f"numbers[{next(places)}]" if param.number else _passed(recipe, param.name) for param in recipe.params]
    line = f"akv_{recipe.loop.__name__}({', '.join(passed)}, size_, {_share(body)});"
    others = [text for text, param in zip(recipe.c_params, recipe.params, strict=True) if not param.number]
    return _kernel(recipe, [*others, "const double *numbers"], [line])


def _many(recipe: Recipe, body: Body) -> str:
    if body.by_block:
        raise NotTranslatable(f"{recipe.loop.__name__}: its rows take a block each, so a tensor cannot")
    passed = [_from_table(recipe, param, f"row[{place}]") for place, param in enumerate(recipe.params, start=1)]
    lines = [
        "for (long long k = blockIdx.x; k < size_; k += gridDim.x) {",
        f"    const long long *row = table + k * {len(recipe.params) + 1};",
        f"    akv_{recipe.loop.__name__}({', '.join(passed)}, row[0], threadIdx.x, blockDim.x);",
        "}",
    ]
    return _kernel(recipe, ["const long long *table"], lines)


def _from_table(recipe: Recipe, param: Param, entry: str) -> str:
    if param.array:
        return f"({recipe.c(param.name)}){entry}"
    return f"__longlong_as_double({entry})" if param.number else entry


_FORMS = {ONE: _one, NUMBERS: _numbers, MANY: _many}
