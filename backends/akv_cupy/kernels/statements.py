"""Statements of the subset to lines of C, as far as loops and helpers have them in common; and helpers."""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from akv_cupy.kernels.elements import Elements, Variable, result_kind
from akv_cupy.kernels.expressions import Term
from akv_cupy.kernels.kinds import DOUBLE, FLOATS
from akv_cupy.kernels.subset import definition, refuse, statements

__all__ = ["Scalar", "Statements"]


class Statements(Elements):
    """What loops and helpers have in common: assignments and branches."""

    def __init__(self, function: Callable[..., Any], work: np.dtype[Any], memory: Mapping[str, np.dtype[Any]]) -> None:
        super().__init__(function, work, memory)
        self.lines: list[str] = []
        self.zeros: set[str] = set()  # variables that are still 0.0, so that each thread may add to one of its own

    def emit(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    @contextmanager
    def braces(self, head: str) -> Generator[None]:
        """What is assigned first between braces is known there only."""
        self.emit(f"{head} {{")
        names, self.depth = dict(self.names), self.depth + 1
        yield
        self.names, self.depth = names, self.depth - 1
        self.emit("}")

    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            translate = getattr(self, f"_do_{type(statement).__name__.lower()}", None)
            if translate is None:
                refuse(statement, f"{type(statement).__name__} is outside the subset that kernels are written in")
            translate(statement)

    def _do_assign(self, node: ast.Assign) -> None:
        if len(node.targets) != 1:
            refuse(node, "one target at a time")
        (target,) = node.targets
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Attribute) and self.is_work_type(node.value):
            self.name_type(target.id)
        elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            self._assign_together(node, target.elts, node.value.elts)
        else:
            self.assign(target, self.term(node.value), node)

    def _assign_together(self, node: ast.Assign, targets: list[ast.expr], values: list[ast.expr]) -> None:
        if len(targets) != len(values) or not all(isinstance(target, ast.Name) for target in targets):
            refuse(node, "as many names as values")
        terms = [self.term(value) for value in values]
        # Python works out all values before the first target changes.
        if any(self._assignable(target, term) for target, term in zip(targets, terms, strict=True)):
            refuse(node, "variables that change are assigned one by one")
        for target, term in zip(targets, terms, strict=True):
            self.assign(target, term, node)

    def _do_augassign(self, node: ast.AugAssign) -> None:
        old, new = self.term(node.target), self.term(node.value)
        if isinstance(node.op, ast.Add) and old.kind == DOUBLE and new.kind in FLOATS:
            term = Term(f"({old.text} + {new.text})", DOUBLE)  # a sum may be wider than what is added up
        else:
            term = self.term(ast.copy_location(ast.BinOp(node.target, node.op, node.value), node))
        self.assign(node.target, term, node)

    def assign(self, target: ast.expr, term: Term, node: ast.stmt) -> None:
        """Give a name or an element its value."""
        if isinstance(target, ast.Subscript):
            self.put(target, term)
        elif not isinstance(target, ast.Name):
            refuse(node, "what is assigned to is a name or an element")
        elif target.id in self.parameters and self.parameters[target.id].array:
            refuse(node, "an array stays what it is")
        elif self._assignable(target, term):
            self.change(self.names[target.id], target.id, term, node)
        else:
            self._declare(target, term, node)

    def _assignable(self, target: ast.expr, term: Term) -> bool:
        old = self.names.get(target.id) if isinstance(target, ast.Name) else None
        return old is not None and old.depth > 0 and old.kind == term.kind

    def _declare(self, target: ast.Name, term: Term, node: ast.stmt) -> None:
        old = self.names.get(target.id)
        if old is not None and (old.fixed or 0 < old.depth < self.depth):
            refuse(node, f"a variable from outside this block keeps its kind, here {old.kind}, and a counter its value")
        name = self.fresh(target.id)
        self.emit(f"{self.c(term.kind)} {name} = {term.text};")
        self.names[target.id] = Variable(name, term.kind, self.depth)
        if term.text == "0.0":
            self.zeros.add(name)

    def change(self, variable: Variable, name: str, term: Term, node: ast.stmt) -> None:
        """Give a variable that C knows another value."""
        if variable.fixed:
            refuse(node, "a loop's counter keeps its value")
        self.zeros.discard(variable.text)
        self.emit(f"{variable.text} = {term.text};")

    def put(self, target: ast.Subscript, term: Term) -> None:
        """Give an element its value."""
        refuse(target, "a helper changes no arrays")

    def _do_if(self, node: ast.If) -> None:
        with self.braces(f"if ({self.condition(node.test)})"):
            self.run(node.body)
        if node.orelse:
            with self.braces("else"):
                self.run(node.orelse)


class Scalar(Statements):
    """A helper: numbers in, one number out."""

    def __init__(self, function: Callable[..., Any], work: np.dtype[Any]) -> None:
        super().__init__(function, work, {})
        self.result = result_kind(function)
        self.run(statements(definition(function)))

    def _do_return(self, node: ast.Return) -> None:
        term = self.term(node.value) if node.value is not None else None
        if term is None or term.kind != self.result:
            refuse(node, f"returns {term.kind if term else 'nothing'} instead of {self.result}")
        self.emit(f"return {term.text};")
