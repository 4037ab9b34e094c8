"""RowSparse, its merge and the ids of a row_sparse_pull, against the dense arithmetic they stand for."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from akv.errors import DTypeMismatch, InvalidArgument, NotAnArray, RowOutOfRange, ShapeMismatch
from akv.values.dtypes import accumulator
from akv.values.rowsparse import RowSparse, merge, row_ids

DTYPES = [
    np.dtype(kind) for kind in ("?", "i1", "u8", "f2", "f4", "f8", "c8", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)
]
SHAPES = st.tuples(st.integers(0, 6)) | st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, 2))


@st.composite
def tables(draw: st.DrawFn, shape: tuple[int, ...] | None = None, dtype: np.dtype | None = None) -> RowSparse:
    shape = draw(SHAPES) if shape is None else shape
    dtype = draw(st.sampled_from(DTYPES)) if dtype is None else dtype
    ids = draw(st.lists(st.integers(0, shape[0] - 1), max_size=9)) if shape[0] else []
    # Bytes that are a float32 cover zeros of both signs, subnormals, and overflow in the small dtypes.
    floats = draw(hnp.arrays(np.float32, (len(ids), *shape[1:]), elements=st.floats(width=32, allow_nan=False)))
    with np.errstate(all="ignore"):
        return RowSparse(ids, floats.astype(dtype), shape)


@st.composite
def several(draw: st.DrawFn) -> list[RowSparse]:
    shape, dtype = draw(SHAPES), draw(st.sampled_from(DTYPES))
    return draw(st.lists(tables(shape, dtype), min_size=2, max_size=4))


def bits(array: np.ndarray) -> bytes:
    """The bytes, with one NaN for all NaNs: which payload survives an addition is the processor's affair."""
    wide = array.astype(np.complex128)
    return array[~np.isnan(wide)].tobytes() + np.isnan(wide).tobytes()


def slow_dense(table: RowSparse) -> np.ndarray:
    wide = np.zeros(table.shape, accumulator(table.dtype))
    present = set()
    with np.errstate(all="ignore"):
        for row, value in zip(table.indices, table.values, strict=True):
            wide[row] = wide[row] + value if row in present else value
            present.add(row)
        return wide.astype(table.dtype)


# ---- one table


@given(tables())
def test_todense_sums_repeats_in_the_order_given(table: RowSparse) -> None:
    dense = table.todense()
    assert (dense.shape, dense.dtype) == (table.shape, table.dtype)
    assert bits(dense) == bits(slow_dense(table))


@given(tables())
def test_canonical_is_sorted_unique_idempotent_and_the_same_table(table: RowSparse) -> None:
    unique = table.canonical()
    np.testing.assert_array_equal(unique.indices, np.unique(table.indices))
    assert unique.canonical() is unique
    assert (unique.shape, unique.dtype) == (table.shape, table.dtype)
    assert bits(unique.todense()) == bits(table.todense())


@pytest.mark.parametrize("columns", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_thousands_of_repeats_are_summed_in_the_order_given(columns: tuple[int, ...], dtype: Any) -> None:
    random = np.random.default_rng(0)
    ids = random.zipf(1.3, 3000) % 100
    table = RowSparse(ids, random.standard_normal((3000, *columns)).astype(dtype), (100, *columns))
    assert np.bincount(ids).max() > 500
    assert bits(table.todense()) == bits(slow_dense(table))


@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_side=0, max_dims=3, max_side=4), elements=st.sampled_from([0, 1, np.nan])
    )
)
def test_from_dense_keeps_the_rows_that_are_not_zero(dense: np.ndarray) -> None:
    table = RowSparse.from_dense(dense)
    np.testing.assert_array_equal(table.todense(), dense)
    assert table.indices.tolist() == [row for row in range(len(dense)) if np.any(dense[row] != 0)]
    assert table.canonical() is table
    assert not np.shares_memory(table.values, dense)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_from_dense_takes_every_dtype(dtype: np.dtype) -> None:
    dense = np.array([[0, 0], [0, 1], [0, 0]]).astype(dtype)
    table = RowSparse.from_dense(dense)
    assert (table.indices.tolist(), table.dtype) == ([1], dtype)


def test_from_dense_needs_rows() -> None:
    with pytest.raises(ShapeMismatch, match="0-d"):
        RowSparse.from_dense(np.float32(1))


def test_arrays_are_kept_without_a_copy() -> None:
    ids, values = np.array([2, 0]), np.ones((2, 4))
    table = RowSparse(ids, values, (3, 4))
    assert table.indices is ids
    assert table.values is values
    assert table.nbytes == 16 + 64
    assert repr(table) == "RowSparse(2 rows of float64 (3, 4))"
    assert table != RowSparse(ids, values, (3, 4))


