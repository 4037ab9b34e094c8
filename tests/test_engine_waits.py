"""Waiting for versions, and for room in the queue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_cases import LARGE, SMALL, FakeBackend, House, waiting_for_room
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.errors import AkvError, AkvTimeout, QueueFull, StoreClosed
from akv.operations import Operation, Pull, Push, Wait
from akv.scheduler import DONE, NEW, READY, STARTED, WITHDRAWN

# -- versions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [SMALL, LARGE])
def test_a_wait_holds_no_turn_and_is_woken_by_the_push_that_reaches_its_version(nbytes: int) -> None:
    """Done inline or in the backend's own time: the push that it waits for is not kept out by it."""
    house = House()
    waits = [house.wait("w", version) for version in (1, 2, 2, 3)]
    assert house.backend.running == []
    house.push(nbytes=nbytes)
    house.backend.end_all()
    assert [wait.state is DONE for wait in waits] == [True, False, False, False]
    house.push(nbytes=nbytes)
    house.backend.end_all()
    assert [wait.state is DONE for wait in waits] == [True, True, True, False]
    assert [wait.result for wait in waits] == [[1], [2], [2], None]
    assert [op for op in house.ear.told if isinstance(op, Wait)] == waits[:3]


def test_a_version_that_is_there_already_is_not_waited_for() -> None:
    house = House()
    house.push(nbytes=SMALL)
    assert [house.wait("w", version).state is DONE for version in (0, 1, 2)] == [True, True, False]


def test_a_push_that_fails_wakes_no_one() -> None:
    house = House()
    push, wait = house.push(), house.wait("w", 1)
    house.backend.end(push, AkvError("refused"))
    assert wait.state is NEW


@settings(deadline=None)
@given(st.lists(st.sampled_from("ab"), max_size=8), st.integers(1, 3))
def test_a_pull_of_several_keys_waits_until_all_have_reached_its_version(pushes: list[str], version: int) -> None:
    house = House()
    pull = Pull(["a", "b"], None, 0, version)
    house.submit(pull)
    for count in range(len(pushes) + 1):
        reached = all(pushes[:count].count(key) >= version for key in "ab")
        assert (pull in house.backend.started) is reached
        if count < len(pushes):
            house.push(pushes[count], SMALL, priority=1)
    house.backend.end_all()
    assert house.is_idle() is (pull.state is DONE)


def test_a_push_of_several_keys_wakes_once_whoever_waits_for_any_of_them() -> None:
    house = House()
    waits: list[Operation] = [Wait("a", 1), Wait("b", 1), Pull(["b", "a"], None, 0, 1), Wait("c", 1)]
    for op in waits:
        house.submit(op)
    house.submit(Push(["a", "b"], [np.zeros(1, np.uint8)] * 2, 0))
    assert [op.state for op in waits] == [DONE, DONE, STARTED, NEW]
    assert house.backend.started == [waits[2]]
    assert house.ear.told == waits[:2]


def test_an_operation_that_was_woken_waits_for_its_turn_like_any_other() -> None:
    """But it is not refused: it was taken long ago."""
    house = House(FakeBackend(queued=1))
    pull = Pull("w", None, 0, 1)
    house.submit(pull)
    first, second = house.push("x"), house.push("y")
    house.push("w", SMALL, priority=1)
    assert pull.state is READY
    house.backend.end(first)
    assert house.backend.running == [second]
    house.backend.end(second)
    assert house.backend.running == [pull]
    house.backend.end(pull)
    assert house.ear.told == [first, second, pull]


def test_as_many_wait_for_versions_as_may_be_queued() -> None:
    house = House(FakeBackend(queued=2))
    waits = [house.wait("w", 1) for _ in range(2)]
    refused = Wait("w", 1)
    with pytest.raises(QueueFull, match="wait_version: 2 operations wait"):
        house.submit(refused)
    assert refused.state is NEW
    assert house.engine.cancel(waits[0])
    assert not house.submit(refused)


@pytest.mark.parametrize("error", [None, AkvTimeout("too long")])
def test_a_wait_can_be_cancelled_and_leaves_nothing_behind(error: AkvError | None) -> None:
    house = House()
    pull = Pull(["a", "b"], None, 0, 1)
    house.submit(pull)
    assert house.engine.cancel(pull, error)
    assert not house.engine.cancel(pull)
    assert (pull.state, pull.error) == (WITHDRAWN, error)
    assert house.ear.told == ([pull] if error else [])
    house.push("a", SMALL)
    house.push("b", SMALL)
    assert house.backend.started == []
    assert house.is_idle()
    assert not house.engine._waits._by_key


# -- room -------------------------------------------------------------------------------------------------------


def filled() -> tuple[House, list[Operation]]:
    """One operation runs, as many as may wait for their turn, and as many as may wait for a version."""
    house = House(FakeBackend(queued=2))
    ops = [house.push(key) for key in "abc"]
    return house, [*ops, *(house.wait("w", 9) for _ in range(2))]


