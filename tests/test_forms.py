"""The forms of an argument: one key or many, one value or one per device; and results in the form of the call."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.errors import DTypeMismatch, InvalidArgument, KeyTypeError, NotAnArray, ShapeMismatch
from akv.values import selection as selections
from akv.values.forms import check_priority, check_shape, contributions, targets
from akv.values.rowsparse import RowSparse
from akv.values.selection import NO_KEYS, Selection

KEYS = st.lists(st.integers(0, 4), max_size=6) | st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)
VALUES = pytest.mark.parametrize("convert", [contributions, targets])


def parts(verb: str, key: Any, item: Any) -> list[Any]:
    """What stands in a call for one key: an item, or a list of them."""
    return [(key, part) for part in (item if isinstance(item, list) else [item])]


def array(value: float = 0.0) -> np.ndarray:
    return np.full(3, value, np.float32)


def rows() -> RowSparse:
    return RowSparse(np.array([1]), np.ones((1, 2), np.float32), (4, 2))


# -- keys of a call -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(KEYS, st.data())
def test_each_key_gets_all_that_the_call_gives_for_it_in_order(keys: list[Any], data: st.DataObject) -> None:
    items = [data.draw(st.integers() | st.lists(st.integers(), max_size=3)) for _ in keys]
    selection = Selection.of(data.draw(st.sampled_from([keys, tuple(keys)])))
    assert selection.keys == list(dict.fromkeys(keys))
    assert selection.repeats is (len(set(keys)) < len(keys))
    expected = [
        [part for each, item in zip(keys, items, strict=True) if each == key for part in parts("", key, item)]
        for key in selection.keys
    ]
    assert selection.group("push", data.draw(st.sampled_from([items, tuple(items)])), parts) == expected


@settings(deadline=None)
@given(KEYS)
def test_results_come_back_in_the_form_of_the_call(keys: list[Any]) -> None:
    selection = Selection.of(keys)
    assert selection.spread([f"result of {key}" for key in selection.keys]) == [f"result of {key}" for key in keys]


@pytest.mark.parametrize("key", ["a", 7, np.int64(7), -1])
def test_one_key_takes_any_argument_as_it_is_and_gives_one_result(key: Any) -> None:
    selection = Selection.of(key)
    assert (selection.keys, selection.many, selection.repeats) == ([key], False, False)
    assert selection.group("push", [1, 2], parts) == [[(key, 1), (key, 2)]]
    assert selection.spread(["result"]) == "result"


def test_a_list_with_one_key_is_a_list_all_the_same() -> None:
    assert Selection.of(["a"]).spread(["result"]) == ["result"]
    assert Selection.of([]).spread([]) == NO_KEYS.spread([]) == []
    assert Selection.of(()).group("push", [], parts) == []


@pytest.mark.parametrize("keys", [["a", "b"], ["a", "a"]])
@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ([1], "push of 2 keys got a list of 1"),
        ([1, 2, 3], "push of 2 keys got a list of 3"),
        (7, "push of 2 keys needs a list of 2, not a int"),
        (np.zeros(2), "push of 2 keys needs a list of 2, not a ndarray"),
        ("ab", "push of 2 keys needs a list of 2, not a str"),
        (None, "not a NoneType"),
    ],
)
def test_many_keys_need_a_list_of_the_same_length(keys: list[str], argument: Any, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        Selection.of(keys).group("push", argument, parts)


def test_the_selection_of_a_single_key_is_kept_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selections, "_single", {})
    monkeypatch.setattr(selections, "_MOST_SINGLE", 4)
    assert Selection.of("a") is Selection.of("a")
    for number in range(20):
        assert Selection.of(number).keys == [number]
        assert len(selections._single) <= 4


@pytest.mark.parametrize(("known", "other"), [(1, "1"), (1, True), (1, 1.0), (0, False), ("1", 1)])
def test_a_key_that_is_kept_is_not_found_by_what_merely_equals_it(known: Any, other: Any) -> None:
    assert Selection.of(known).keys == [known]
    if isinstance(other, (bool, float)):
        with pytest.raises(KeyTypeError):
            Selection.of(other)
    else:
        assert type(Selection.of(other).keys[0]) is type(other)


# -- values of a key ------------------------------------------------------------------------------------------------


@VALUES
@settings(deadline=None)
@given(st.integers(1, 4), st.data())
def test_a_key_gets_one_value_or_one_per_device(convert: Any, count: int, data: st.DataObject) -> None:
    values = [data.draw(st.sampled_from([array, rows]))() for _ in range(count)]
    for form in (values, tuple(values)):
        assert [id(found) for found in convert("push", "w", form)] == list(map(id, values))
    (alone,) = convert("push", "w", values[0])
    assert alone is values[0]


@VALUES
def test_an_empty_list_of_devices_is_refused(convert: Any) -> None:
    for empty in ([], ()):
        with pytest.raises(InvalidArgument, match="of key 'w' got an empty list"):
            convert("pull", "w", empty)


@VALUES
@pytest.mark.parametrize("value", [1.0, 7, None, "text", {"w": 1}, object()])
def test_what_is_no_array_is_refused_with_its_key_and_type(convert: Any, value: Any) -> None:
    for form in (value, [array(), value]):
        with pytest.raises(NotAnArray, match=f"(?s)'w'.*{type(value).__name__}"):
            convert("push", "w", form)


@VALUES
def test_lists_of_devices_are_not_nested(convert: Any) -> None:
    with pytest.raises(NotAnArray, match="list"):
        convert("push", "w", [[array()]])


@VALUES
def test_a_dtype_that_no_store_holds_is_refused(convert: Any) -> None:
    with pytest.raises(DTypeMismatch, match="'w'"):
        convert("push", "w", np.array(["text"]))


def test_an_array_that_cannot_be_written_to_can_be_pushed_but_is_no_target() -> None:
    frozen = array()
    frozen.flags.writeable = False
    assert contributions("push", "w", frozen)[0] is frozen
    with pytest.raises(InvalidArgument, match="'w'"):
        targets("pull", "w", frozen)


# -- small checks -----------------------------------------------------------------------------------------------------


class Urgency(enum.IntEnum):
    HIGH = 5


@settings(deadline=None)
@given(st.integers())
def test_a_priority_is_any_integer(priority: int) -> None:
    assert check_priority(priority) is priority


@pytest.mark.parametrize("priority", [np.int64(5), np.uint8(5), Urgency.HIGH, np.array(5)])
def test_a_kind_of_integer_is_a_priority_too(priority: Any) -> None:
    assert check_priority(priority) == 5
    assert type(check_priority(priority)) is int


@pytest.mark.parametrize("priority", [1.0, "1", None, [1], np.float32(1), float("nan")])
def test_anything_else_is_no_priority(priority: Any) -> None:
    with pytest.raises(InvalidArgument, match="priority is an integer, not"):
        check_priority(priority)


SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@settings(deadline=None)
@given(SHAPES, SHAPES)
def test_shapes_have_to_be_equal_the_same_size_is_not_enough(shape: tuple[int, ...], stored: tuple[int, ...]) -> None:
    if shape == stored:
        check_shape("push", "w", shape, stored)
        return
    with pytest.raises(ShapeMismatch) as caught:
        check_shape("push", "w", shape, stored)
    for part in ("push", "'w'", str(shape), str(stored)):
        assert part in str(caught.value)
