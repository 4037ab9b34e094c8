"""Keys: strings or signed 64-bit integers, one kind per store; 1 and "1" are never the same key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from akv.errors import KeyTypeError

__all__ = ["Key", "check_key", "check_keys"]

Key = str | int

# The wire carries integer keys as signed 64-bit numbers.
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def check_key(key: object) -> Key:
    """Return `key` as a plain str or int.

    Raises:
        KeyTypeError: it is neither (bool included), or an integer beyond 64 bits.
    """
    if type(key) is str:
        return key
    if type(key) is int and _LOWEST <= key <= _HIGHEST:
        return key
    return _unusual(key)


def check_keys(keys: object) -> tuple[list[Key], bool]:
    """Return the keys of a call and whether they came as a list (or tuple) of keys.

    Raises:
        KeyTypeError: a key is no key, or strings and integers are mixed.
    """
    if type(keys) is str:
        return [keys], False
    if isinstance(keys, (list, tuple)):
        if set(map(type, keys)) == {str}:
            return list(keys), True
        checked = [check_key(key) for key in keys]
        _refuse_mixture(checked)
        return checked, True
    return [check_key(keys)], False


def _unusual(key: Any) -> Key:
    if isinstance(key, str):
        return str.__str__(key)  # what it equals; str() of an enum's member is the member's name
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        number = int(key)
        if _LOWEST <= number <= _HIGHEST:
            return number
        raise KeyTypeError(f"key {hex(number):.40} does not fit a signed 64-bit integer")
    raise KeyTypeError(f"a key is a str or an int, not {type(key).__name__}: {key!r:.80}")


def _refuse_mixture(keys: Sequence[Key]) -> None:
    if len({type(key) for key in keys}) > 1:
        text = next(key for key in keys if type(key) is str)
        number = next(key for key in keys if type(key) is int)
        raise KeyTypeError(f"string and integer keys in one call: {text!r} and {number!r}; a store uses one kind")
