"""Names and array elements: which variable of C, or which place in memory, a name of Python stands for."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from akv_cupy.kernels.expressions import Expressions, Term
from akv_cupy.kernels.halves import HALVES
from akv_cupy.kernels.kinds import ANNOTATIONS, INT, REAL, Annotation, loaded, stored
from akv_cupy.kernels.subset import definition, elements, first_use, refuse

__all__ = ["Elements", "Variable", "parameters_of"]

# What C++ or the generated lines around the loop have taken; a name of Python that is among them gets a number.
_TAKEN = """
    asm auto bool break case catch char class const continue default delete do double else enum extern float for friend
    goto if inline int long namespace new operator private protected public register return short signed sizeof static
    struct switch template this throw try typedef union unsigned using virtual void volatile while
    size_ first_ stride_ end_ group_ lane_ model
"""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of C.

    Attributes:
        depth: how many braces are around its declaration.
        fixed: Python may not assign to it: a loop's counter.
    """

    text: str
    kind: str
    depth: int
    fixed: bool = False


@cache
def parameters_of(function: Callable[..., Any]) -> dict[str, Annotation]:
    """The parameters of a loop or helper by name; raises NotTranslatable for an annotation that means nothing here."""
    found: dict[str, Annotation] = {}
    for argument in definition(function).args.args:
        text = ast.unparse(argument.annotation) if argument.annotation else ""
        if text not in ANNOTATIONS:
            refuse(argument, f"a parameter is annotated with one of {', '.join(ANNOTATIONS)}")
        found[argument.arg] = ANNOTATIONS[text]
    return found


