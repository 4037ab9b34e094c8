"""What is outside the subset of Python is refused when a kernel is made, with the line and the reason."""

from __future__ import annotations

import math
import re
from typing import Any

import cupy_kernels as cases
import numpy as np
import pytest

from akv_cupy import kernels
from akv_cupy.kernels import NotTranslatable
from akv_cupy.kernels.kinds import Count, Number, Read, ReadIndices, Real, Single, Written, WrittenBytes

team = range


def without_a_loop(out: Written, a: Read) -> None:
    """Nothing in it."""


def calls_numpy(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = np.sin(a[i])


def slices(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i:]


def tries(out: Written, a: Read) -> None:
    try:
        out[0] = a[0]
    finally:
        pass


def runs_while(out: Written, a: Read) -> None:
    for i in range(out.size):
        while a[i] > a[0]:
            out[i] = a[i]


def breaks(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i]
        break


def steps(out: Written, a: Read) -> None:
    for i in range(0, 10, 2):
        out[i] = a[i]


def walks(out: Written, a: Read) -> None:
    for x in a:
        out[0] = x


def two_loops(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i]
    for i in range(out.size):
        out[i] = a[i]


def double_with_real(out: Written, a: Read, rate: Number) -> None:
    for i in range(out.size):
        out[i] = a[i] * rate


def literal_with_real(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] * 0.5


def compares_kinds(out: Written, a: Read) -> None:
    real = out.dtype.type
    for i in range(out.size):
        out[i] = real(1.0) if a[i] > 0 else real(0.0)


def stores_double(out: Written, a: Read, rate: Number) -> None:
    for i in range(out.size):
        out[i] = rate


def writes_what_is_read(out: Written, a: Read) -> None:
    for i in range(out.size):
        a[i] = out[i]


def divides_integers(out: Written, a: Read, width: Count) -> None:
    for i in range(out.size):
        out[i] = a[i // width]


def remainder(out: Written, a: Read, width: Count) -> None:
    for i in range(out.size):
        out[i] = a[i % width]


def power(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] ** a[i]


def smaller_of_floats(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = min(out[i], a[i])


def chained(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] if a[i] < out[i] < a[i] else out[i]


def either(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] or out[i]


def keyword(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = abs(x=a[i])


def unknown_name(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i] * math.pi


def from_a_branch(out: Written, a: Read) -> None:
    for i in range(out.size):
        if a[i] > out[i]:
            late = a[i]
        out[i] = late


def after_the_loop(out: Written, a: Read) -> None:
    for i in range(out.size):
        last = a[i]
        out[i] = last
    out[0] = last


def carries(out: Written, a: Read) -> None:
    real = out.dtype.type
    total = real(0.0)
    for i in range(out.size):
        total = total + a[i]
        out[i] = total


def begins_elsewhere(out: Written, a: Read) -> None:
    total = 1.0
    for i in range(out.size):
        total += a[i]
    out[0] += out[0]


def counts_on(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i]
        i = i + 1


def changes_kind(out: Written, a: Read) -> None:
    real = out.dtype.type
    for i in range(out.size):
        x = a[i]
        for _ in range(2):
            x = 1.0
        out[i] = real(x)


def swaps(out: Written, a: Read) -> None:
    for i in range(out.size):
        x, y = a[i], out[i]
        x, y = y, x
        out[i] = x


def returns_late(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[i]
        return


def returns_something(out: Written, a: Read) -> Any:
    if a.size == 0:
        return out
    for i in range(out.size):
        out[i] = a[i]
    return None


def without_annotation(out: Written, a) -> None:  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = a[i]


def unknown_annotation(out: Written, a: Any) -> None:
    for i in range(out.size):
        out[i] = a[i]


def real_index(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = a[a[i]]


def byte_of_an_integer(out: WrittenBytes, a: ReadIndices) -> None:
    for i in range(out.size):
        out[i] = a[i]


def team_in_a_team(out: Written, rows: ReadIndices, width: Count) -> None:
    for r in range(rows.size):
        for c in team(width):
            for d in team(width):
                out[r + c] = out[r + d]


def team_in_a_branch(out: Written, a: Read, rows: ReadIndices, width: Count) -> None:
    for r in range(rows.size):
        if rows[r] > 0:
            for c in team(width):
                out[r + c] = a[c]


def another_threads_element(out: Written, rows: ReadIndices, width: Count) -> None:
    for r in range(rows.size):
        for c in team(width):
            out[r + c] = out[r + c + 1]


def other_bounds(out: Written, a: Read, rows: ReadIndices, width: Count) -> None:
    for r in range(rows.size):
        for c in team(width):
            out[c] = a[c + r]
        for c in team(1, width):
            out[c] = out[c] + a[c]


def shared_between_rows(out: Written, a: Read, rows: ReadIndices, width: Count) -> None:
    total = 0.0
    for r in range(rows.size):
        for c in team(width):
            total += a[c]
            out[c + r] = a[c]


def combined_in_two_ways(out: Written, a: Read, rows: ReadIndices, width: Count) -> None:
    for r in range(rows.size):
        total = 0.0
        for c in team(width):
            total += a[c]
            total = total * 2.0
            out[c + r] = a[c]


def wrong_helper_call(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = half_of(a[i], a[i])


def half_of(value: Single) -> Single:
    return value


def calls_a_writer(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = writer(a[i])


def writer(value: Real) -> Real:
    team[0] = value  # type: ignore[index]
    return value


def calls_what_returns_another(out: Written, a: Read) -> None:
    for i in range(out.size):
        out[i] = returns_another(a[i])


def returns_another(value: Real) -> Real:
    return 1.0


REFUSED = {
    without_a_loop: "a kernel has a loop",
    calls_numpy: "np.sin",
    slices: "Slice",
    tries: "Try",
    runs_while: "While",
    breaks: "Break",
    steps: "from 0 or an integer to an integer",
    walks: "a loop is",
    two_loops: "one loop over all",
    double_with_real: "real with float64",
    literal_with_real: "real with float64",
    compares_kinds: "real with int64",
    stores_double: "elements are real, not float64",
    writes_what_is_read: "only arrays annotated as written",
    divides_integers: "no such operation on int64",
    remainder: "no such operation on int64",
    power: "no such operation on real",
    smaller_of_floats: "min of",
    chained: "one comparison at a time",
    either: "take comparisons",
    keyword: "arguments have no names",
    unknown_name: "Attribute",
    from_a_branch: "has no value here",
    after_the_loop: "has no value here|written in a loop",
    carries: "threads share a variable only",
    begins_elsewhere: "threads share a variable only",
    counts_on: "counter keeps its value",
    changes_kind: "keeps its kind",
    swaps: "one by one",
    returns_late: "a loop returns nothing",
    returns_something: "Attribute",
    without_annotation: "annotated with one of",
    unknown_annotation: "annotated with one of",
    real_index: "an index is an integer, not real",
    byte_of_an_integer: "elements are uint8, not int64",
    team_in_a_team: "none within another",
    team_in_a_branch: "directly in it",
    another_threads_element: "another thread",
    other_bounds: "another thread",
    shared_between_rows: "threads share",
    combined_in_two_ways: "threads share",
    wrong_helper_call: "takes",
    calls_a_writer: "changes no arrays",
    calls_what_returns_another: "instead of real",
}


@pytest.mark.parametrize(("loop", "reason"), REFUSED.items(), ids=[loop.__name__ for loop in REFUSED])
def test_it_is_refused(loop: Any, reason: str) -> None:
    for dtype in (cases.F4, cases.F8):  # for what it is, never for the dtype asked for
        with pytest.raises(NotTranslatable, match=reason) as error:
            kernels.kernel(loop, dtype)
    first = loop.__code__.co_firstlineno
    found = re.match(r"\S+test_cupy_kernels_subset.py, (\w+), line (\d+), `", str(error.value))
    assert found is not None
    assert found[1] == loop.__name__ or loop.__name__.startswith("calls_")
    if found[1] == loop.__name__:
        assert first <= int(found[2]) < first + 10


def test_what_has_no_source_is_refused() -> None:
    with pytest.raises(NotTranslatable, match="cannot be read as source"):
        kernels.kernel(math.sin, cases.F4)  # type: ignore[arg-type]
    with pytest.raises(NotTranslatable, match="written with def"):
        kernels.kernel(lambda out, a: None, cases.F4)


def new(out: Written, double: Read, int_: Read, weight_i: Read) -> None:
    """Words of C++, and names that the translator makes itself."""
    for i in range(out.size):
        new = double[i]
        register = new + int_[i]
        out_i = register + weight_i[i]
        out[i] = out_i


def test_names_of_c_are_given_others() -> None:
    source = kernels.kernel(new, cases.F4).source
    assert "float new_1 = " in source
    assert "float out_i_1 = " in source
