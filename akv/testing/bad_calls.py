"""Calls that have to fail: what is wrong with each, the error's class, and what its text has to name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import numpy as np

import akv
from akv.optim import SGD
from akv.testing.samples import array

__all__ = ["BAD_CALLS", "BAD_ROW_CALLS", "STORED", "BadCall"]

# What is stored before each of the calls, and has to be there after it.
STORED: dict[str, np.ndarray] = {
    "w": array(),
    "c": array(np.complex64),
    "n": array(np.int32, (4,)),
    "scalar": array(shape=()),
}


class BadCall(NamedTuple):
    """One of them."""

    what: str
    error: type[akv.AkvError]
    text: tuple[str, ...]
    call: Callable[[Any], Awaitable[object]]

    def __str__(self) -> str:
        return self.what


def full(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array of zeros."""
    return np.zeros(shape, dtype)


def read_only() -> np.ndarray:
    """Nowhere to write to."""
    array = full(2, 3)
    array.flags.writeable = False
    return array


def rows(*ids: int, shape: tuple[int, ...] = (2, 3)) -> akv.RowSparse:
    """Rows of "w"."""
    return akv.RowSparse(ids, full(len(ids), *shape[1:]), shape)


def spoiled(row: int) -> akv.RowSparse:
    """Rows whose indices were written to after they were checked."""
    table = rows(0, 1)
    table.indices[1] = row
    return table


def no_key(key: Any) -> BadCall:
    """Something else than a key."""
    return BadCall(f"key {key!r:.30}", akv.KeyTypeError, (f"{key!r:.30}",), lambda kv: kv.push(key, full(2, 3)))


def no_array(value: Any) -> BadCall:
    """Something else than a value."""
    text = "'w'", type(value).__name__
    return BadCall(f"value {value!r:.30}", akv.NotAnArray, text, lambda kv: kv.push("w", value))


def no_dtype(dtype: Any) -> BadCall:
    """A dtype that no store holds."""
    text = "'w'", str(np.dtype(dtype))
    return BadCall(f"dtype {dtype}", akv.DTypeMismatch, text, lambda kv: kv.push("w", full(2, 3, dtype=dtype)))


K, S, D, A = akv.KeyNotFound, akv.ShapeMismatch, akv.DTypeMismatch, akv.InvalidArgument

KEYS = [
    BadCall("push of no key", K, ("'x'",), lambda kv: kv.push("x", full(2, 3))),
    BadCall("pull of no key", K, ("'x'",), lambda kv: kv.pull("x")),
    BadCall("pull of no key into out", K, ("'x'",), lambda kv: kv.pull("x", full(2, 3))),
    BadCall("pushpull of no key", K, ("'x'",), lambda kv: kv.pushpull("x", full(2, 3), full(2, 3))),
    BadCall("push of rows of no key", K, ("'x'",), lambda kv: kv.push("x", rows(1))),
    BadCall("info of no key", K, ("'x'",), lambda kv: kv.info("x")),
    BadCall("delete of no key", K, ("'x'",), lambda kv: kv.delete("x")),
    BadCall("init of the other kind", akv.KeyTypeError, ("7",), lambda kv: kv.init(7, full(2, 3))),
    BadCall("push of the other kind", akv.KeyTypeError, ("7",), lambda kv: kv.push(7, full(2, 3))),
    BadCall("pull of the other kind", akv.KeyTypeError, ("7",), lambda kv: kv.pull(7)),
    BadCall("info of the other kind", akv.KeyTypeError, ("7",), lambda kv: kv.info(7)),
    BadCall("delete of the other kind", akv.KeyTypeError, ("7",), lambda kv: kv.delete(7)),
    BadCall("both kinds in one call", akv.KeyTypeError, ("'w'", "7"), lambda kv: kv.pull(["w", 7])),
    *map(no_key, [True, None, 1.5, b"w", np.float64(1)]),
    BadCall("key beyond 64 bits", akv.KeyTypeError, ("64-bit",), lambda kv: kv.push(2**63, full(2, 3))),
    BadCall("negative key beyond 64 bits", akv.KeyTypeError, ("64-bit",), lambda kv: kv.push(-(2**63) - 1, full(2, 3))),
    BadCall("second init", akv.KeyExists, ("'w'", "version 1"), lambda kv: kv.init("w", full(2, 3))),
    BadCall("second broadcast", akv.KeyExists, ("'w'", "version 1"), lambda kv: kv.broadcast("w", full(2, 3))),
    BadCall("init twice in one call", akv.KeyExists, ("'v'",), lambda kv: kv.init(["v", "v"], [full(1), full(1)])),
]

