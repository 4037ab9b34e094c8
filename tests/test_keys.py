"""Keys: text, or integers of 64 bits; what looks like a key and is none is refused with its type."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.errors import KeyTypeError
from akv.values.keys import check_key, check_keys

INTEGERS = st.integers(-(2**63), 2**63 - 1)
KEYS = INTEGERS | st.text(max_size=5)
NUMPY_INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


class Layer(str, enum.Enum):  # noqa: UP042, a StrEnum prints as what it equals, this does not
    FIRST = "dense0.weight"


class Place(enum.IntEnum):
    BIAS = 3


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "what it prints as"


@settings(deadline=None)
@given(KEYS)
def test_text_and_integers_of_64_bits_are_keys_as_they_are(key: Any) -> None:
    assert check_key(key) is key
    assert check_keys(key) == ([key], False)


@pytest.mark.parametrize(
    ("key", "plain"),
    [(Layer.FIRST, "dense0.weight"), (Place.BIAS, 3), (Name("w"), "w"), (np.str_("w"), "w")],
)
def test_a_kind_of_text_or_integer_is_the_plain_key_that_it_equals(key: Any, plain: Any) -> None:
    for found in (check_key(key), *check_keys(key)[0], *check_keys([key])[0]):
        assert found == key == plain
        assert type(found) is type(plain)


@pytest.mark.parametrize("kind", NUMPY_INTEGERS)
@settings(deadline=None)
@given(st.data())
def test_an_integer_of_numpy_is_the_key_of_its_value(kind: Any, data: st.DataObject) -> None:
    number = data.draw(st.integers(int(np.iinfo(kind).min), min(int(np.iinfo(kind).max), 2**63 - 1)))
    found = check_key(kind(number))
    assert found == number
    assert type(found) is int


@settings(deadline=None)
@given(st.integers(max_value=-(2**63) - 1) | st.integers(min_value=2**63))
def test_an_integer_beyond_64_bits_is_refused_with_its_digits(number: int) -> None:
    for key in (number, [1, number]):
        with pytest.raises(KeyTypeError, match="does not fit a signed 64-bit integer") as caught:
            check_keys(key)
        assert hex(number)[:40] in str(caught.value)


def test_so_is_one_of_numpy_and_one_that_python_will_not_print() -> None:
    for number in (np.uint64(2**63), 10**5000, -(10**5000)):
        with pytest.raises(KeyTypeError, match="64-bit"):
            check_key(number)


NO_KEYS = [None, True, np.True_, 1.0, np.float32(1), b"w", (), [], {}, {"w"}, object(), np.array(1), np.array([1, 2])]


@pytest.mark.parametrize("key", NO_KEYS, ids=repr)
def test_what_is_no_key_is_refused_with_its_type(key: Any) -> None:
    with pytest.raises(KeyTypeError, match=type(key).__name__):
        check_key(key)
    with pytest.raises(KeyTypeError, match=type(key).__name__):
        check_keys([key, "w"])


def test_the_text_of_an_error_stays_short() -> None:
    with pytest.raises(KeyTypeError) as caught:
        check_key(b"x" * 10_000)
    assert len(str(caught.value)) < 200


@settings(deadline=None)
@given(st.lists(INTEGERS) | st.lists(st.text(max_size=5)))
def test_a_list_or_tuple_of_keys_keeps_their_order_and_their_repeats(keys: list[Any]) -> None:
    for form in (keys, tuple(keys)):
        assert check_keys(form) == (keys, True)
    assert check_keys(keys)[0] is not keys


@settings(deadline=None)
@given(st.lists(KEYS))
def test_text_and_integers_do_not_mix(keys: list[Any]) -> None:
    """Nor is 1 ever the key "1"."""
    if len({type(key) for key in keys}) < 2:
        assert check_keys(keys)[0] == keys
        return
    with pytest.raises(KeyTypeError, match="string and integer keys") as caught:
        check_keys(keys)
    for kind in (str, int):
        assert repr(next(key for key in keys if type(key) is kind)) in str(caught.value)


@pytest.mark.parametrize("keys", [["w", ["v"]], [[1, 2]], [("w",)]])
def test_lists_of_keys_are_not_nested(keys: Any) -> None:
    with pytest.raises(KeyTypeError, match=r"not (list|tuple)"):
        check_keys(keys)