class Elements(Expressions):
    """The names of one function, and the elements of its arrays.

    In a loop that uses all arrays at its own index, elements are *held*: read once into a variable, written back once.
    So a float16 weight is a float32 from its load to its store, as on the CPU.
    """

    def __init__(self, function: Callable[..., Any], work: np.dtype[Any], memory: Mapping[str, np.dtype[Any]]) -> None:
        """memory: the dtypes of the arrays of the work kind whose elements are not of the work dtype."""
        self.function, self.work, self.memory = function, work, memory
        self.parameters = parameters_of(function)
        self.names: dict[str, Variable] = {}
        self.helpers: dict[str, Callable[..., Any]] = {}
        self._types: set[str] = set()
        self._held: dict[str, Variable] = {}
        self._counter: str | None = None
        self._used: set[str] = {*_TAKEN.split()}
        self.depth = 1
        for name, annotation in self.parameters.items():
            self._used.add(name)
            if not annotation.array:
                self.names[name] = Variable(name, annotation.kind, 0)

    def fresh(self, base: str) -> str:
        """A name that C has not seen in this function."""
        name, number = base, 0
        while name in self._used:
            number += 1
            name = f"{base}_{number}"
        self._used.add(name)
        return name

    def array(self, node: ast.expr) -> str | None:
        """The name of the parameter that is this array."""
        found = self.parameters.get(node.id) if isinstance(node, ast.Name) else None
        return node.id if isinstance(node, ast.Name) and found and found.array else None

    def dtype(self, array: str) -> np.dtype[Any]:
        """That of the array's elements in memory."""
        kind = self.parameters[array].kind
        return self.memory.get(array, self.work) if kind == REAL else np.dtype(kind)

    def name(self, node: ast.Name) -> Term:
        variable = self.names.get(node.id)
        if variable is None:
            refuse(
                node, "has no value here that C could see: not a parameter, not assigned before, or in another block"
            )
        return Term(variable.text, variable.kind)

    def name_type(self, name: str) -> None:
        """From here on the name means the work type."""
        self._types.add(name)

    def is_work_type(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self._types
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Attribute):
            return False
        array = self.array(node.value.value)
        return (node.value.attr, node.attr) == ("dtype", "type") and array is not None and self._is_real(array)

    def _is_real(self, array: str) -> bool:
        return self.parameters[array].kind == REAL

    def helper(self, node: ast.Call) -> tuple[str, list[str], str] | None:
        found = self.function.__globals__.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if not isinstance(found, types.FunctionType):
            return None
        self.helpers[found.__name__] = found
        kinds = [annotation.kind for annotation in parameters_of(found).values()]
        return f"akv_{found.__name__}", kinds, result_kind(found)

    def needs(self, helper: str | None) -> None:
        """Loads and stores take a helper of this name."""
        if helper is not None:
            self.helpers[helper] = HALVES[helper]

    def element(self, node: ast.Subscript) -> Term:
        array = self.array(node.value)
        if array is None:
            refuse(node, "only arrays among the parameters have elements")
        held = self._holding(array, node)
        if held is not None:
            return Term(held.text, held.kind)
        return self.load(array, self.place(array, node))

    def place(self, array: str, node: ast.Subscript) -> str:
        index = self.term(node.slice)
        if index.kind != INT:
            refuse(node, f"an index is an integer, not {index.kind}")
        return f"{array}[{index.text}]"

    def load(self, array: str, place: str) -> Term:
        kind = self.parameters[array].kind
        if kind != REAL:
            return Term(place, kind)
        text, helper = loaded(place, self.dtype(array), self.work)
        self.needs(helper)
        return Term(text, kind)

    def store(self, array: str, place: str, text: str) -> str:
        """The line that writes a value of the array's kind."""
        if self.parameters[array].kind == REAL:
            text, helper = stored(text, self.dtype(array), self.work)
            self.needs(helper)
        return f"{place} = {text};"

    def _holding(self, array: str, node: ast.Subscript) -> Variable | None:
        same = isinstance(node.slice, ast.Name) and node.slice.id == self._counter
        return self._held.get(array) if same else None

    def hold(self, loop: ast.For, counter: str) -> bool:
        """Hold the elements in this loop, if all of them stand at its own index; returns whether."""
        places: dict[str, set[str]] = {}
        for node in elements(loop):
            places.setdefault(self.array(node.value) or "", set()).add(ast.unparse(node.slice))
        if not places or "" in places or set().union(*places.values()) != {counter}:
            return False
        self._counter = counter
        for array, one in self.parameters.items():
            if array in places:
                self._held[array] = Variable(self.fresh(f"{array}_{counter}"), one.kind, self.depth)
        return True

    def declared(self, size: str, place: str) -> list[str]:
        """Lines that declare what holds elements as arrays; from here on it is used at that place."""
        lines = [f"{self.c(held.kind)} {held.text}{size};" for held in self._held.values()]
        self._held = {array: replace(held, text=held.text + place) for array, held in self._held.items()}
        return lines

    def read(self, loop: ast.For, counter: str) -> list[str]:
        """Lines that read what the loop does not begin with writing."""
        lines = []
        for array, held in self._held.items():
            first = first_use(array, loop.body)
            if not isinstance(first, ast.Assign) or any(self.array(n.value) == array for n in elements(first.value)):
                lines.append(f"{held.text} = {self.load(array, f'{array}[{counter}]').text};")
        return lines

    def release(self, counter: str) -> list[str]:
        """Hold nothing any more; the lines that write back."""
        lines = [
            self.store(array, f"{array}[{counter}]", held.text)
            for array, held in self._held.items()
            if self.parameters[array].written
        ]
        self._held, self._counter = {}, None
        return lines

    def held(self, array: str) -> str:
        """The variable that holds the array's element."""
        return self._held[array].text


def result_kind(function: Callable[..., Any]) -> str:
    """The kind that a helper returns."""
    tree = definition(function)
    text = ast.unparse(tree.returns) if tree.returns else ""
    found = ANNOTATIONS.get(text)
    if found is None or found.array:
        refuse(tree, "a helper is annotated with the kind of number that it returns")
    return found.kind
