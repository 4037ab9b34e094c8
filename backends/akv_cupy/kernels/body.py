"""A loop to the body of a device function: which loop is cut over what, and what threads may share."""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from akv_cupy.kernels.elements import Variable
from akv_cupy.kernels.expressions import Term
from akv_cupy.kernels.kinds import INT, stored
from akv_cupy.kernels.statements import Statements
from akv_cupy.kernels.subset import definition, elements, refuse, statements

__all__ = ["AT_ONCE", "Body", "reducer"]

# Elements that a thread reads before it writes the first, where each is used at its own index alone. Arrays may be the
# same one, so the compiler does not do it by itself (seen in PTX), and more loads are under way at a time. Not measured
# here; four is what PyTorch's kernels for many tensors take (ATen/native/cuda/MultiTensorApply.cuh).
AT_ONCE = 4


class Body(Statements):
    """A loop.

    Its outermost `for` is cut over all threads. If it has loops over `team(...)` inside, it is cut over the blocks
    instead, and each of those over the threads of a block. A variable from outside may be changed in a loop that is
    cut over threads only by `x += ...` from 0.0 on, or by `x = helper(x, ...)`; the threads' values are then combined.

    Attributes:
        reducers: (how, C type) for each way that values of threads are combined.
        by_block: a block takes one pass of the outermost loop.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        work: np.dtype[Any],
        memory: Mapping[str, np.dtype[Any]],
        model: np.dtype[Any] | None,
    ) -> None:
        """model: the dtype of an array beside the parameters that gets the weight rounded, or None."""
        super().__init__(function, work, memory)
        self.reducers: set[tuple[str, str]] = set()
        self.by_block = False
        self._model = model
        self._parallel = 0  # the depth within the innermost loop that is cut over threads
        self._carried: dict[str, str] = {}
        self._stage = "before"
        self.run(statements(definition(function)))
        if self._stage == "before":
            refuse(definition(function), "a kernel has a loop")
        self._check_races()

    def _do_return(self, node: ast.Return) -> None:
        if self._stage != "before" or node.value is not None:
            refuse(node, "a loop returns nothing, and only before it begins")
        self.emit("return;")

    def _do_for(self, node: ast.For) -> None:
        call = node.iter
        how = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
        if not isinstance(node.target, ast.Name) or how not in ("range", "team") or node.orelse:
            refuse(node, "a loop is `for name in range(...)` or, within it, `in team(...)`")
        assert isinstance(call, ast.Call)
        if self._stage == "before" and self.depth == 1 and how == "range":
            self._outermost(node, node.target.id, call)
        elif self._stage == "in" and how == "range":
            self._one_by_one(node, node.target.id, call)
        elif self.by_block and not self._parallel and self.depth == 2:
            self._over_threads(node, node.target.id, call)
        else:
            refuse(node, "one loop over all, and directly in it loops over team, none within another")

    @contextmanager
    def _counting(self, name: str, start: str, end: str, step: str) -> Generator[str]:
        """The braces of a loop, and its counter in C. Python works the end out once."""
        text = self.fresh(name)
        with self.braces(f"for (long long {text} = {start}, end_ = {end}; {text} < end_; {text} += {step})"):
            self.names[name] = Variable(text, INT, self.depth, fixed=True)
            yield text

    def _outermost(self, node: ast.For, name: str, call: ast.Call) -> None:
        self.by_block = any(isinstance(n, ast.Name) and n.id == "team" for n in ast.walk(node))
        end = self._bounds(call, whole=True)[1]
        self._stage = "in"
        if not self.by_block and self.hold(node, name):
            self._some_at_once(node, name, end)
        else:
            with self._counting(name, "first_", end, "stride_") as counter:
                self._each_alone(node, counter)
        self._combine()
        self._stage = "after"

    def _some_at_once(self, node: ast.For, name: str, end: str) -> None:
        counter = self.fresh(name)
        with self.braces(
            f"for (long long group_ = first_, end_ = {end}; group_ < end_; group_ += {AT_ONCE} * stride_)"
        ):
            for line in self.declared(f"[{AT_ONCE}]", "[lane_]"):
                self.emit(line)
            with self._lanes(name, counter):
                for line in self.read(node, counter):
                    self.emit(line)
            with self._lanes(name, counter):
                self._each_alone(node, counter)

    @contextmanager
    def _lanes(self, name: str, counter: str) -> Generator[None]:
        self.emit("#pragma unroll")
        with self.braces(f"for (int lane_ = 0; lane_ < {AT_ONCE}; ++lane_)"):
            self.emit(f"long long {counter} = group_ + lane_ * stride_;")
            with self.braces(f"if ({counter} < end_)"):
                self.names[name] = Variable(counter, INT, self.depth, fixed=True)
                yield

    def _each_alone(self, node: ast.For, counter: str) -> None:
        self._parallel = 0 if self.by_block else self.depth
        self.run(node.body)
        if self._model is not None:
            text, helper = stored(self.held("weight"), self._model, self.work)
            self.needs(helper)
            self.emit(f"model[{counter}] = {text};")
        for line in self.release(counter):
            self.emit(line)

    def _one_by_one(self, node: ast.For, name: str, call: ast.Call) -> None:
        with self._counting(name, *self._bounds(call), "1"):
            self.run(node.body)

    def _over_threads(self, node: ast.For, name: str, call: ast.Call) -> None:
        start, end = self._bounds(call)
        with self._counting(name, f"{start} + threadIdx.x", end, "blockDim.x"):
            self._parallel = self.depth
            self.run(node.body)
        self._combine()

    def _bounds(self, call: ast.Call, whole: bool = False) -> tuple[str, str]:
        first = call.args[0] if len(call.args) == 1 else None
        if whole and isinstance(first, ast.Attribute) and first.attr == "size" and self.array(first.value):
            return "0LL", "size_"
        terms = [self.term(argument) for argument in call.args]
        if len(terms) not in (1, 2) or any(term.kind != INT for term in terms):
            refuse(call, "a loop runs from 0 or an integer to an integer")
        return (terms[0].text if len(terms) == 2 else "0LL"), terms[-1].text

    def change(self, variable: Variable, name: str, term: Term, node: ast.stmt) -> None:
        if self._stage == "in" and variable.depth < (self._parallel or 2):
            self._carry(variable, name, node)
        super().change(variable, name, term, node)

    def _carry(self, variable: Variable, name: str, node: ast.stmt) -> None:
        """A variable from outside a loop that is cut over threads: how the values of the threads are combined."""
        how = ""
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            how = "+" if variable.text in self.zeros or self._carried.get(name) == "+" else ""
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and self.helper(node.value):
            kept = ast.unparse(node.value.args[0]) == name
            how = ast.unparse(node.value.func) if kept and len(node.value.args) == 2 else ""
        near = bool(self._parallel) and variable.depth == (2 if self.by_block else 1)
        if not near or not how or self._carried.get(name, how) != how:
            refuse(node, "threads share a variable only as `x += ...` from 0.0 on, or `x = helper(x, ...)`, in one way")
        self._carried[name] = how

    def _combine(self) -> None:
        self._parallel = 0
        for name, how in self._carried.items():
            variable = self.names[name]
            self.reducers.add((how, self.c(variable.kind)))
            self.emit(f"{variable.text} = {reducer(how, self.c(variable.kind))}({variable.text});")
        self._carried = {}

    def put(self, target: ast.Subscript, term: Term) -> None:
        array = self.array(target.value)
        if array is None or not self.parameters[array].written:
            refuse(target, "only arrays annotated as written are")
        if self.parameters[array].kind != term.kind:
            refuse(target, f"elements are {self.parameters[array].kind}, not {term.kind}")
        if self._stage == "before" or (self._stage == "after" and not self.reducers):
            refuse(target, "elements are written in a loop, or after it where it has worked something out")
        held = self._holding(array, target)
        if held is not None:
            self.emit(f"{held.text} = {term.text};")
            return
        alone = "" if self._parallel else "if (threadIdx.x == 0) "
        self.emit(alone + self.store(array, self.place(array, target), term.text))

    def _check_races(self) -> None:
        """Where a block works together, an element that is written is read by the thread that writes it alone."""
        if not self.by_block:
            return
        found: dict[str, list[tuple[str, ast.Subscript]]] = {}
        for loop in ast.walk(definition(self.function)):
            if isinstance(loop, ast.For):
                for node in elements(loop):
                    found.setdefault(self.array(node.value) or "", []).append((ast.unparse(loop.iter), node))
        for name, one in self.parameters.items():
            self._check_race(one.written, [(cut, node) for cut, node in found.get(name, []) if "team" in cut])

    def _check_race(self, written: bool, uses: list[tuple[str, ast.Subscript]]) -> None:
        reads = [node for _, node in uses if isinstance(node.ctx, ast.Load)]
        if written and reads and len({(cut, ast.unparse(node.slice)) for cut, node in uses}) > 1:
            refuse(reads[0], "another thread may write what is read here: use one index, in loops over the same range")


def reducer(how: str, c_type: str) -> str:
    """The C function that combines the values of a block's threads."""
    return f"akv_block_{'sum' if how == '+' else how}_{c_type.replace(' ', '_')}"