def a_push() -> Push:
    return Push("w", np.zeros(LARGE, np.uint8), 0)


def test_a_full_queue_refuses_but_not_a_flush_since_that_is_the_way_out() -> None:
    house, ops = filled()
    with pytest.raises(QueueFull, match="2 operations"):
        house.push("d", SMALL)
    flush = house.flush()
    house.backend.end_all()
    assert set(house.ear.told) == {*ops[:3], flush}


def end_one(house: House, ops: list[Operation]) -> None:
    house.backend.end(ops[0])


def cancel_one(house: House, ops: list[Operation]) -> None:
    house.engine.cancel(ops[2])


def close(house: House, ops: list[Operation]) -> None:
    house.engine.close_line(house.line)


@pytest.mark.parametrize("make_room", [end_one, cancel_one, close])
def test_who_waits_for_room_is_woken_by_an_end_a_withdrawal_and_a_close(make_room: Any) -> None:
    """Even though as many as may wait for versions: they wait for just such a push."""
    house, ops = filled()
    aside = waiting_for_room(house, a_push())
    make_room(house, ops)
    assert aside.join() is True
    assert house.engine._crowd == 0


def reach(house: House, ops: list[Operation]) -> None:
    house.backend.versions["w"] = 8
    house.push("w", SMALL, priority=1)


def cancel_a_wait(house: House, ops: list[Operation]) -> None:
    house.engine.cancel(ops[-1])


@pytest.mark.parametrize("make_room", [reach, cancel_a_wait, close])
def test_room_for_a_wait_comes_when_a_version_is_reached_or_a_wait_withdrawn(make_room: Any) -> None:
    house, ops = filled()
    aside = waiting_for_room(house, Wait("x", 1))
    make_room(house, ops)
    assert aside.join() is True


def test_waiting_for_room_ends_with_its_time_and_at_once_where_there_is_room() -> None:
    house, _ = filled()
    assert not house.engine.wait_for_room(a_push(), 0)
    assert not house.engine.wait_for_room(Wait("w", 1), 0)
    assert house.engine._crowd == 0
    assert House().engine.wait_for_room(a_push(), None)
    house.backend.versions["w"] = 1
    house.backend.end_all()
    assert house.engine.wait_for_room(Wait("w", 1), None)


# -- closing ----------------------------------------------------------------------------------------------------------


def test_closing_a_handle_withdraws_what_it_has_queued_and_starts_none_of_it() -> None:
    house = House()
    other = house.engine.open_line()
    theirs = house.push("a", line=other)
    mine = [house.push("a"), house.push("b"), house.flush(), house.push("c", priority=9), house.wait("w", 1)]
    behind, wait = house.push("a", line=other), house.wait("w", 1, line=other)
    assert not house.engine.close_line(house.line)
    assert {op.state for op in mine} == {WITHDRAWN}
    assert all(isinstance(op.error, StoreClosed) for op in mine)
    assert sorted(map(id, house.ear.told)) == sorted(map(id, mine))
    assert all(house.ear.locked)
    house.backend.end_all()
    assert house.backend.started == [theirs, behind]
    assert wait.state is NEW


def test_closing_a_handle_lets_others_go_on() -> None:
    house = House(FakeBackend(operations=2, nbytes=2 * LARGE))
    other = house.engine.open_line()
    house.push("a")
    huge, theirs = house.push("b", 2 * LARGE), house.push("c", line=other)
    assert (huge.state, theirs.state) == (READY, READY)
    house.engine.close_line(house.line)
    assert theirs in house.backend.running


def test_what_has_started_is_asked_to_end_soon_when_its_handle_is_closed() -> None:
    house = House()
    push = house.push()
    house.engine.close_line(house.line)
    assert push.state is STARTED
    assert isinstance(push.cancelled, StoreClosed)
    assert house.backend.cancelled == [push]
    house.backend.end(push)
    assert house.ear.told == [push]


def test_a_closed_handle_takes_nothing_and_the_last_one_is_known_once() -> None:
    house = House()
    other = house.engine.open_line()
    assert not house.engine.close_line(house.line)
    with pytest.raises(StoreClosed, match="push: this handle is closed"):
        house.push(nbytes=SMALL)
    assert house.push(nbytes=SMALL, line=other).state is DONE
    assert house.engine.close_line(other)
    assert not house.engine.close_line(other)
    assert not house.engine.close_line(house.line)


@pytest.mark.parametrize("busy", [False, True])
def test_the_backend_is_closed_once_and_not_while_anything_is_started(busy: bool) -> None:
    house = House(FakeBackend(operations=2))
    started = [house.push("a"), house.push("b")] if busy else []
    house.engine.close_line(house.line)
    house.engine.close()
    for op in started:
        assert house.backend.closed == 0
        house.backend.end(op)
    assert house.backend.closed == 1