def test_foreign_arrays_and_sizes_are_taken() -> None:
    torch = pytest.importorskip("torch")
    gradient = torch.eye(3).to_sparse(1).coalesce()
    table = RowSparse(gradient.indices()[0], gradient.values().bfloat16(), gradient.shape)
    assert table.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(table.todense().astype(np.float32), np.eye(3))


@pytest.mark.parametrize(
    ("indices", "values", "shape", "error", "text"),
    [
        ([0], np.ones(1), (), InvalidArgument, "at least one dimension"),
        ([0], np.ones(1), (-1,), InvalidArgument, "no negative size"),
        ([0], np.ones(1), (1.5,), InvalidArgument, "sequence of sizes"),
        ([0], np.ones(1), 3, InvalidArgument, "sequence of sizes"),
        (
            [0, 1],
            np.ones((1, 2)),
            (3, 2),
            ShapeMismatch,
            r"2 rows .* are \(2, 2\), but values are \(1, 2\)",
        ),
        ([0], np.ones((1, 3)), (3, 2), ShapeMismatch, r"values are \(1, 3\)"),
        ([0], np.float32(1), (3,), ShapeMismatch, r"values are \(\)"),
        ([[0]], np.ones((1, 2)), (3, 2), ShapeMismatch, r"one dimension, not shape \(1, 1\)"),
        (np.int64(0), np.ones((1, 2)), (3, 2), ShapeMismatch, r"one dimension, not shape \(\)"),
        ([0, 3], np.ones(2), (3,), RowOutOfRange, "RowSparse indices: there is no row 3, the table has 3 rows"),
        ([-1], np.ones(1), (3,), RowOutOfRange, "no row -1"),
        ([0], np.ones(1), (0,), RowOutOfRange, "no row 0, the table has 0 rows"),
        ([0.0], np.ones(1), (3,), DTypeMismatch, "must be integers, not float64"),
        ([0], [1.0], (3,), NotAnArray, "RowSparse values: list"),
        ([0], np.array(["x"]), (3,), DTypeMismatch, "RowSparse values"),
        (None, np.ones(1), (3,), NotAnArray, "RowSparse indices: NoneType"),
    ],
)
def test_tables_that_make_no_sense_are_refused(indices: Any, values: Any, shape: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        RowSparse(indices, values, shape)


# ---- replace


@given(tables(dtype=np.dtype("f8")), st.data())
def test_replace_puts_other_rows_and_keeps_shape_and_dtype(table: RowSparse, data: st.DataObject) -> None:
    other = data.draw(tables(table.shape, np.dtype("f4")))
    table.replace(other.indices, other.values)
    assert table.dtype == np.float64
    assert table.indices is other.indices
    np.testing.assert_array_equal(table.values, other.values)


def test_replace_casts_to_infinity_without_a_warning() -> None:
    table = RowSparse([], np.zeros(0, np.float16), (3,))
    table.replace([1], np.array([1e5]))
    assert table.todense().tolist() == [0, np.inf, 0]


@pytest.mark.parametrize(("ids", "values"), [([5], np.ones((1, 2))), ([0], np.ones((1, 3))), ([0], None)])
def test_a_failed_replace_changes_nothing(ids: Any, values: Any) -> None:
    table = RowSparse([1], np.ones((1, 2)), (3, 2))
    before = table.indices, table.values
    with pytest.raises((RowOutOfRange, ShapeMismatch, NotAnArray)):
        table.replace(ids, values)
    assert (table.indices, table.values) == before


# ---- merge


@given(several())
def test_merge_is_the_sum_of_the_dense_tables_bit_for_bit(parts: list[RowSparse]) -> None:
    total = np.zeros(parts[0].shape, accumulator(parts[0].dtype))
    with np.errstate(all="ignore"):
        for part in parts:
            total += part.todense().astype(total.dtype)
        expected = total.astype(parts[0].dtype)
    merged = merge(parts)
    assert bits(merged.todense()) == bits(expected)
    assert merged.canonical() is merged
    assert set(merged.indices) == set().union(*(part.indices for part in parts))


@pytest.mark.parametrize(
    ("numbers", "dtype", "expected"),
    [
        ((1e8, -1e8, 1), "f4", 1),  # the 1 comes last and is kept
        ((1, 1e8, -1e8), "f4", 0),  # the 1 is lost: float32 has 24 bits
        ((3e38, 3e38, 0), "f4", np.inf),  # overflow is not for numpy's warnings (which are errors here)
        ((6e4, 6e4, -6e4), "f2", 6e4),  # float16 ends at 65504, the sum in float32 passes it
        ((6e4, 6e4, 0), "f2", np.inf),
        ((256, 1, 1), ml_dtypes.bfloat16, 258),  # bfloat16 has 8 bits: 256 + 1 is 256
    ],
)
def test_merge_sums_in_the_order_of_the_parts_in_the_accumulator(numbers: Any, dtype: Any, expected: float) -> None:
    parts = [RowSparse([row, 2], np.full(2, number, dtype), (4,)) for row, number in enumerate(numbers[:2])]
    merged = merge([*parts, RowSparse([2], np.full(1, numbers[2], dtype), (4,))])
    assert merged.indices.tolist() == [0, 1, 2]
    assert merged.values[2] == expected


@given(several())
def test_merge_writes_to_no_part_and_shares_no_memory(parts: list[RowSparse]) -> None:
    before = [(part.indices.tobytes(), part.values.tobytes()) for part in parts]
    merged = merge(parts)
    assert [(part.indices.tobytes(), part.values.tobytes()) for part in parts] == before
    assert not any(np.shares_memory(merged.values, part.values) for part in parts)


@given(tables())
def test_merge_of_one_is_its_canonical(table: RowSparse) -> None:
    assert bits(merge([table]).todense()) == bits(table.todense())


def test_merge_wants_parts_that_agree() -> None:
    part = RowSparse([0], np.ones((1, 2), np.float32), (3, 2))
    with pytest.raises(InvalidArgument, match="at least one"):
        merge([])
    with pytest.raises(ShapeMismatch, match=r"part 1 is float32 \(4, 2\), part 0 is float32 \(3, 2\)"):
        merge([part, RowSparse([0], np.ones((1, 2), np.float32), (4, 2))])
    with pytest.raises(DTypeMismatch, match=r"part 1 is float64 \(3, 2\)"):
        merge([part, RowSparse([0], np.ones((1, 2)), (3, 2))])


# ---- row_ids


@given(
    hnp.arrays(
        hnp.integer_dtypes() | hnp.unsigned_integer_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_side=5)
    )
)
def test_row_ids_are_np_unique_or_out_of_range(ids: np.ndarray) -> None:
    flat = [int(i) for i in ids.flat]
    for rows in (0, 100, 2**62):
        for form in (ids, ids.tolist(), tuple(flat)):
            if ids.ndim == 0 and form is not ids:
                continue
            first_bad = next((i for i in flat if not 0 <= i < rows), None)
            if first_bad is None:
                result = row_ids(form, rows, "row_sparse_pull", "w")
                assert result.dtype == np.int64
                assert result.tolist() == sorted(set(flat))
                assert not np.shares_memory(result, ids)
            else:
                with pytest.raises(RowOutOfRange) as caught:
                    row_ids(form, rows, "row_sparse_pull", "w")
                assert f"of key 'w': there is no row {first_bad}, the table has {rows} rows" in str(caught.value)


