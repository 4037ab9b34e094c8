"""Operations that go on in another stage, with the turn of other keys."""

from __future__ import annotations

import pytest
from engine_cases import SMALL, FakeBackend, House

from akv.errors import AkvError, StoreClosed
from akv.operations import Flush
from akv.scheduler import DONE, HELD, STARTED, WAITING, WITHDRAWN


def staged() -> tuple[House, Flush]:
    """A fence that has started and will want the turn of "w", which another handle holds."""
    house = House(FakeBackend(operations=3), inline=False)
    other = house.engine.open_line()
    op = house.flush()
    house.push("w", line=other)
    op.wanted = ["w"]
    return house, op


def test_it_is_started_again_when_it_has_the_turn_and_is_told_at_the_end_of_the_last_stage() -> None:
    house, op = staged()
    push = house.backend.running[1]
    after = house.push("v")
    house.backend.end(op)
    assert (op.state, after.state, op.wanted) == (WAITING, HELD, None)
    assert house.backend.running == [push]
    house.backend.end(push)
    assert house.backend.running == [op]
    op.wanted = ()
    house.backend.end(op)
    assert house.backend.running == [op]
    assert house.ear.told == [push]
    house.backend.end(op)
    assert house.ear.told == [push, op]
    assert house.backend.started.count(op) == 3
    house.backend.end(after)
    assert house.is_idle()


def test_cancelled_while_it_runs_it_does_not_go_on() -> None:
    house, op = staged()
    error = AkvError("gone")
    assert not house.engine.cancel(op, error)
    house.backend.end(op)
    assert (op.state, op.error, op.wanted) == (DONE, error, None)
    assert house.ear.told == [op]
    house.backend.end_all()
    assert house.is_idle()


@pytest.mark.parametrize("by", ["cancel", "close"])
def test_withdrawn_between_two_stages_it_leaves_nothing_behind(by: str) -> None:
    house, op = staged()
    house.backend.end(op)
    if by == "cancel":
        assert house.engine.cancel(op, StoreClosed("gone"))
    else:
        house.engine.close_line(house.line)
    assert op.state is WITHDRAWN
    assert isinstance(op.error, StoreClosed)
    assert house.ear.told == [op]
    house.backend.end_all()
    assert house.backend.started.count(op) == 1
    assert house.is_idle()


def test_the_backend_stays_open_until_the_last_stage() -> None:
    house, op = staged()
    house.backend.end(house.backend.running[1])
    house.engine.close()
    house.backend.end(op)
    assert house.backend.running == [op]
    assert house.backend.closed == 0
    house.backend.end(op)
    assert house.backend.closed == 1


def test_what_began_in_its_caller_goes_on_in_the_backend() -> None:
    """Outside the lock, where there is a function of the user's to call."""
    backend = FakeBackend()
    backend.calls_out = True
    house, op = House(backend), Flush()
    backend.while_running = lambda running: setattr(running, "wanted", ["w"])
    assert not house.submit(op)
    backend.while_running = lambda running: None
    assert (op.state, backend.running) == (STARTED, [op])
    assert house.push("w", SMALL, line=house.engine.open_line()).state is not DONE
    house.backend.end_all()
    assert op in house.ear.told
    assert house.is_idle()