VALUES = [
    BadCall("another shape", S, ("'w'", "(3,)", "(2, 3)"), lambda kv: kv.push("w", full(3))),
    BadCall("a shape of equal size", S, ("'w'", "(6,)", "(2, 3)"), lambda kv: kv.push("w", full(6))),
    BadCall("a shape that fits by broadcast", S, ("'w'", "(1, 3)", "(2, 3)"), lambda kv: kv.push("w", full(1, 3))),
    BadCall("a shape of no dimension", S, ("'w'", "()", "(2, 3)"), lambda kv: kv.push("w", full())),
    BadCall("a bad second device", S, ("'w'", "(3, 2)"), lambda kv: kv.push("w", [full(2, 3), full(3, 2)])),
    BadCall("rows of another table", S, ("'w'", "(9, 3)"), lambda kv: kv.push("w", rows(1, shape=(9, 3)))),
    BadCall("rows of a 0-d value", S, ("'scalar'", "(2, 3)"), lambda kv: kv.push("scalar", rows(1))),
    BadCall("another dtype", D, ("'w'", "float64", "float32"), lambda kv: kv.push("w", full(2, 3, dtype=float))),
    BadCall("a dtype of equal size", D, ("'n'", "uint32", "int32"), lambda kv: kv.push("n", full(4, dtype="u4"))),
    BadCall("rows whose last is too high", akv.RowOutOfRange, ("'w'", "2"), lambda kv: kv.push("w", spoiled(2))),
    BadCall("rows whose last is negative", akv.RowOutOfRange, ("'w'", "-1"), lambda kv: kv.push("w", spoiled(-1))),
    *map(no_dtype, ["O", "U3", "S2", "M8[s]", "m8[s]", "V4", "f4,i4", "g"]),
    *map(no_array, [1, 1.5, 1j, True, None, "text", b"bytes", {"a": 1}, object(), np.float32]),
    BadCall("a list of numbers", akv.NotAnArray, ("'w'", "int"), lambda kv: kv.push("w", [1, 2])),
    BadCall("no devices", A, ("'w'", "empty"), lambda kv: kv.push("w", [])),
    BadCall("init from two devices", A, ("'v'", "2"), lambda kv: kv.init("v", [full(1), full(1)])),
    BadCall("a masked array", A, ("'w'", "mask"), lambda kv: kv.push("w", np.ma.masked_array(full(2, 3), True))),
    BadCall("too few values", A, ("2", "1"), lambda kv: kv.push(["w", "n"], [full(2, 3)])),
    BadCall("too many values", A, ("1", "2"), lambda kv: kv.push(["w"], [full(2, 3), full(4)])),
    BadCall("one value for two keys", A, ("2", "ndarray"), lambda kv: kv.push(["w", "n"], full(2, 3))),
]

OUTS = [
    BadCall("out of another shape", S, ("'w'", "(6,)", "(2, 3)"), lambda kv: kv.pull("w", full(6))),
    BadCall("a bad second out", S, ("'w'", "(3, 2)"), lambda kv: kv.pull("w", [full(2, 3), full(3, 2)])),
    BadCall("out that is read-only", A, ("'w'", "read-only"), lambda kv: kv.pull("w", read_only())),
    BadCall("out that is broadcast", A, ("'w'",), lambda kv: kv.pull("w", np.broadcast_to(full(3), (2, 3)))),
    BadCall("out that is a number", akv.NotAnArray, ("'w'", "int"), lambda kv: kv.pull("w", 3)),
    BadCall("no outs", A, ("'w'", "empty"), lambda kv: kv.pull("w", [])),
    BadCall("too few outs", A, ("2", "1"), lambda kv: kv.pull(["w", "n"], [full(2, 3)])),
    BadCall("real out of a complex value", D, ("'c'", "complex64", "float32"), lambda kv: kv.pull("c", full(2, 3))),
    BadCall("out of objects", D, ("'w'", "object"), lambda kv: kv.pull("w", full(2, 3, dtype="O"))),
    BadCall("bad out of a pushpull", S, ("'w'", "(6,)"), lambda kv: kv.pushpull("w", full(2, 3), full(6))),
    BadCall("bad out of a broadcast", S, ("'v'", "(6,)"), lambda kv: kv.broadcast("v", full(2, 3), full(6))),
    BadCall(
        "real out of a complex broadcast",
        D,
        ("'v'", "complex64", "float32"),
        lambda kv: kv.broadcast("v", full(2, 3, dtype="c8"), full(2, 3)),
    ),
]

