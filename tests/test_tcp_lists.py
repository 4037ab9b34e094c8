"""Lists of keys behind a server: by law they do what they do in memory, whatever arrays they come as."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tcp_cases import process

import akv
from akv import sync
from akv.engine import INLINE_KEYS

DTYPES = (np.float32, np.float64, np.int32, np.float16, np.complex64, np.bool_)
SHAPES: tuple[tuple[int, ...], ...] = ((16,), (), (0,), (2, 3), (1,), (1500,))
GIVEN = ("plain", "strided", "fortran", "two", "tuple", "foreign", "wrong shape", "wrong dtype", "nan")
WANTED = ("plain", "strided", "two", "cast", "foreign", "wrong shape", "read-only")


class Kind(NamedTuple):
    """A key, what is pushed to it, and what it is pulled into."""

    dtype: Any
    shape: tuple[int, ...]
    given: str
    wanted: str

    @property
    def stored(self) -> np.ndarray:
        return np.zeros(self.shape, self.dtype)

    def value(self, seed: int) -> Any:
        array = np.full(self.shape, seed).astype(self.dtype)
        match self.given:
            case "strided":
                return np.repeat(array[..., None], 2, -1)[..., 0]
            case "fortran":
                return np.asfortranarray(array)
            case "two":
                return [array, array]
            case "tuple":
                return (array,)
            case "foreign":
                return array.astype(array.dtype.newbyteorder())
            case "wrong shape":
                return np.ones((3, *self.shape), self.dtype)
            case "wrong dtype":
                return np.ones(self.shape, np.int8)
            case "nan":
                return np.full(self.shape, np.nan).astype(self.dtype) if self.stored.dtype.kind in "fc" else array
            case _:
                return array

    def out(self) -> Any:
        array = np.full(self.shape, 77).astype(self.dtype)
        match self.wanted:
            case "strided":
                return np.repeat(array[..., None], 2, -1)[..., 0]
            case "two":
                return [array, array.astype(np.complex128)]
            case "cast":
                return np.ones(self.shape, np.float64)
            case "foreign":
                return array.astype(array.dtype.newbyteorder())
            case "wrong shape":
                return np.ones((*self.shape, 3), self.dtype)
            case "read-only":
                array.flags.writeable = False
                return array
            case _:
                return array


# Mostly what all have alike, for which there is a short way, or all but one.
FORMS = (st.sampled_from(DTYPES), st.sampled_from(SHAPES))
PLAIN = st.builds(Kind, *FORMS, st.just("plain"), st.just("plain"))
ODD = st.builds(Kind, *FORMS, st.sampled_from(GIVEN), st.just("plain")) | st.builds(
    Kind, *FORMS, st.just("plain"), st.sampled_from(WANTED)
)
LISTS = (
    ODD.map(lambda kind: [kind] * 3)
    | st.tuples(PLAIN, ODD).map(lambda pair: [*[pair[0]] * 3, pair[1], pair[0]])
    | st.lists(PLAIN | ODD, min_size=1, max_size=6)
)
VERBS = st.sampled_from(["push", "pull", "fresh", "pushpull", "pushpull fresh"])
NAMES = itertools.count()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with process() as (url, _):
        yield url


def asked(kv: sync.KVStore, verb: str, keys: list[str], kinds: list[Kind], seed: int) -> tuple[Any, Any]:
    """What comes of a call: the result or the type of the error, and what is in the caller's arrays then."""
    values, outs = [kind.value(seed + place) for place, kind in enumerate(kinds)], [kind.out() for kind in kinds]
    try:
        match verb:
            case "push":
                result: Any = kv.push(keys, values)
            case "pull":
                result = kv.pull(keys, outs)
            case "fresh":
                result = kv.pull(keys)
            case "pushpull":
                result = kv.pushpull(keys, values, outs)
            case _:
                result = kv.pushpull(keys, values)
    except akv.AkvError as error:
        return type(error), plain(outs)
    return ("outs" if result is outs else plain(result)), plain([values, outs])


