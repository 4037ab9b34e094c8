"""Expressions of the subset to typed C expressions."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from akv_cupy.kernels.kinds import BOOL, DOUBLE, FLOATS, INT, REAL, SINGLE, spelled
from akv_cupy.kernels.subset import refuse

__all__ = ["Expressions", "Term"]

_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_BITS: dict[type[ast.operator], str] = {
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.LShift: "<<",
    ast.RShift: ">>",
}
_COMPARED: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_FUNCTIONS = {"math.sqrt": "sqrt", "abs": "fabs", "np.rint": "rint"}
_CHOICES = {"min": "<", "max": ">"}
_CASTS = {
    "np.float32": SINGLE,
    "np.uint8": "uint8",
    "np.int8": "int8",
    "np.uint16": "uint16",
    "np.uint32": "uint32",
    "int": INT,
}
_VIEWS = {(SINGLE, "uint32"): "__float_as_uint", ("uint32", SINGLE): "__uint_as_float"}


class Term(NamedTuple):
    """A C expression that needs no parentheses around it, and its kind."""

    text: str
    kind: str


class Expressions(ABC):
    """What translates expressions, given names and array elements by the statements around them."""

    work: np.dtype[Any]

    @abstractmethod
    def name(self, node: ast.Name) -> Term: ...

    @abstractmethod
    def element(self, node: ast.Subscript) -> Term: ...

    @abstractmethod
    def is_work_type(self, node: ast.expr) -> bool:
        """Whether the node is `array.dtype.type`, or a name given to it."""

    @abstractmethod
    def helper(self, node: ast.Call) -> tuple[str, list[str], str] | None:
        """C name, kinds of the parameters and kind of the result of the helper called, if it is one."""

    def term(self, node: ast.expr) -> Term:
        """The C expression for a Python expression; raises NotTranslatable."""
        translate = getattr(self, f"_{type(node).__name__.lower()}", None)
        if translate is None:
            refuse(node, f"{type(node).__name__} is outside the subset that kernels are written in")
        result: Term = translate(node)
        return result

    def condition(self, node: ast.expr) -> str:
        """The C expression for whether a Python expression is true."""
        term = self.term(node)
        return term.text if term.kind == BOOL else f"({term.text} != 0)"

    def c(self, kind: str) -> str:
        return spelled(kind, self.work)

    def _name(self, node: ast.Name) -> Term:
        return self.name(node)

    def _subscript(self, node: ast.Subscript) -> Term:
        return self.element(node)

    def _constant(self, node: ast.Constant) -> Term:
        value = node.value
        if type(value) is int and abs(value) < 2**63:
            return Term(f"{value}LL", INT)
        if type(value) is float and np.isfinite(value):
            return Term(repr(value), DOUBLE)
        refuse(node, "constants are finite floats and 64-bit integers")

    def _unaryop(self, node: ast.UnaryOp) -> Term:
        if isinstance(node.op, ast.Not):
            return Term(f"(!{self.condition(node.operand)})", BOOL)
        term = self.term(node.operand)
        if not isinstance(node.op, ast.USub) or term.kind not in FLOATS | {INT}:
            refuse(node, f"this sign does not go with {term.kind}")
        return Term(f"(-{term.text})", term.kind)

    def _binop(self, node: ast.BinOp) -> Term:
        left, right = self.term(node.left), self.term(node.right)
        operator, kind = type(node.op), self._same(node, left, right)
        if operator in _BITS and kind not in FLOATS | {BOOL}:
            # C widens small unsigned integers to int.
            return Term(f"(({self.c(kind)})({left.text} {_BITS[operator]} {right.text}))", kind)
        if operator not in _ARITHMETIC or kind == BOOL or (operator is ast.Div and kind not in FLOATS):
            refuse(node, f"no such operation on {kind}: Python and C may differ")
        text = f"({left.text} {_ARITHMETIC[operator]} {right.text})"
        return Term(text if kind in FLOATS | {INT} else f"(({self.c(kind)}){text})", kind)

    def _same(self, node: ast.expr, left: Term, right: Term) -> str:
        if left.kind != right.kind:
            refuse(node, f"{left.kind} with {right.kind}: numpy, numba and C widen differently, so cast one explicitly")
        return left.kind

    def _compare(self, node: ast.Compare) -> Term:
        if len(node.ops) != 1 or type(node.ops[0]) not in _COMPARED:
            refuse(node, "one comparison at a time, of <, <=, >, >=, ==, !=")
        left, right = self.term(node.left), self.term(node.comparators[0])
        self._same(node, left, right)
        return Term(f"({left.text} {_COMPARED[type(node.ops[0])]} {right.text})", BOOL)

    def _boolop(self, node: ast.BoolOp) -> Term:
        terms = [self.term(value) for value in node.values]
        if any(term.kind != BOOL for term in terms):
            refuse(node, "`and` and `or` take comparisons; of other values Python returns one of them")
        joined = (" && " if isinstance(node.op, ast.And) else " || ").join(term.text for term in terms)
        return Term(f"({joined})", BOOL)

    def _ifexp(self, node: ast.IfExp) -> Term:
        test, yes, no = self.condition(node.test), self.term(node.body), self.term(node.orelse)
        return Term(f"({test} ? {yes.text} : {no.text})", self._same(node, yes, no))

    def _call(self, node: ast.Call) -> Term:
        if node.keywords:
            refuse(node, "arguments have no names here")
        if self.is_work_type(node.func):
            return self._cast(node, REAL)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "view":
            return self._view(node, node.func.value)
        called = ast.unparse(node.func)
        if called in _CASTS:
            return self._cast(node, _CASTS[called])
        return self._function(node, called)

    def _function(self, node: ast.Call, called: str) -> Term:
        found = self.helper(node)
        if found is not None:
            return self._helped(node, *found)
        terms = [self.term(argument) for argument in node.args]
        if called in _FUNCTIONS and len(terms) == 1 and terms[0].kind in FLOATS:
            suffix = "f" if self.c(terms[0].kind) == "float" else ""
            return Term(f"{_FUNCTIONS[called]}{suffix}({terms[0].text})", terms[0].kind)
        # Not of floats: of a NaN and a number Python takes the first, C's fmin the number.
        if called in _CHOICES and [term.kind for term in terms] == [INT, INT]:
            (one, _), (other, _) = terms
            return Term(f"({one} {_CHOICES[called]} {other} ? {one} : {other})", INT)
        refuse(node, f"{called} of {[term.kind for term in terms]} is outside the subset that kernels are written in")

    def _helped(self, node: ast.Call, name: str, kinds: list[str], result: str) -> Term:
        terms = [self.term(argument) for argument in node.args]
        if [term.kind for term in terms] != kinds:
            refuse(node, f"takes {kinds}, not {[term.kind for term in terms]}")
        return Term(f"{name}({', '.join(term.text for term in terms)})", result)

    def _cast(self, node: ast.Call, kind: str) -> Term:
        if len(node.args) != 1:
            refuse(node, "a cast takes one value")
        return Term(f"(({self.c(kind)}){self.term(node.args[0]).text})", kind)

    def _view(self, node: ast.Call, value: ast.expr) -> Term:
        kind = _CASTS.get(ast.unparse(node.args[0])) if len(node.args) == 1 else None
        term = self.term(value)
        intrinsic = _VIEWS.get((term.kind, str(kind)))
        if intrinsic is None or kind is None:
            refuse(node, f"no view of {term.kind}, only np.float32(x).view(np.uint32) and back")
        return Term(f"{intrinsic}({term.text})", kind)