@pytest.mark.parametrize("ids", [[], (), [[], []], range(0), np.zeros((0, 3), np.int8)], ids=repr)
def test_no_ids_at_all_are_fine(ids: Any) -> None:
    result = row_ids(ids, 0, "row_sparse_pull", "w")
    assert (result.dtype, result.shape) == (np.int64, (0,))


@pytest.mark.parametrize(
    "ids", [[2**63], [2**64], [0, 2**63, -1], [np.uint64(2**63), 0], np.array([2**64 - 1], np.uint64)]
)
def test_ids_beyond_int64_are_out_of_range_and_never_wrap(ids: Any) -> None:
    with pytest.raises(RowOutOfRange, match=r"no row (9223372036854775808|18446744073709551616|18446744073709551615),"):
        row_ids(ids, 10, "row_sparse_pull", "w")


def test_mixed_integers_keep_their_value() -> None:
    assert row_ids([np.uint64(3), 1], 10, "row_sparse_pull", "w").tolist() == [1, 3]


@pytest.mark.parametrize(
    "ids", [[0.0], [True], np.array([True]), np.zeros(0), [0, None], ["a"], [1.5, 2**70]], ids=repr
)
def test_only_integers_are_ids(ids: Any) -> None:
    with pytest.raises(DTypeMismatch, match=r"row_sparse_pull of key 'w'"):
        row_ids(ids, 10, "row_sparse_pull", "w")


@pytest.mark.parametrize("ids", [None, 3, {1, 2}, "12", [[1], [2, 3]]], ids=repr)
def test_ids_are_an_array_or_a_list(ids: Any) -> None:
    with pytest.raises(NotAnArray, match=r"row_sparse_pull of key 'w'"):
        row_ids(ids, 10, "row_sparse_pull", "w")


@pytest.mark.parametrize("module", ["torch", "jax.numpy"])
def test_foreign_ids_are_taken(module: str) -> None:
    arange = pytest.importorskip(module).arange
    assert row_ids(arange(6).reshape(2, 3) % 4, 4, "row_sparse_pull", "w").tolist() == [0, 1, 2, 3]
