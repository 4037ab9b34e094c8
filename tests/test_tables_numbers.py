"""The numbers of a table: by the written formulas, evenly and normally spread, the same in any order."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import akv
from akv import init
from akv.init.counters import starts, units
from akv.init.quantile import quantile

quick = settings(max_examples=200, deadline=None)
MASK = 2**64 - 1
UNIFORM = ["0x1.c5a614bbf55e4p-2", "0x1.32982fe99c764p-2"]
NORMAL = ["0x1.80e93de13f091p-8", "0x1.f8004a02e2631p-9"]
GAMMA = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    """Written down once more, in Python's integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def unit(seed: int, row: int, column: int) -> float:
    start = mix((seed + (row + 1) * GAMMA) & MASK)
    return ((mix((start + (column + 1) * GAMMA) & MASK) >> 12) + 0.5) / 2**52


def chi_square(values: np.ndarray, bins: int = 256) -> float:
    """How far a sample of the unit interval is from even, in standard deviations of that distance."""
    counts = np.bincount((values.ravel() * bins).astype(np.int64), minlength=bins)
    expected = values.size / bins
    return float((((counts - expected) ** 2 / expected).sum() - (bins - 1)) / math.sqrt(2 * (bins - 1)))


def test_splitmix64() -> None:
    """The outputs that the authors' own program gives for the seed 1234567."""
    assert [mix((1234567 + n * GAMMA) & MASK) for n in (1, 2, 3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@quick
@given(st.integers(0, MASK), st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), st.integers(1, 5))
def test_the_written_formula(seed: int, rows: list[int], columns: int) -> None:
    found = units(starts(seed, np.array(rows)), columns)
    assert found.tolist() == [[unit(seed, row, column) for column in range(columns)] for row in rows]


@quick
@given(st.data())
def test_a_row_is_the_same_in_any_company(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(1000, 3), (1000,), (1000, 2, 2), (10**12, 4)]))
    make = data.draw(st.sampled_from([init.uniform, init.normal]))
    table = make(shape, data.draw(st.sampled_from(["f2", "f4", "f8"])), seed=data.draw(st.integers(0, MASK)))
    ids = data.draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=20, unique=True))
    together = table.generate(np.array(ids))
    assert together.dtype == table.dtype
    assert together.shape == (len(ids), *shape[1:])
    for row, alone in zip(ids, together, strict=True):
        assert table.rows([row]).tobytes() == alone.tobytes()


def test_blocks_do_not_show() -> None:
    table = init.normal((5000, 7), seed=3)
    assert table.todense().tobytes() == b"".join(table.rows([row]).tobytes() for row in range(5000))


def test_the_numbers_stay_what_they_are() -> None:
    """Tables that were saved count on it."""
    uniform, normal = init.uniform((9, 2), "f8", -1, 1, seed=7), init.normal((9, 2), "f8", seed=7)
    assert uniform.rows([8]).tolist() == [[2 * unit(7, 8, column) - 1 for column in (0, 1)]]
    assert [value.hex() for value in uniform.rows([0])[0]] == UNIFORM
    assert [value.hex() for value in normal.rows([0])[0]] == NORMAL


@pytest.mark.parametrize("seed", [0, 1, 2**63, MASK])
def test_even_spread(seed: int) -> None:
    values = units(starts(seed, np.arange(20_000)), 16)
    assert values.min() > 0
    assert values.max() < 1
    assert abs(chi_square(values)) < 5
    # Any one column, and any one row, and neighbours of either kind.
    assert abs(chi_square(values[:, 3])) < 5
    assert abs(chi_square(units(starts(seed, np.array([12345])), 200_000))) < 5
    for one, other in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1]), (values[1:, 1:], values[:-1, :-1])):
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) * math.sqrt(one.size) < 5
        assert abs(chi_square((one + other) % 1)) < 5


def test_seeds_differ() -> None:
    first, second = (units(starts(seed, np.arange(20_000)), 16) for seed in (1, 2))
    assert not np.isin(first, second).any()
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) * math.sqrt(first.size) < 5


def test_every_bit_is_fair() -> None:
    words = (units(starts(5, np.arange(20_000)), 16) * 2**52).astype(np.uint64)
    ones = np.array([np.count_nonzero(words >> np.uint64(bit) & np.uint64(1)) for bit in range(52)])
    assert (abs(ones - words.size / 2) < 5 * math.sqrt(words.size) / 2).all()


def test_quantiles() -> None:
    """Against those of the standard library, which has them to all digits."""
    p = np.concatenate([np.linspace(1e-6, 1 - 1e-6, 5001), 2.0 ** -np.arange(2, 53), 1 - 2.0 ** -np.arange(2, 53)])
    expected = np.array([statistics.NormalDist().inv_cdf(one) for one in p])
    np.testing.assert_allclose(quantile(p), expected, rtol=2e-7, atol=1e-9)
    exact = np.arange(1, 4096) / 4096
    np.testing.assert_array_equal(quantile(1 - exact), -quantile(exact))


