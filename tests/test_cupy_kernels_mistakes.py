"""Mistakes planted in the translator are seen by the comparison of C with Python."""

from __future__ import annotations

import ast
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cupy_kernels as cases
import pytest
from cupy_c import Compiled, compiler

from akv.optim import loops as formulas
from akv_cupy import kernels
from akv_cupy.kernels import Kernel, body, codecs, elements, expressions, kinds, making, recipe, source, statements

Plant = Callable[[pytest.MonkeyPatch], None]
PATIENCE = 20


@pytest.fixture
def planted() -> Iterator[pytest.MonkeyPatch]:
    """Kernels that are made meanwhile are forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        making._made.cache_clear()
        yield patch
    making._made.cache_clear()


def differs(kernel: Kernel, folder: Path, options: tuple[str, ...] = ("-ffp-contract=off",)) -> bool:
    """Whether C and Python disagree on one of some tries."""
    compiled = Compiled([kernel], folder, options)
    try:
        for seed in range(PATIENCE):
            cases.check(compiled.call, kernel, seed, 3 + 5 * seed, 1 + seed % 3, 2 ** (seed % 4))
    except AssertionError:
        return True
    return False


def operator(table: str, name: type[ast.AST], text: str) -> Plant:
    return lambda patch: patch.setitem(getattr(expressions, table), name, text)


def arms_swapped(patch: pytest.MonkeyPatch) -> None:
    right: Any = expressions.Expressions._ifexp

    def wrong(self: Any, node: ast.IfExp) -> Any:
        return right(self, ast.IfExp(node.test, node.orelse, node.body))

    patch.setattr(expressions.Expressions, "_ifexp", wrong)


def casts_forgotten(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, node: ast.Call, kind: str) -> expressions.Term:
        return expressions.Term(self.term(node.args[0]).text, kind)

    patch.setattr(expressions.Expressions, "_cast", wrong)
    patch.setattr(
        expressions.Expressions,
        "c",
        lambda self, kind: "double" if kind == kinds.REAL else kinds.spelled(kind, self.work),
    )


def not_written_back(patch: pytest.MonkeyPatch) -> None:
    right: Any = elements.Elements.release
    patch.setattr(elements.Elements, "release", lambda self, counter: right(self, counter)[:-1])


def written_through(patch: pytest.MonkeyPatch) -> None:
    """Nothing is held: a float16 weight is rounded at every use."""
    patch.setattr(elements.Elements, "hold", lambda self, loop, counter: False)


def never_read(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, loop: ast.For, counter: str) -> list[str]:
        return [f"{held.text} = 1;" for held in self._held.values()]

    patch.setattr(elements.Elements, "read", wrong)


def a_step_of_one_group(patch: pytest.MonkeyPatch) -> None:
    right: Any = statements.Statements.braces

    def wrong(self: Any, head: str) -> Any:
        return right(self, head.replace(f"{body.AT_ONCE} * stride_", "stride_"))

    patch.setattr(statements.Statements, "braces", wrong)


def everybody_begins_at_0(patch: pytest.MonkeyPatch) -> None:
    right: Any = source._share
    patch.setattr(source, "_share", lambda lines: "0, " + right(lines).split(", ", 1)[1])


def one_thread_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(body, "reducer", lambda how, kind: "")


def half_a_tree(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(source, "_REDUCER", source._REDUCER.replace("blockDim.x / 2", "blockDim.x / 4"))


def the_other_half(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(kinds._NARROW, "bfloat16", kinds._NARROW["float16"])


def model_before_update(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(elements.Elements, "held", lambda self, array: self._held["grad"].text)


def sums_of_new_only(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, node: ast.AugAssign) -> None:
        self.assign(node.target, self.term(node.value), node)

    patch.setattr(statements.Statements, "_do_augassign", wrong)


def numbers_in_another_order(patch: pytest.MonkeyPatch) -> None:
    right: Any = source._numbers

    def wrong(how: Any, lines: Any) -> str:
        return str(right(how, lines)).replace("numbers[0]", "numbers[1]")

    patch.setitem(source._FORMS, recipe.NUMBERS, wrong)


ADAM = (formulas.adam, cases.F4, {})
MISTAKES: dict[str, tuple[Plant, tuple[Any, Any, dict[str, Any]]]] = {
    "minus is plus": (operator("_ARITHMETIC", ast.Sub, "+"), ADAM),
    "times is divided by": (operator("_ARITHMETIC", ast.Mult, "/"), ADAM),
    "less is more": (operator("_COMPARED", ast.Lt, ">"), ADAM),
    "more is less": (operator("_COMPARED", ast.Gt, "<"), (formulas.signum, cases.F8, {})),
    "equal is unequal": (operator("_COMPARED", ast.Eq, "!="), (formulas.signsgd, cases.F4, {})),
    "and is or": (operator("_BITS", ast.BitAnd, "|"), (formulas.add, cases.F2, {})),
    "left is right": (operator("_BITS", ast.LShift, ">>"), (formulas.add, cases.B2, {})),
    "a root is none": (lambda patch: patch.setitem(expressions._FUNCTIONS, "math.sqrt", "fabs"), ADAM),
    "arms swapped": (arms_swapped, ADAM),
    "double instead of float": (casts_forgotten, ADAM),
    "not written back": (not_written_back, ADAM),
    "rounded at every use": (written_through, (formulas.add, cases.F2, {})),
    "never read": (never_read, ADAM),
    "a thread's step": (a_step_of_one_group, ADAM),
    "a thread's start": (everybody_begins_at_0, ADAM),
    "one thread's sum": (one_thread_counts, (formulas.lamb_norms, cases.F4, {})),
    "half a block's sum": (half_a_tree, (formulas.lamb_norms, cases.F4, {})),
    "the other half": (the_other_half, (formulas.adam, cases.B2, {})),
    "the wrong copy": (model_before_update, (formulas.adam, cases.F2, {"master": True})),
    "the old value lost": (sums_of_new_only, (formulas.adagrad, cases.F4, {})),
    "numbers mixed up": (numbers_in_another_order, (formulas.adam, cases.F4, {"numbers": True})),
}


@pytest.mark.parametrize(("plant", "asked"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_shows(
    planted: pytest.MonkeyPatch, tmp_path: Path, plant: Plant, asked: tuple[Any, Any, dict[str, Any]]
) -> None:
    loop, dtype, how = asked
    right = kernels.kernel(loop, dtype, **how)
    assert not differs(right, tmp_path)
    making._made.cache_clear()
    plant(planted)
    wrong = kernels.kernel(loop, dtype, **how)
    assert wrong.source != right.source
    folder = tmp_path / "wrong"
    folder.mkdir()
    assert differs(wrong, folder)


def test_contraction_shows(tmp_path: Path) -> None:
    """What --fmad=false is for: rounding a * b + c once gives other bits."""
    if platform.machine() != "x86_64" or "fma" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("needs an x86 with fused multiply-add")
    kernel = kernels.kernel(formulas.adam, cases.F4)
    assert differs(kernel, tmp_path, ("-O2", "-mfma", "-ffp-contract=fast"))


def test_what_does_not_compile_is_an_error(tmp_path: Path) -> None:
    kernel = kernels.kernel(codecs.quantise_int8, cases.F4)
    broken = Kernel(kernel.name, kernel.source.replace(";", ";}", 1), kernel.params, kernel.reference)
    compiler()
    with pytest.raises(subprocess.CalledProcessError):
        Compiled([broken], tmp_path)
