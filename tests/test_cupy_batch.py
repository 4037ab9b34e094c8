"""Launches that wait for each other are put together in groups, and still do what they would do one by one."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from akv_cupy.batch import Batch, Small
from akv_cupy.device import Array


class Kind(NamedTuple):
    number: int
    writes: tuple[int, ...] = (0,)


class Place:
    index = 0


def array(memories: list[object], number: int) -> Array:
    one: Any = Array.__new__(Array)
    one.memory = memories[number]
    return one  # type: ignore[no-any-return]


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 5), min_size=1, max_size=3)), max_size=25))
def test_nothing_overtakes_what_it_depends_on(launches: list[tuple[int, list[int]]]) -> None:
    """Each launch writes to the first of its arrays and reads all; whoever read or wrote what, did so in this order."""
    memories = [object() for _ in range(6)]
    batch, device = Batch(), Place()
    for order, (kind, places) in enumerate(launches):
        one: Any = Kind(kind)
        batch.add(device, Small(one, one, order, tuple(array(memories, place) for place in places)))  # type: ignore[arg-type]
    groups = [[small.size for small in group] for _, group in batch.take()]
    where = {order: number for number, group in enumerate(groups) for order in group}
    assert sorted(where) == list(range(len(launches)))
    for late, (_, used) in enumerate(launches):
        for early, (_, before) in enumerate(launches[:late]):
            if before[0] in used or used[0] in before:
                assert where[early] < where[late]
    assert not list(batch.take())


def test_those_without_a_tie_go_together() -> None:
    memories = [object() for _ in range(6)]
    batch, device = Batch(), Place()
    for place in range(6):
        for kind in range(3):  # three steps for each array
            one: Any = Kind(kind)
            batch.add(device, Small(one, one, place, (array(memories, place),)))  # type: ignore[arg-type]
    assert [len(group) for _, group in batch.take()] == [6, 6, 6]
