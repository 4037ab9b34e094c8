"""URLs, and the options of a store: which source wins, and what is refused."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from itertools import product
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.backend.options import COMMON, Option, choice, flag, parse_url, positive_integer, seconds, settle
from akv.errors import InvalidArgument

NAMES = st.text(st.characters(exclude_characters="?", exclude_categories=["Cs"]), max_size=10)
SCHEMES = st.text("abcXYZ019+-.", max_size=6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
OPTIONS = st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=4)


# -- URLs -------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(SCHEMES, NAMES, OPTIONS)
def test_a_url_is_cut_into_what_it_was_made_of(scheme: str, name: str, options: Mapping[str, str]) -> None:
    """The scheme in any case; the name as it stands; options as in a query."""
    query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in options.items())
    for mark in ["?"] if options else ["?", ""]:
        assert parse_url(f"{scheme}://{name}{mark}{query}") == (scheme.lower(), name, options)


@pytest.mark.parametrize("url", ["memory", "memory:", "memory:/name", "", "name?a=b", None, 7, b"memory://", ["m://"]])
def test_what_is_no_url_is_refused_with_an_example_of_one(url: object) -> None:
    with pytest.raises(InvalidArgument, match="memory://name") as caught:
        parse_url(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize(
    ("query", "reason"),
    [("a", "option=value"), ("a=1&&b=2", "option=value"), ("a=1&a=2", "twice"), ("%61=1&a=1", "twice")],
)
def test_a_malformed_query_is_refused(query: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        parse_url(f"memory://name?{query}")


def test_the_text_of_an_error_stays_short() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_url("x" * 10_000)
    assert len(str(caught.value)) < 400


# -- which source wins ------------------------------------------------------------------------------------

KNOWN = {"depth": Option(positive_integer, 7), "other": Option(str, "default")}


@pytest.mark.parametrize(("argument", "url", "variable"), [*product([None, 1], [None, 2], [None, 3])])
def test_an_argument_wins_over_the_url_the_url_over_the_variable_that_over_the_default(
    argument: int | None, url: int | None, variable: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AKV_OTHER", raising=False)
    monkeypatch.delenv("AKV_DEPTH", raising=False)
    if variable is not None:
        monkeypatch.setenv("AKV_DEPTH", str(variable))
    arguments = {} if argument is None else {"depth": argument}
    in_url = {} if url is None else {"depth": str(url)}
    expected = next((value for value in (argument, url, variable) if value is not None), 7)
    assert settle(KNOWN, arguments, in_url) == {"depth": expected, "other": "default"}


def test_none_as_an_argument_is_the_default_whatever_the_url_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKV_DEPTH", "3")
    assert settle(KNOWN, {"depth": None}, {"depth": "2"})["depth"] == 7


@pytest.mark.parametrize("name", ["deep", "Depth", ""])
def test_an_unknown_option_is_refused_and_the_known_are_listed(name: str) -> None:
    for arguments, in_url in (({name: 1}, {}), ({}, {name: "1"})):
        with pytest.raises(InvalidArgument, match=f"unknown option '{name}'.*depth, other"):
            settle(KNOWN, arguments, in_url)


def test_an_unknown_variable_is_nobodys_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKV_DEEP", "no number")
    assert settle(KNOWN, {}, {})["depth"] == 7


@pytest.mark.parametrize("where", ["argument", "url", "variable"])
def test_a_value_that_cannot_be_read_is_refused_with_its_source(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, in_url = ({"depth": "deep"} if where == source else {} for source in ("argument", "url"))
    if where == "variable":
        monkeypatch.setenv("AKV_DEPTH", "deep")
    name = "AKV_DEPTH" if where == "variable" else "depth"
    with pytest.raises(InvalidArgument, match=f"option {name}='deep'"):
        settle(KNOWN, arguments, in_url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("timeout", 10**400, id="timeout-1e400"),
        ("timeout", "1e999"),
        ("timeout", object()),
        ("timeout", [1]),
        ("max_queued", float("inf")),
        ("max_queued", float("nan")),
        ("max_queued", 2.5),
        ("max_queued", np.array([1, 2])),
        ("inline", "perhaps"),
        ("inline", 2),
    ],
)
def test_whatever_is_given_no_other_error_comes_out(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=f"option {name}="):
        settle(COMMON, {name: value}, {})


# -- what is read -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats() | st.integers(-10, 10))
def test_seconds_are_positive_and_finite_and_no_more_than_a_lock_can_wait(value: float) -> None:
    for form in (value, str(value)):
        if math.isfinite(value) and value > 0:
            assert seconds(form) == min(value, threading.TIMEOUT_MAX)
        else:
            with pytest.raises(ValueError, match="positive"):
                seconds(form)


@settings(deadline=None)
@given(st.integers())
def test_positive_integers_begin_at_one(value: int) -> None:
    for form in (value, str(value)):
        if value >= 1:
            assert positive_integer(form) == value
        else:
            with pytest.raises(ValueError, match="from 1 on"):
                positive_integer(form)
    with pytest.raises(TypeError):
        positive_integer(float(min(value, 2**60)))


@pytest.mark.parametrize("words", [["1", "on", "YES", "true", True, 1], ["0", "Off", "no", "False", False, 0]])
def test_a_flag_is_yes_or_no_in_several_words(words: list[Any]) -> None:
    assert {flag(word) for word in words} == {words[-1] == 1}


@settings(deadline=None)
@given(st.text(max_size=5))
def test_a_choice_is_one_of_its_words_and_nothing_near_them(word: str) -> None:
    read = choice("allow", "skip")
    assert read("skip") == "skip"
    if word not in ("allow", "skip"):
        with pytest.raises(ValueError, match="allow, skip"):
            read(word)
