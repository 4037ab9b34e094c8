"""How operations get in, and how they end: at once or in the backend's own time; cancelled, expired, told."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from engine_cases import INLINE, LARGE, SMALL, Aside, Ear, FakeBackend, House
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.errors import AkvError, AkvTimeout
from akv.operations import Describe, Flush, Operation, Pull, Push
from akv.scheduler import DONE, READY, STARTED, WAITING, WITHDRAWN

# -- at once, or queued -----------------------------------------------------------------------------------------


def test_what_is_small_and_free_is_done_when_submit_returns() -> None:
    house, locked = House(), []
    house.backend.while_running = lambda op: locked.append(house.engine._lock.locked())
    push = house.push(nbytes=INLINE)
    assert push.state is DONE
    assert push.result == [1]
    assert locked == [True]
    assert (house.backend.ran, house.backend.started) == ([push], [])
    assert house.is_idle()


@pytest.mark.parametrize(("nbytes", "inline"), [(INLINE + 1, True), (LARGE, True), (SMALL, False), (0, False)])
def test_what_is_large_or_not_wanted_inline_is_started_in_the_backend(nbytes: int, inline: bool) -> None:
    house = House(inline=inline)
    push = house.push(nbytes=nbytes)
    assert push.state is STARTED
    assert (house.backend.ran, house.backend.started) == ([], [push])
    house.backend.end(push)
    assert push.state is DONE
    assert house.ear.told == [push]
    assert house.is_idle()
    assert house.backend.closed == 0


def test_the_backend_is_asked_for_a_size_that_the_operation_does_not_know() -> None:
    house = House()
    house.backend.sizes["pull"] = INLINE + 1
    assert not house.submit(Pull("w", None, 0))
    assert house.submit(Pull("x", np.zeros(INLINE, np.uint8), 0))


def test_small_work_waits_for_its_key_and_its_fence_and_its_betters_but_for_nothing_else() -> None:
    house = House()
    other = house.engine.open_line()
    busy = house.push("w")
    ready = house.push("v", priority=1)
    assert busy.state is STARTED
    assert ready.state is READY
    assert house.push("w", SMALL, line=other).state is WAITING
    assert house.push("x", SMALL, priority=1, line=other).state is READY
    assert house.push("y", SMALL, priority=2, line=other).state is DONE
    assert house.flush().state is not DONE
    assert house.push("z", SMALL, priority=2).state is not DONE
    house.backend.end_all()
    assert house.is_idle()


@pytest.mark.parametrize("inline", [True, False])
def test_an_error_belongs_to_the_operation_and_to_no_other(inline: bool) -> None:
    house, error = House(inline=inline), AkvError("refused")

    def fail(op: Operation) -> None:
        op.error = error

    house.backend.while_running = fail
    failed = house.push(nbytes=SMALL)
    if not inline:
        house.backend.end(failed, error)
    assert failed.state is DONE
    assert failed.error is error
    house.backend.while_running = lambda op: None
    after = house.push(nbytes=SMALL)
    house.backend.end_all()
    assert after.error is None
    assert house.is_idle()


# -- listening and cancelling -----------------------------------------------------------------------------------


def test_who_listens_in_time_is_told_once_under_the_lock_and_who_is_late_is_not() -> None:
    house = House()
    push, late = house.push(), Ear(house.engine)
    house.backend.end(push)
    assert house.ear.told == [push]
    assert house.ear.locked == [True]
    assert not house.engine.listen(push, late)
    assert late.told == []


@pytest.mark.parametrize("error", [None, AkvError("gone")])
def test_what_is_queued_is_withdrawn_and_never_happens(error: AkvError | None) -> None:
    house = House()
    first, second, third = (house.push() for _ in range(3))
    assert house.engine.cancel(second, error)
    assert second.state is WITHDRAWN
    assert second.error is error
    assert house.ear.told == ([second] if error else [])
    house.backend.end_all()
    assert house.backend.started == [first, third]
    assert house.backend.versions == {"w": 2}
    assert not house.engine.listen(second, Ear(house.engine))
    assert house.is_idle()


def test_a_withdrawal_lets_others_go_on() -> None:
    house = House(FakeBackend(operations=2, nbytes=2 * LARGE))
    house.push("a")
    huge, behind = house.push("b", 2 * LARGE), house.push("c")
    assert (huge.state, behind.state) == (READY, READY)
    assert house.engine.cancel(huge)
    assert behind in house.backend.running


def test_a_withdrawal_is_told_once_and_under_the_lock() -> None:
    """Else a flush that it sets free could be told first, or a listener that was refused be told as well."""
    house = House()
    house.push()
    house.engine.cancel(house.push(), AkvError("gone"))
    assert house.ear.locked == [True]


def test_what_has_started_is_asked_to_end_soon_and_is_told_at_its_end() -> None:
    house, error = House(), AkvTimeout("too late")
    push = house.push()
    assert not house.engine.cancel(push)
    assert push.state is STARTED
    assert isinstance(push.cancelled, AkvError)
    first = push.cancelled
    assert not house.engine.cancel(push, error)
    assert push.cancelled is first
    assert house.ear.told == []
    house.backend.end(push)
    assert house.ear.told == [push]


def test_cancelling_what_is_done_changes_nothing() -> None:
    house = House()
    push = house.push(nbytes=SMALL)
    assert not house.engine.cancel(push, AkvError("too late"))
    assert push.state is DONE
    assert push.error is None
    assert house.backend.cancelled == []


def test_an_operation_is_either_cancelled_or_carried_out_whoever_comes_first() -> None:
    house = House()
    for _ in range(100):
        first, second = house.push(), house.push()
        start = threading.Barrier(2)

        def cancel(start: threading.Barrier = start, op: Operation = second) -> bool:
            start.wait()
            return house.engine.cancel(op)

        cancelling = Aside(cancel)
        start.wait()
        house.backend.end(first)
        withdrawn = cancelling.join()
        assert withdrawn is (second not in house.backend.started)
        assert second.state is (WITHDRAWN if withdrawn else STARTED)
        house.backend.end_all()
        assert house.ear.told.count(second) == (0 if withdrawn else 1)
    assert house.is_idle()


def test_expiry_names_the_operation_the_time_and_the_versions_it_waits_for() -> None:
    house = House()
    house.push("v", SMALL)
    house.push()
    queued, waiting = house.push(), Pull(["v", "w"], None, 0, min_version=2)
    assert not house.submit(waiting)
    assert house.engine.expire(queued, 0.25)
    assert house.engine.expire(waiting, 3)
    assert isinstance(queued.error, AkvTimeout)
    assert str(queued.error) == "push of key 'w' was not done within 0.25 s; it waits for its turn, with priority 0"
    assert "not done within 3 s; it waits for version 2, 'v' is at version 1, 'w' is at version 0" in str(waiting.error)
    assert house.ear.told == [queued, waiting]


def test_what_has_started_does_not_expire_but_is_asked_to_end_with_that_error() -> None:
    house = House()
    push = house.push()
    assert not house.engine.expire(push, 1.5)
    assert isinstance(push.cancelled, AkvTimeout)
    assert push.error is None


# -- the order in which they are told -----------------------------------------------------------------------------


def test_when_a_flush_is_started_its_predecessors_have_been_told() -> None:
    house = House()
    push, told_before = house.push(), []
    flush = house.flush()
    start = house.backend.start

    def started(op: Operation, done: Any) -> None:
        told_before.append(push in house.ear.told)
        start(op, done)

    house.backend.start = started  # type: ignore[method-assign]
    house.backend.end(push)
    assert house.backend.running == [flush]
    assert told_before == [True]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pppfc"), st.integers(0, 1), st.integers(-1, 1)), max_size=25), st.data())
def test_a_flush_is_told_after_all_that_its_handle_submitted_before_it(events: list[Any], data: st.DataObject) -> None:
    house = House(FakeBackend(operations=3, queued=100))
    lines = [house.line, house.engine.open_line()]
    submitted: list[Operation] = []
    for kind, line, priority in events:
        if kind == "f":
            submitted.append(house.flush(lines[line]))
        elif kind == "p":
            submitted.append(house.push(data.draw(st.sampled_from("abc")), LARGE, priority, lines[line]))
        elif submitted:
            house.engine.cancel(data.draw(st.sampled_from(submitted)), AkvError("gone"))
        if house.backend.running and data.draw(st.booleans()):
            house.backend.end(data.draw(st.sampled_from(house.backend.running)))
    while house.backend.running:
        house.backend.end(data.draw(st.sampled_from(house.backend.running)))
    queued = [op for op in submitted if op not in house.backend.ran]
    assert sorted(map(id, house.ear.told)) == sorted(map(id, queued))
    place = {op: place for place, op in enumerate(house.ear.told)}
    for index, op in enumerate(submitted):
        if isinstance(op, Flush) and op in place and op.state is DONE:
            before = [other for other in submitted[:index] if other.line is op.line and isinstance(other, Push)]
            assert all(place[other] < place[op] for other in before)
    assert house.is_idle()


def test_info_is_a_small_read() -> None:
    house = House()
    house.push()
    assert house.submit(Describe("v"))
    assert not house.submit(Describe("w"))
