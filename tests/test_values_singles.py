"""One value for each key, and lists of keys that come again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akv.errors import KeyTypeError
from akv.values import selection as selections
from akv.values.forms import are_arrays, are_outs, contributions, targets
from akv.values.selection import Selection
from akv.values.singles import Singles, singles_of


@given(st.lists(st.integers(), max_size=6), st.data())
def test_they_are_a_list_of_lists_of_one(values: list[int], data: st.DataObject) -> None:
    singles, same = Singles(values), [(value,) for value in values]
    assert list(singles) == same
    assert len(singles) == len(same)
    start, stop = data.draw(st.integers(-7, 7)), data.draw(st.integers(-7, 7))
    assert list(singles[start:stop]) == same[start:stop]
    for place in range(-len(same), len(same)):
        assert singles[place] == same[place]
    for place in (len(same), -len(same) - 1):
        with pytest.raises(IndexError):
            singles[place]


@given(st.integers(0, 4), st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_the_rows_of_a_block(count: int, shape: list[int]) -> None:
    block = np.arange(count * np.prod(shape)).reshape(count, *shape)
    singles: Any = singles_of(block)
    assert singles.block is block
    assert singles.nbytes == block.nbytes == Singles(list(block)).nbytes
    for place, (row,) in enumerate(singles):
        assert type(row) is np.ndarray
        assert row.shape == tuple(shape)
        assert np.shares_memory(row, block) or not row.size
        assert (row == block[place]).all()


ARRAYS = [
    np.ones(3),
    np.ones((2, 2), np.float32),
    np.ones(4, ">f4"),
    np.ones(6)[::2],
    np.array(1.0),
    np.broadcast_to(np.ones(1), (3,)),
    np.ones(2, "M8[s]"),
    [np.ones(2)],
    np.ma.masked_array([1.0]),
    3,
]


@given(items=st.lists(st.sampled_from(ARRAYS), max_size=4))
@pytest.mark.parametrize(("convert", "are_plain"), [(contributions, are_arrays), (targets, are_outs)])
def test_what_is_plain_would_be_taken_as_it_is(items: list[Any], convert: Any, are_plain: Any) -> None:
    """By law: looking at all of them at once comes to the same as looking at each."""
    selection = Selection.of([str(place) for place in range(len(items))])

    def outcome(*quickly: Any) -> Any:
        try:
            return [list(map(id, group)) for group in selection.group("push", items, convert, *quickly)]
        except Exception as error:
            return type(error), str(error)

    if are_plain(items):
        assert outcome(are_plain) == outcome() == [[id(item)] for item in items]
    elif all(type(item) is np.ndarray for item in items):
        assert type(outcome(are_plain)) is type(outcome())


# -- lists of keys that come again ------------------------------------------------------------------------------------

KEYS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1) | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)


@given(KEYS, st.sampled_from([list, tuple]))
def test_a_list_that_comes_again_is_known(keys: list[Any], form: Any) -> None:
    selection = Selection.of(keys)
    assert Selection.of(form(keys)) is selection
    assert Selection.of(selection) is selection
    assert selection.many
    assert selection.spread(selection.keys) == keys
    assert Selection.of([*keys, *keys]) is not selection


def test_a_list_that_was_changed_is_another() -> None:
    keys = ["a", "b"]
    before = Selection.of(keys)
    keys[0] = "c"
    assert Selection.of(keys).keys == ["c", "b"]
    assert before.keys == ["a", "b"]


class Named(str):
    """Equal to a string, and none that msgpack would know."""

    __slots__ = ()


@pytest.mark.parametrize(("known", "other"), [([1, 0], [True, 0]), ([1, 0], [1.0, 0]), ([0, 1], [0, False])])
def test_a_list_is_not_found_by_what_merely_equals_it(known: list[Any], other: list[Any]) -> None:
    assert Selection.of(known).keys == known
    with pytest.raises(KeyTypeError):
        Selection.of(other)


def test_the_keys_of_a_list_are_plain() -> None:
    for keys in (["a", "b"], [Named("a"), "b"], ["a", "b"]):
        assert list(map(type, Selection.of(keys).keys)) == [str, str]
    assert Selection.of([np.int64(1), 2]).keys == [1, 2]


def test_lists_are_not_kept_for_ever() -> None:
    for number in range(1000):
        Selection.of([number, -1])
    Selection.of(list(range(selections.MOST_KNOWN + 1)))
    assert 0 < len(selections._several) <= 32
    assert Selection.of(long := list(range(selections.MOST_KNOWN + 1))) is not Selection.of(long)


def test_of_long_keys_few_are_kept() -> None:
    """Those of a server's clients may have a kilobyte each."""
    most = 1 << 18
    for count in (most // 1024, 5000):
        for number in range(100):
            keys = [f"{number:04}{place:04}".ljust(1024, "k") for place in range(count)]
            assert (Selection.of(keys) is Selection.of(keys)) == (count * 1024 <= most)
    assert sum(len(key) for keys in selections._several for key in keys if isinstance(key, str)) <= 32 * most
