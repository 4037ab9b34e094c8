"""Random sequences of verbs do what a dict would do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import akv
from akv.testing.harness import Hooks
from akv.testing.samples import array, same
from akv.testing.subject import Subject

__all__ = ["MODEL", "ModelTests"]

# One store serves all examples of a test; and that a suite is inherited is its purpose.
MODEL = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)

SHAPES = {"a": (2, 3), "b": (2, 3), "c": (4,), "d": ()}
Values = Sequence[Any]


class Model:
    """The verbs on a dict. All take lists of keys; a value is an array, or a list with one per device."""

    def __init__(self) -> None:
        self.values: dict[str, np.ndarray] = {}
        self.versions: dict[str, int] = {}
        self.adds = False

    def set_updater(self, name: str) -> None:
        self.adds = name == "add"

    def keys(self) -> list[str]:
        return list(self.values)

    def init(self, keys: Sequence[str], values: Values) -> None:
        if len(set(keys)) < len(keys) or any(key in self.values for key in keys):
            raise akv.KeyExists
        for key, value in zip(keys, values, strict=True):
            self.values[key] = value
            self.versions[key] = self.versions.get(key, 0) + 1

    def push(self, keys: Sequence[str], values: Values) -> list[int]:
        groups: dict[str, list[Any]] = {}
        for key, value in zip(keys, values, strict=True):
            groups.setdefault(key, []).extend(value if isinstance(value, list) else [value])
        self._check(groups)
        for key, parts in groups.items():
            dense = [part.todense() if isinstance(part, akv.RowSparse) else part for part in parts]
            self.values[key] = np.asarray(sum(dense, self.values[key] if self.adds else np.float32(0)))
            self.versions[key] += 1
        return [self.versions[key] for key in keys]

    def pull(self, keys: Sequence[str]) -> list[np.ndarray]:
        self._check({key: [] for key in keys})
        return [self.values[key] for key in keys]

    def pushpull(self, keys: Sequence[str], values: Values, outs: list[np.ndarray]) -> list[np.ndarray]:
        self.push(keys, values)
        return [self.values[key] for key in keys]

    def info(self, keys: Sequence[str]) -> list[akv.Info]:
        values = zip(keys, self.pull(keys), strict=True)
        return [akv.Info(value.shape, value.dtype, self.versions[key], value.nbytes, "") for key, value in values]

    def delete(self, keys: Sequence[str]) -> None:
        self._check({key: [] for key in keys})
        for key in set(keys):
            del self.values[key]

    def _check(self, groups: dict[str, list[Any]]) -> None:
        for key, parts in groups.items():
            if key not in self.values:
                raise akv.KeyNotFound
            if any(part.shape != self.values[key].shape for part in parts):
                raise akv.ShapeMismatch


Verb = Callable[[Any, list[str], int], Any]


def _values(keys: list[str], seed: int) -> list[np.ndarray]:
    return [array(shape=SHAPES[key[-1]], seed=seed + place) for place, key in enumerate(keys)]


def _devices(keys: list[str], seed: int) -> list[list[np.ndarray]]:
    return [[value, value + 1] for value in _values(keys, seed)]


def _rows(keys: list[str], seed: int) -> list[Any]:
    tables = zip(keys, _values(keys, seed), strict=True)
    return [akv.RowSparse([1, 0, 1], value[[1, 0, 0]], value.shape) if value.ndim else value for _, value in tables]


# Each is done to the store and to the model.
VERBS: dict[str, Verb] = {
    "init": lambda on, keys, seed: on.init(keys, _values(keys, seed)),
    "push": lambda on, keys, seed: on.push(keys, _values(keys, seed)),
    "push devices": lambda on, keys, seed: on.push(keys, _devices(keys, seed)),
    "push rows": lambda on, keys, seed: on.push(keys, _rows(keys, seed)),
    "push a wrong shape": lambda on, keys, seed: on.push(keys, [*_values(keys, seed)[:-1], array(shape=(7,))]),
    "pull": lambda on, keys, seed: on.pull(keys),
    "pushpull": lambda on, keys, seed: on.pushpull(keys, _values(keys, seed), _values(keys, seed)),
    "info": lambda on, keys, seed: on.info(keys),
    "delete": lambda on, keys, seed: on.delete(keys),
    "add": lambda on, keys, seed: on.set_updater("add"),
    "assign": lambda on, keys, seed: on.set_updater("assign"),
    "keys": lambda on, keys, seed: on.keys(),
}
names = st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=4)
steps = st.lists(st.tuples(st.sampled_from(sorted(VERBS)), names, st.integers(0, 9)), max_size=20)
_examples = itertools.count()


class ModelTests(Hooks):
    @MODEL
    @given(steps=steps)
    async def test_a_store_is_a_dict(
        self, subject: Subject, kv: akv.KVStore, steps: list[tuple[str, list[str], int]]
    ) -> None:
        prefix = f"{next(_examples)}/"
        model = Model()
        await kv.set_updater("assign")
        await kv.delete(await kv.keys())
        for verb, letters, seed in [("init", ["a", "b"], 0), *steps]:
            keys = [prefix + letter for letter in letters]
            expected = _outcome(lambda: VERBS[verb](model, keys, seed))  # noqa: B023
            try:
                found = await VERBS[verb](kv, keys, seed)
            except akv.AkvError as error:
                found = type(error)
            _alike(found, expected)
            for key, value in model.values.items():
                same(subject.peek(key), value)
                assert (await kv.info(key)).version == model.versions[key]


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except akv.AkvError as error:
        return type(error)


def _alike(found: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        same(found, expected)
    elif isinstance(expected, akv.Info):
        assert (found.shape, found.dtype, found.version) == (expected.shape, expected.dtype, expected.version)
        assert found.nbytes == expected.nbytes
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for each, wanted in zip(found, expected, strict=True):
            _alike(each, wanted)
    else:
        assert found == expected