def test_normal_spread() -> None:
    values = (init.normal((20_000, 16), "f8", 3, 2, seed=1).todense().ravel() - 3) / 2
    size = values.size
    assert abs(values.mean()) * math.sqrt(size) < 5
    assert abs(values.var() - 1) * math.sqrt(size / 2) < 5
    assert abs((values**3).mean()) * math.sqrt(size / 15) < 5
    assert abs((values**4).mean() - 3) * math.sqrt(size / 96) < 5
    # Kolmogorov and Smirnov: the greatest distance from the distribution function.
    ranked = np.sort(values)[::16]
    cumulated = np.array([statistics.NormalDist().cdf(value) for value in ranked])
    assert abs(cumulated - np.arange(len(ranked)) * 16 / size).max() * math.sqrt(size) < 2


def test_defaults_are_those_of_mxnet() -> None:
    assert init.uniform((2,)).initialiser == init.Uniform(low=-0.07, high=0.07, seed=0)
    assert init.normal((2,)).initialiser == init.Normal(mean=0.0, std=0.01, seed=0)
    assert init.zeros((2,)) == init.Table((2,), np.dtype(np.float32), init.Zeros())


@quick
@given(st.data())
def test_descriptions_travel(data: st.DataObject) -> None:
    numbers = st.floats(-100, 100)
    seed = data.draw(st.integers(0, MASK))
    low, high = sorted((data.draw(numbers), data.draw(numbers)))
    one = data.draw(
        st.sampled_from(
            [init.Zeros(), init.Uniform(low=low, high=high, seed=seed), init.Normal(mean=low, std=abs(high), seed=seed)]
        )
    )
    description = one.to_dict()
    assert init.from_dict(json.loads(json.dumps(description))) == one
    assert init.from_dict(msgpack.unpackb(msgpack.packb(description))) == one
    assert hash(init.from_dict(description)) == hash(one)
    assert {type(value) for value in description.values()} <= {str, int, float}


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: init.uniform((3,), np.int32), akv.DTypeMismatch, "int32.*real floating"),
        (lambda: init.normal((3,), np.complex64), akv.DTypeMismatch, "complex64"),
        (lambda: init.zeros((3,), object), akv.DTypeMismatch, "cannot hold object"),
        (lambda: init.zeros((3,), "nonsense"), akv.DTypeMismatch, "'nonsense' is no dtype"),
        (lambda: init.uniform((3,), low=2, high=1), akv.InvalidArgument, "low=2.0 and high=1.0"),
        (lambda: init.uniform((3,), low=-1e308, high=1e308), akv.InvalidArgument, "no interval"),
        (lambda: init.uniform((3,), np.float16, high=1e6), akv.InvalidArgument, "beyond float16"),
        (lambda: init.normal((3,), std=-1), akv.InvalidArgument, r"std=-1 is outside \[0, inf\)"),
        (lambda: init.normal((3,), mean=math.nan), akv.InvalidArgument, "mean=nan"),
        (lambda: init.normal((3,), std=True), akv.InvalidArgument, "std=True is not a number"),
        (lambda: init.normal((3,), seed=-1), akv.InvalidArgument, "seed=-1"),
        (lambda: init.normal((3,), seed=2**64), akv.InvalidArgument, "seed=18446744073709551616"),
        (lambda: init.normal((3,), seed=1.5), akv.InvalidArgument, "seed=1.5 is not a whole number"),
        (lambda: init.zeros(()), akv.InvalidArgument, "1 to 64 dimensions"),
        (lambda: init.zeros(3), akv.InvalidArgument, "sequence of sizes, not 3"),
        (lambda: init.zeros((3, -1)), akv.InvalidArgument, "none negative"),
        (lambda: init.zeros((2**62, 2)), akv.InvalidArgument, "larger than any store"),
        (lambda: init.Table((3,), np.dtype("f4"), "zeros"), akv.InvalidArgument, "'zeros' is no initialiser"),
        (lambda: init.from_dict({"name": "ones"}), akv.InvalidArgument, "'ones'; there are normal, uniform, zeros"),
        (lambda: init.from_dict({"name": "zeros", "seed": 1}), akv.InvalidArgument, "no parameter seed"),
        (lambda: init.from_dict([]), akv.InvalidArgument, r"not \[\]"),
        (lambda: init.from_dict({"name": ["zeros"]}), akv.InvalidArgument, "no initialiser"),
        (lambda: init.zeros((3,)).rows([3]), akv.RowOutOfRange, "no row 3"),
    ],
    ids=str,
)
def test_what_makes_no_sense(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


def test_dtypes() -> None:
    assert init.zeros((3,), ">i4").dtype == np.dtype("<i4")
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    table = init.normal((100, 8), bfloat16, seed=1)
    wide = init.normal((100, 8), np.float64, seed=1).todense()
    np.testing.assert_allclose(table.todense().astype(np.float64), wide, rtol=2**-7)
