"""The corpus of the fuzz target, replayed; and what hypothesis makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.fuzz_wire import check, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from akv_tcp import wire as w
from akv_tcp.wire.table import TABLE

CORPUS = Path(__file__).parent / "fuzz" / "wire_corpus"
CASES = {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir())}
SMALL = [data for data in CASES.values() if len(data) < 5000]


@pytest.mark.parametrize("name", CASES)
def test_a_case_of_the_corpus_ends_well(name: str) -> None:
    check(CASES[name])


def test_the_corpus_holds_the_seeds_of_today() -> None:
    assert {name: CASES.get(name) for name in seeds()} == seeds()


def test_the_corpus_makes_every_message_and_event() -> None:
    events = {type(event) for data in CASES.values() for event in check(data)}
    assert events >= {row.make for row in TABLE} - {w.Abort} | {w.Part, w.Aborted, w.Refused}


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_any_bytes_end_well(data: bytes) -> None:
    check(data)


@given(st.data())
@settings(max_examples=400)
def test_bytes_changed_in_a_good_stream_end_well(data: st.DataObject) -> None:
    case = bytearray(data.draw(st.sampled_from(SMALL)))
    case[0] ^= data.draw(st.sampled_from([0, 8, 16, 24, 32, 64]))
    for position in data.draw(st.lists(st.integers(1, len(case) - 1), max_size=4)):
        case[position] = data.draw(st.integers(0, 255))
    check(bytes(case))


@given(st.data())
@settings(max_examples=100)
def test_a_stream_cut_anywhere_ends_well(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(list(CASES.values())))
    check(case[: data.draw(st.integers(0, len(case)))])