OTHERS = [
    BadCall("priority 1.5", A, ("1.5",), lambda kv: kv.push("w", full(2, 3), 1.5)),
    BadCall("priority of a pull", A, ("'high'",), lambda kv: kv.pull("w", None, "high")),
    BadCall("min_version -1", A, ("-1",), lambda kv: kv.pull("w", min_version=-1)),
    BadCall("min_version 1.0", A, ("1.0",), lambda kv: kv.pull("w", min_version=1.0)),
    BadCall("wait for version -1", A, ("-1",), lambda kv: kv.wait_version("w", -1)),
    BadCall("wait for a list", akv.KeyTypeError, ("list",), lambda kv: kv.wait_version(["w"], 1)),
    BadCall("unknown updater", A, ("'multiply'", "'add'"), lambda kv: kv.set_updater("multiply")),
    BadCall("no updater", A, ("None",), lambda kv: kv.set_updater(None)),
    BadCall("name of an optimizer", A, ("'sgd'",), lambda kv: kv.set_optimizer("sgd")),
    BadCall("class of an optimizer", A, ("SGD",), lambda kv: kv.set_optimizer(SGD)),
    BadCall("rate without optimizer", A, ("0.1", "set_optimizer"), lambda kv: kv.set_learning_rate(0.1)),
    BadCall("factors without optimizer", A, ("set_lr_mult", "set_optimizer"), lambda kv: kv.set_lr_mult({"w": 1.0})),
    BadCall("negative factor", A, ("'w'", "-1"), lambda kv: kv.set_wd_mult({"w": -1.0})),
    BadCall("factors of no keys", A, ("0.5",), lambda kv: kv.set_lr_mult(0.5)),
    *[
        BadCall(f"rate {rate!r}", A, (repr(rate),), lambda kv, rate=rate: kv.set_learning_rate(rate))  # type: ignore[misc]
        for rate in (-1.0, float("nan"), float("inf"), "0.1", None, True)
    ],
    BadCall("name of a barrier", A, ("3",), lambda kv: kv.barrier(3)),
]

BAD_CALLS = [*KEYS, *VALUES, *OUTS, *OTHERS]

BAD_ROW_CALLS = [
    BadCall("rows of no key", K, ("'x'",), lambda kv: kv.row_sparse_pull("x", row_ids=[0])),
    BadCall("row too high", akv.RowOutOfRange, ("'w'", "2"), lambda kv: kv.row_sparse_pull("w", row_ids=[0, 2])),
    BadCall("row negative", akv.RowOutOfRange, ("'w'", "-1"), lambda kv: kv.row_sparse_pull("w", row_ids=[-1, 0])),
    BadCall(
        "row beyond 64 bits", akv.RowOutOfRange, (str(2**64),), lambda kv: kv.row_sparse_pull("w", row_ids=[2**64])
    ),
    BadCall("row ids of floats", D, ("'w'", "float64"), lambda kv: kv.row_sparse_pull("w", row_ids=[0.0])),
    BadCall("row ids of bools", D, ("'w'", "bool"), lambda kv: kv.row_sparse_pull("w", row_ids=np.array([True]))),
    BadCall("no row ids", A, ("row_ids",), lambda kv: kv.row_sparse_pull("w")),
    BadCall("row ids of text", akv.AkvError, ("'w'",), lambda kv: kv.row_sparse_pull("w", row_ids="01")),
    BadCall("rows of a scalar", S, ("'scalar'", "()"), lambda kv: kv.row_sparse_pull("scalar", row_ids=[0])),
    BadCall("dense out", akv.NotAnArray, ("'w'",), lambda kv: kv.row_sparse_pull("w", full(2, 3), row_ids=[0])),
    BadCall(
        "rows of another table",
        S,
        ("'w'", "(9, 3)"),
        lambda kv: kv.row_sparse_pull("w", rows(shape=(9, 3)), row_ids=[0]),
    ),
    BadCall("real rows of complex ones", D, ("'c'",), lambda kv: kv.row_sparse_pull("c", rows(1), row_ids=[0])),
    BadCall(
        "two ids for three outs",
        A,
        ("'w'", "2", "3"),
        lambda kv: kv.row_sparse_pull("w", [rows(), rows(), rows()], row_ids=[np.array([0]), np.array([1])]),
    ),
    BadCall("one list of ids for two keys", A, ("2", "1"), lambda kv: kv.row_sparse_pull(["w", "n"], row_ids=[[0]])),
]
