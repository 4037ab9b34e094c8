"""Work that calls a function of the user's: it runs in its caller, but outside the engine's lock."""

from __future__ import annotations

import pytest
from engine_cases import LARGE, SMALL, FakeBackend, House

from akv.errors import StoreClosed
from akv.operations import Operation, Pull, SetUpdater
from akv.scheduler import DONE, STARTED, WAITING


def calling_out() -> House:
    backend = FakeBackend(operations=2)
    backend.calls_out = True
    return House(backend)


def test_it_is_done_when_submit_returns_and_the_lock_was_free_meanwhile() -> None:
    house, seen = calling_out(), []
    house.backend.while_running = lambda op: seen.append((op.state, house.engine._lock.locked()))
    push = house.push(nbytes=SMALL)
    assert seen == [(STARTED, False)]
    assert push.state is DONE
    assert (house.backend.started, house.ear.told) == ([], [])
    assert house.is_idle()


def test_it_holds_the_turn_of_its_keys_and_what_came_meanwhile_goes_on_after_it() -> None:
    house = calling_out()
    other = house.engine.open_line()
    came: list[Operation] = []

    def come(op: Operation) -> None:
        house.backend.while_running = lambda op: None
        came.extend(house.push(key, SMALL, line=other) for key in "wv")
        came.append(house.flush())
        assert [later.state is DONE for later in came] == [False, True, False]
        assert came[0].state is WAITING
        assert not house.engine.cancel(op)

    house.backend.while_running = come
    push = house.push("w", SMALL)
    assert push.state is DONE
    assert house.backend.running == [came[2], came[0]]
    house.backend.end_all()
    assert house.ear.told == [came[2], came[0]]
    assert house.backend.versions == {"w": 2, "v": 1}
    assert house.is_idle()


def test_large_work_is_started_in_the_backend_all_the_same() -> None:
    house = calling_out()
    assert house.push(nbytes=LARGE).state is STARTED
    assert house.backend.ran == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_it_raises_the_turn_is_given_back(error: type[BaseException]) -> None:
    """A backend lets no error through; Ctrl-C comes through all the same."""
    house = calling_out()

    def interrupt(op: Operation) -> None:
        raise error

    house.backend.while_running = interrupt
    with pytest.raises(error):
        house.push(nbytes=SMALL)
    house.backend.while_running = lambda op: None
    assert house.is_idle()
    assert house.push(nbytes=SMALL).state is DONE


@pytest.mark.parametrize("inline", [True, False])
def test_from_the_fence_on_that_changes_it_the_lock_is_free(inline: bool) -> None:
    house, locked = House(inline=inline), []

    def run(op: Operation) -> None:
        locked.append(house.engine._lock.locked())
        if isinstance(op, SetUpdater):
            house.backend.calls_out = not house.backend.calls_out

    house.backend.while_running = run
    for _ in range(2):
        if inline:
            house.push(nbytes=SMALL)
            house.submit(SetUpdater("add"))
        else:
            fence = SetUpdater("add")
            house.submit(fence)
            house.backend.calls_out = True
            house.backend.end(fence)
            assert house.engine._calls_out
    assert locked == ([True, True, False, False] if inline else [])


def test_the_backend_is_not_closed_under_a_fence_that_runs_in_its_caller() -> None:
    house, closed = calling_out(), []

    def close(op: Operation) -> None:
        house.engine.close_line(house.line)
        house.engine.close()
        closed.append(house.backend.closed)

    house.backend.while_running = close
    assert house.flush().state is DONE
    assert [*closed, house.backend.closed] == [0, 1]


def test_it_wakes_who_waits_for_its_version_and_lets_the_backend_close() -> None:
    house = calling_out()
    pull = Pull("w", None, 0, 1)
    house.submit(pull)
    house.push(nbytes=SMALL)
    assert house.backend.running == [pull]

    def close(op: Operation) -> None:
        house.engine.close_line(house.line)
        house.engine.close()
        assert house.backend.closed == 0

    house.backend.while_running = close
    house.push("v", SMALL)
    assert house.backend.closed == 0  # the pull runs still
    house.backend.end_all()
    assert house.backend.closed == 1
    with pytest.raises(StoreClosed):
        house.push(nbytes=SMALL)
