"""Writes and reads of several keys in memory: by law, values as the rows of one array are written like any others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akv.backend.storage import run_one
from akv.errors import AkvError
from akv.init import zeros
from akv.optim.updaters import as_updater
from akv.values.singles import Singles, singles_of
from akv_memory.storage import MemoryStorage

# What is stored under a key: as the rows are, of another form, or lent to somebody.
STORED = st.sampled_from(["alike"] * 5 + ["shape", "dtype", "missing", "snapshot", "dead snapshot", "table"])


def storage(stored: list[str], on_nonfinite: str, updater: str) -> tuple[MemoryStorage, list[Any]]:
    """A storage, and the snapshots that are out on it."""
    found, out = MemoryStorage(on_nonfinite), []
    found.set_updater(as_updater(updater))
    for key, kind in enumerate(stored):
        if kind == "table":
            run_one(found.begin_table(key, zeros((2,)), 1))
        elif kind != "missing":
            shape, dtype = ((3,) if kind == "shape" else (2,)), (np.float64 if kind == "dtype" else np.float32)
            run_one(found.begin_init(key, np.full(shape, 7, dtype), 1))
        if kind == "snapshot":
            out.append(found.snapshot(key))
        elif kind == "dead snapshot":
            found.snapshot(key)
    return found, out


def outcome(call: Any) -> Any:
    try:
        return call()
    except AkvError as error:
        return type(error), str(error)


def state(found: MemoryStorage, keys: list[int]) -> Any:
    held = [key for key in keys if found.version(key)]
    return [(key, found.version(key), found.read([key], None)[0].tolist()) for key in held]


@given(
    st.lists(STORED, min_size=1, max_size=6),
    st.sampled_from(["allow", "reject", "skip"]),
    st.sampled_from(["assign", "add"]),
    st.sampled_from([None, np.nan, np.inf]),
    st.data(),
)
def test_rows_are_written_like_any_others(
    stored: list[str], on_nonfinite: str, updater: str, bad: float | None, data: st.DataObject
) -> None:
    block = np.arange(2 * len(stored), dtype=np.float32).reshape(-1, 2)
    if bad is not None:
        block[data.draw(st.integers(0, len(stored) - 1)), data.draw(st.integers(0, 1))] = bad
    forms = (singles_of(block), Singles(list(block)), [[row] for row in block])
    keys, results = list(range(len(stored))), []
    for groups in forms:
        found, snapshots = storage(stored, on_nonfinite, updater)
        written = [outcome(lambda f=found, g=groups: f.write(keys, g, False)) for _ in range(2)]
        results.append((written, str(state(found, keys)), [one.tolist() for one in snapshots]))
    assert results[0] == results[1] == results[2]
    if on_nonfinite != "allow":
        assert "nan" not in results[0][1]
        assert "inf" not in results[0][1]
    assert results[0][2] == [[7, 7]] * stored.count("snapshot")


@given(st.lists(STORED, min_size=1, max_size=6), st.booleans())
def test_reads_say_what_reads_of_single_keys_say(stored: list[str], into: bool) -> None:
    keys, outs = list(range(len(stored))), [np.zeros(2, np.float32) for _ in stored]
    ones = [np.zeros(2, np.float32) for _ in stored]
    found, _snapshots = storage(stored, "allow", "assign")
    together = outcome(lambda: found.read(keys, Singles(outs) if into else None))

    def one_by_one() -> Any:
        for key, out in zip(keys, ones, strict=True):
            found.begin_read(key, [out] if into else None)
        return [found.read_one(key, [out] if into else None) for key, out in zip(keys, ones, strict=True)]

    alone = outcome(one_by_one)
    assert str(outs) == str(ones)
    assert str(together) == str(alone) or (into and together == [])


def test_values_read_together_are_arrays_of_their_own() -> None:
    found, _ = storage(["alike"] * 3, "allow", "assign")
    first, *others = found.read([0, 1, 2], None)
    first += 1
    assert not np.shares_memory(first, others[0])
    assert state(found, [0]) == [(0, 1, [7, 7])]


@pytest.mark.parametrize("on_nonfinite", ["allow", "reject"])
def test_rows_may_lie_in_memory_that_is_read_only(on_nonfinite: str) -> None:
    """As they come from a network: what is stored can be written to all the same."""
    block = np.frombuffer(np.arange(6, dtype=np.float32).tobytes(), np.float32).reshape(3, 2)
    found, _ = storage(["alike"] * 3, on_nonfinite, "assign")
    for version in (2, 3):
        assert found.write([0, 1, 2], singles_of(block), False) == [version] * 3
    assert [found.read_one(key, None).tolist() for key in range(3)] == block.tolist()
