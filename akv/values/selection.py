"""The keys of a call: one, or a list of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from akv.errors import InvalidArgument
from akv.values.keys import Key, check_keys
from akv.values.singles import Singles

__all__ = ["MOST_KNOWN", "NO_KEYS", "Selection"]

T = TypeVar("T")

MOST_KNOWN: Final = 6_000
"""Keys of a list that is remembered, to be known when it comes again: so many fit into four headers of the wire."""


class Selection:
    """The keys of one call, each once, and how to give results back in the form of the call."""

    __slots__ = ("_places", "keys", "many")

    def __init__(self, key: object) -> None:
        self.keys: list[Key]
        self.keys, self.many = check_keys(key)
        self._places: list[int] | None = None
        if self.many and len(set(self.keys)) < len(self.keys):
            self._deduplicate()

    @classmethod
    def of(cls, key: object) -> Selection:
        """The selection of a call, or `key` if it is one already.

        That of a single key is kept for the next call (0.3 us less), and that of a list for the next that is equal:
        what follows from it is known by its identity, for which one look at each key is enough (20 ns instead of 80).
        """
        if type(key) is not str and type(key) is not int:
            return _selection_of_several(key)
        found = _single.get(key)
        if found is None:
            if len(_single) >= _MOST_SINGLE:
                _single.clear()
            found = _single[key] = cls(key)
        return found

    def _deduplicate(self) -> None:
        first = {key: place for place, key in enumerate(dict.fromkeys(self.keys))}
        self._places = [first[key] for key in self.keys]
        self.keys = list(first)

    def group(
        self,
        verb: str,
        argument: object,
        convert: Callable[[str, Key, object], list[T]],
        are_plain: Callable[[Sequence[object]], bool] = lambda items: False,
    ) -> Sequence[Sequence[T]]:
        """Convert what the call gives for each key; a key that stands in the call twice gets both lists, joined.

        Args:
            argument: as it was given, or Singles, which are converted already.
            are_plain: whether `convert` would make [item] of each of these items.

        Raises:
            InvalidArgument: a list of keys came without a list of the same length.
        """
        if not self.many:
            return [convert(verb, self.keys[0], argument)]
        if isinstance(argument, Singles):
            given = cast("Singles[T]", argument)
            if self._places is None and len(given) == len(self.keys):
                return given
            argument = list(given.values)
        items = self.per_key(verb, argument)
        if self._places is None:
            if are_plain(items):
                return Singles(cast("list[T]", list(items)))
            return [convert(verb, key, item) for key, item in zip(self.keys, items, strict=True)]
        groups: list[list[T]] = [[] for _ in self.keys]
        for place, item in zip(self._places, items, strict=True):
            groups[place].extend(convert(verb, self.keys[place], item))
        return groups

    def per_key(self, verb: str, argument: object) -> Sequence[object]:
        """Check that `argument` is a list with one item per key of the call."""
        expected = len(self.keys if self._places is None else self._places)
        if not isinstance(argument, (list, tuple)):
            raise InvalidArgument(
                f"{verb} of {expected} keys needs a list of {expected}, not a {type(argument).__name__}"
            )
        if len(argument) != expected:
            raise InvalidArgument(f"{verb} of {expected} keys got a list of {len(argument)}")
        return argument

    def spread(self, results: Sequence[T]) -> T | list[T]:
        """Give one result per key back in the form of the call: alone for one key, else a list in the call's order."""
        if not self.many:
            return results[0]
        return list(results) if self._places is None else [results[place] for place in self._places]

    @property
    def repeats(self) -> bool:
        return self._places is not None


def _selection_of_several(key: object) -> Selection:
    if isinstance(key, Selection):
        return key
    # Only of keys that are what they look like: 1, True and 1.0 are equal.
    if not isinstance(key, (list, tuple)) or len(key) > MOST_KNOWN or set(map(type, key)) not in _PLAIN_KINDS:
        return Selection(key)
    keys = tuple(key)
    found = _several.get(keys)
    if found is None:
        found = Selection(keys)
        if not isinstance(keys[0], str) or sum(map(len, keys)) <= _MOST_CHARACTERS:
            if len(_several) >= _MOST_SEVERAL:
                _several.clear()
            _several[keys] = found
    return found


_PLAIN_KINDS = ({str}, {int})

# For operations on a store as a whole.
NO_KEYS = Selection(())

# A selection is never changed, so all calls may share it. Bounded for programs that make up new keys all the time.
_single: dict[Key, Selection] = {}
_MOST_SINGLE = 10_000
# In a server the keys are a client's, of 1 KiB each if it likes: 8 MB in all, where 6,000 of those would be 200.
_several: dict[tuple[Key, ...], Selection] = {}
_MOST_SEVERAL = 32
_MOST_CHARACTERS = 1 << 18
