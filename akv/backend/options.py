"""URLs and options: `scheme://name?option=value`.

An argument wins over the URL, the URL over the environment (AKV_*), the environment over the default.
"""

from __future__ import annotations

import difflib
import math
import operator
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from akv.errors import InvalidArgument

__all__ = ["COMMON", "Option", "choice", "flag", "parse_url", "positive_integer", "seconds", "settle"]


class Option(NamedTuple):
    """One option: how its text (or an argument) is read, and its value when nobody gives one.

    `inherited`: whether AKV_* in the environment counts, which is there for all stores of a process.
    """

    read: Callable[[Any], Any]
    default: Any
    inherited: bool = True


def parse_url(url: object) -> tuple[str, str, dict[str, str]]:
    """Cut a URL into scheme, name and options.

    Raises:
        InvalidArgument: it is no such URL, or an option stands in it twice.
    """
    if not isinstance(url, str) or "://" not in url:
        raise InvalidArgument(
            f"a store is opened by a URL such as memory://name or tcp://host:port/job, not by {url!r:.200}"
        )
    scheme, _, rest = url.partition("://")
    name, _, query = rest.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InvalidArgument(f"the options of {url!r:.200} are not of the form option=value&...: {error}") from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise InvalidArgument(f"an option stands twice in {url!r:.200}")
    return scheme.lower(), name, options


def settle(known: Mapping[str, Option], given: Mapping[str, object], in_url: Mapping[str, str]) -> dict[str, Any]:
    """Give every known option its value.

    Raises:
        InvalidArgument: an option is not known, or its value cannot be read.
    """
    for name in [*given, *in_url]:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean {close[0]!r}?" if close else ";"
            raise InvalidArgument(f"unknown option {name!r}{hint} this backend knows {', '.join(sorted(known))}")
    return {name: _value(name, option, given, in_url) for name, option in known.items()}


def _value(name: str, option: Option, given: Mapping[str, object], in_url: Mapping[str, str]) -> Any:
    variable = f"AKV_{name.upper()}"
    inherited = os.environ if option.inherited else {}
    for source, where in ((given, name), (in_url, name), (inherited, variable)):
        if where in source:
            value = source[where]
            try:
                return option.default if value is None else option.read(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise InvalidArgument(f"option {where}={value!r}: {error}") from None
    return option.default


def seconds(value: Any) -> float:
    """Read a positive number of seconds."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError("it has to be a positive number of seconds")
    return min(number, threading.TIMEOUT_MAX)


def positive_integer(value: Any) -> int:
    """Read an integer from 1 on."""
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError("it has to be an integer from 1 on")
    return number


def flag(value: Any) -> bool:
    """Read yes or no."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    known = words.get(str(value).lower())
    if known is None:
        raise ValueError(f"it has to be one of {', '.join(words)}")
    return known


def choice(*words: str) -> Callable[[Any], str]:
    """Read one of some words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"it has to be one of {', '.join(words)}")
        return str(value)

    return read


# What the core itself makes of every backend's options.
COMMON: Mapping[str, Option] = {
    "timeout": Option(seconds, None),
    "inline": Option(flag, True),
    "max_queued": Option(positive_integer, 1 << 16),
}