def plain(found: Any) -> Any:
    """Something to compare: of arrays dtype, shape and bytes."""
    if isinstance(found, (list, tuple)):
        return [plain(one) for one in found]
    return (found.dtype, found.shape, found.tobytes()) if isinstance(found, np.ndarray) else found


@settings(max_examples=200)
@given(kinds=LISTS, times=st.sampled_from([1, 1, 1, 20]), verbs=st.lists(VERBS, min_size=1, max_size=4), data=st.data())
def test_they_do_what_they_do_in_memory(
    address: str, kinds: list[Kind], times: int, verbs: list[str], data: st.DataObject
) -> None:
    name, kinds = next(NAMES), kinds * times
    keys = [f"{name} {place}" for place in range(len(kinds))]
    twice = data.draw(st.lists(st.integers(0, len(keys) - 1), max_size=2)) if data.draw(st.booleans()) else []
    calls = [*range(len(keys)), *twice]
    missing = data.draw(st.sampled_from([None, None, len(keys) - 1]))
    faults = len({kind for kind in kinds if (kind.given, kind.wanted) != ("plain", "plain")}) + (missing is not None)
    with sync.connect(f"{address}/lists") as there, sync.connect("memory://?on_nonfinite=reject") as here:
        for kv in (there, here):
            kv.init(keys[:missing], [kind.stored for kind in kinds[:missing]])
        for seed, verb in enumerate(verbs * 2):
            asked_of = [keys[place] for place in calls], [kinds[place] for place in calls]
            (theirs, *theirs_left), (ours, *ours_left) = (asked(kv, verb, *asked_of, seed) for kv in (there, here))
            # Of two faults in one call the client and the server may find the second one first.
            assert theirs == ours or (faults > 1 and isinstance(theirs, type) and isinstance(ours, type))
            assert theirs_left == ours_left
            assert plain(there.pull(keys[:missing])) == plain(here.pull(keys[:missing]))


@pytest.mark.parametrize("count", [INLINE_KEYS, INLINE_KEYS + 1, 2500, 7000])
@pytest.mark.parametrize("mixed", [False, True])
def test_so_do_long_lists(address: str, count: int, mixed: bool) -> None:
    """Of several frames, and of more keys than are remembered."""
    forms = list(itertools.product(DTYPES, SHAPES[:4])) if mixed else [(np.float32, (4,))]
    kinds = [Kind(*forms[place % len(forms)], "plain", "plain") for place in range(count)]
    keys = [f"{next(NAMES)} {place}" for place in range(count)]
    with sync.connect(f"{address}/long") as there, sync.connect("memory://") as here:
        for kv in (there, here):
            kv.init(keys, [kind.stored for kind in kinds])
        for seed, verb in enumerate(["push", "pull", "push", "pull", "fresh", "pushpull"]):
            assert asked(there, verb, keys, kinds, seed) == asked(here, verb, keys, kinds, seed)


def test_a_value_that_was_pulled_is_the_callers_own(address: str) -> None:
    keys = [f"{next(NAMES)} own {place}" for place in range(20)]
    with sync.connect(f"{address}/own") as kv:
        kv.init(keys, [np.zeros(3)] * len(keys))
        found = kv.pull(keys)
        for array in found:
            array += 1
        assert not any(np.shares_memory(one, other) for one, other in itertools.pairwise(found))
        assert not np.any(kv.pull(keys))


def test_an_out_that_became_read_only_harms_only_its_own_call(address: str) -> None:
    keys = [f"{next(NAMES)} closed {place}" for place in range(20)]
    outs = [np.ones(3) for _ in keys]
    with sync.connect(f"{address}/closed") as kv:
        kv.init(keys, [np.zeros(3)] * len(keys))
        kv.pull(keys, outs)
        outs[7].flags.writeable = False
        with pytest.raises(akv.InvalidArgument):
            kv.pull(keys, outs)
        assert not np.any(kv.pull(keys))
