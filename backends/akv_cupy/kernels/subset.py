"""The part of Python that kernels are written in, as far as it is the same for all of it: source, nodes, refusals."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

from akv.errors import InvalidArgument

__all__ = ["NotTranslatable", "definition", "first_use", "refuse", "statements", "within"]


class NotTranslatable(InvalidArgument):
    """A loop uses Python that no CUDA C is made of, or is ambiguous there; the text names file, line and reason."""

    file: str | None = None


def refuse(node: ast.AST, why: str) -> NoReturn:
    """Raise NotTranslatable for this node of a tree that `definition` made."""
    text = ast.unparse(node).split("\n")[0]
    raise NotTranslatable(f"line {getattr(node, 'lineno', 1)}, `{text[:80]}`: {why}")


@contextmanager
def within(function: Callable[..., Any]) -> Generator[None]:
    """Name the function's file in what is raised meanwhile."""
    try:
        yield
    except NotTranslatable as error:
        if error.file is None and (code := getattr(function, "__code__", None)):
            error.file = code.co_filename
            error.args = (f"{code.co_filename}, {function.__name__}, {error}",)
        raise


@cache
def definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax tree of a function written with `def`; its source has to be there. It is read, never run."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
        tree = ast.increment_lineno(ast.parse(source), function.__code__.co_firstlineno - 1).body[0]
    except (OSError, TypeError, SyntaxError, AttributeError) as error:
        raise NotTranslatable(f"{function!r} cannot be read as source: {error}") from error
    if not isinstance(tree, ast.FunctionDef):
        refuse(tree, "a kernel is a function written with def")
    return tree


def statements(tree: ast.FunctionDef) -> list[ast.stmt]:
    """The body without its docstring."""
    return tree.body[1:] if ast.get_docstring(tree) is not None else tree.body


def elements(node: ast.AST) -> Iterator[ast.Subscript]:
    """Every `array[index]` within a node."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Subscript):
            yield inner


def first_use(name: str, body: Iterable[ast.stmt]) -> ast.stmt | None:
    """The first of these statements with an element of the array in it."""
    for statement in body:
        if any(isinstance(found.value, ast.Name) and found.value.id == name for found in elements(statement)):
            return statement
    return None
