"""The description of a table on the wire, of which nothing is trusted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import akv
from akv import init
from akv_tcp import wire as w
from akv_tcp.payloads import initial_from, pack
from akv_tcp.wire.entries import check_entry

FLOAT32, INT32 = int(w.DType.FLOAT32), int(w.DType.INT32)


def entry(text: bytes, dtype: int = FLOAT32, shape: tuple[int, ...] = (3, 2)) -> w.Entry:
    return w.Entry("w", w.Kind.INITIALISER, dtype, shape, 0, len(text))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64 - 1), st.floats(-9, 9), st.sampled_from([(3,), (10**8, 64), (0, 2), (2, 0, 3)]))
def test_what_is_packed_arrives(seed: int, mean: float, shape: tuple[int, ...]) -> None:
    for table in (
        init.normal(shape, "f2", mean, 0.5, seed),
        init.uniform(shape, "f8", mean, 9, seed),
        init.zeros(shape),
    ):
        found, data = pack("w", table)
        assert initial_from(check_entry(tuple(found)), data) == table


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (b"", akv.InvalidArgument, "no JSON"),
        (b"\xff\xfe", akv.InvalidArgument, "no JSON"),
        (b"[" * 2000, akv.InvalidArgument, "no JSON"),
        (b"[]", akv.InvalidArgument, "mapping"),
        (b"{}", akv.InvalidArgument, "no initialiser"),
        (b'{"name":"os.system"}', akv.InvalidArgument, "'os.system'"),
        (b'{"name":"zeros","seed":1}', akv.InvalidArgument, "no parameter seed"),
        (b'{"name":"normal","std":NaN}', akv.InvalidArgument, "std=nan"),
        (b'{"name":"normal","seed":1e400}', akv.InvalidArgument, "seed=inf"),
        (b'{"name":"uniform","low":2}', akv.InvalidArgument, "no interval"),
    ],
    ids=repr,
)
def test_descriptions_that_make_no_sense(text: bytes, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        initial_from(entry(text), text)


def test_a_dtype_that_does_not_fit() -> None:
    text = b'{"name":"normal"}'
    with pytest.raises(akv.DTypeMismatch, match="int32"):
        initial_from(entry(text, INT32), text)


@pytest.mark.parametrize(
    "bad",
    [
        entry(b"{}", dtype=0),
        entry(b"{}", shape=()),
        entry(b"{}")._replace(rows=1),
        entry(b"x" * 2049),
        entry(b"{}", shape=(2**60, 8)),
        entry(b"{}", shape=(-1,)),
    ],
    ids=str,
)
def test_entries_that_make_no_sense(bad: w.Entry) -> None:
    with pytest.raises(ValueError, match=r"makes no sense|due|spans|dimension"):
        check_entry(tuple(bad))
