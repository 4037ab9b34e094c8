"""Priority, the budget of what has started, and the bound on what waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_cases import ONE_BY_ONE, PLENTY, Op, charge, is_empty, run_to_the_end, submit_all

from akv.errors import QueueFull
from akv.scheduler import HELD, NEW, READY, STARTED, WAITING, WITHDRAWN, Budget, Line, Scheduler

PRIORITIES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


# -- priority ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(PRIORITIES)
def test_the_highest_priority_goes_first_then_the_oldest(priorities: list[int]) -> None:
    scheduler, busy = Scheduler[Op](ONE_BY_ONE), Op(Line(), "busy")
    ops = [Op(Line(), f"key {n}", priority=priority) for n, priority in enumerate(priorities)]
    assert submit_all(scheduler, [busy, *ops]) == [busy]
    assert run_to_the_end(scheduler, [busy])[1:] == sorted(ops, key=lambda op: -op.priority)


def test_an_urgent_operation_that_came_last_goes_next() -> None:
    scheduler, line = Scheduler[Op](ONE_BY_ONE._replace(nbytes=1 << 20)), Line()
    big = [Op(line, f"layer {n}", nbytes=1 << 20) for n in range(8)]
    urgent = Op(line, "loss", priority=1, nbytes=4)
    submit_all(scheduler, [*big, urgent])
    assert run_to_the_end(scheduler, big[:1]) == [big[0], urgent, *big[1:]]


def test_nothing_is_started_at_once_past_what_is_ready_and_as_urgent() -> None:
    scheduler, line = Scheduler[Op](ONE_BY_ONE), Line()
    submit_all(scheduler, [Op(line, "busy"), Op(line, "ready", priority=1)])
    assert [scheduler.admits(Op(line, "new", priority=priority)) for priority in (0, 1, 2)] == [False, False, True]


def test_a_withdrawn_operation_stands_in_no_ones_way() -> None:
    scheduler = Scheduler[Op](ONE_BY_ONE)
    busy, urgent = Op(Line(), "busy"), Op(Line(), "ready", priority=9)
    submit_all(scheduler, [busy, urgent])
    assert scheduler.withdraw(urgent) == []
    assert scheduler.admits(Op(Line(), "ready"))


# -- the budget -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=20),
    st.builds(Budget, st.integers(1, 5), st.integers(1, 20), st.just(99), st.integers(0, 5)),
)
def test_so_much_is_started_at_a_time_and_no_more(sizes: list[int], budget: Budget) -> None:
    scheduler = Scheduler[Op](budget)
    ops = [Op(Line(), f"key {n}", nbytes=size) for n, size in enumerate(sizes)]
    running = submit_all(scheduler, ops)
    order = list(running)
    while running:
        assert len(running) <= budget.operations
        assert charge(budget, *running) <= budget.nbytes or sum(charge(budget, op) > 0 for op in running) == 1
        for following in ops[len(order) : len(order) + 1]:
            too_large = charge(budget, following) and charge(budget, *running, following) > budget.nbytes
            assert too_large or len(running) == budget.operations
        started = scheduler.finish(running.pop(0))
        running += started
        order += started
    assert order == ops


def test_the_budget_may_be_filled_to_the_byte() -> None:
    scheduler = Scheduler[Op](PLENTY._replace(nbytes=10))
    ops = [Op(Line(), key, nbytes=size) for key, size in (("a", 4), ("b", 6), ("c", 1))]
    assert submit_all(scheduler, ops) == ops[:2]


def test_what_is_small_enough_counts_to_the_operations_only() -> None:
    scheduler = Scheduler[Op](Budget(operations=3, nbytes=10, queued=9, free=2))
    huge, *small = (Op(Line(), f"key {n}", nbytes=size) for n, size in enumerate([99, 2, 2, 2]))
    assert submit_all(scheduler, [huge, *small]) == [huge, *small[:2]]
    assert scheduler.submit(Op(Line(), "large", nbytes=3)) == []
    assert scheduler.finish(small[0]) == [small[2]]


def test_one_larger_than_the_budget_runs_alone_and_is_overtaken_only_by_the_more_urgent() -> None:
    scheduler = Scheduler[Op](PLENTY._replace(nbytes=10))
    small, huge, later = Op(Line(), "a", nbytes=4), Op(Line(), "b", nbytes=99), Op(Line(), "c", nbytes=1)
    urgent = Op(Line(), "d", nbytes=1, priority=1)
    assert submit_all(scheduler, [small, huge, later]) == [small]
    assert scheduler.submit(urgent) == [urgent]
    assert scheduler.finish(small) == []
    assert scheduler.finish(urgent) == [huge]
    assert scheduler.finish(huge) == [later]


def test_what_is_started_at_once_is_outside_the_budget() -> None:
    scheduler = Scheduler[Op](ONE_BY_ONE)
    at_once, queued = Op(Line(), "a"), Op(Line(), "b")
    scheduler.start(at_once)
    assert scheduler.submit(queued) == [queued]
    assert run_to_the_end(scheduler, [at_once, queued]) == [at_once, queued]
    assert scheduler.idle


def test_a_fence_without_keys_that_was_started_at_once_is_at_work_all_the_same() -> None:
    scheduler, fence = Scheduler[Op](ONE_BY_ONE), Op(Line(), fence=True)
    scheduler.start(fence)
    assert not scheduler.idle
    scheduler.finish(fence)
    assert scheduler.idle


# -- the bound on what waits ------------------------------------------------------------------------------


def full_scheduler() -> tuple[Scheduler[Op], list[Op]]:
    """A READY, a WAITING and a HELD operation behind two that run; there is no room for a fourth."""
    scheduler, line = Scheduler[Op](Budget(operations=2, nbytes=100, queued=3)), Line()
    ops = [Op(line, "a"), Op(line, "b"), Op(line, "c"), Op(line, "a"), Op(line, fence=True)]
    submit_all(scheduler, ops)
    assert [op.state for op in ops] == [STARTED, STARTED, READY, WAITING, HELD]
    return scheduler, ops


@pytest.mark.parametrize("refused", [("a",), ("c",), ("new",), (), ("a", "b", "c", "new")])
@pytest.mark.parametrize("fence", [False, True])
def test_a_full_queue_refuses_and_leaves_everything_as_it_was(refused: tuple[str, ...], fence: bool) -> None:
    """What follows is the same as where nothing was ever refused."""
    (scheduler, ops), (twin, its_ops) = full_scheduler(), full_scheduler()
    late, line = Op(ops[0].line, *refused, fence=fence), Line()
    for op in (late, Op(line, *refused, fence=fence, priority=9)):
        with pytest.raises(QueueFull, match="3 operations"):
            scheduler.submit(op)
        assert op.state is NEW
    assert is_empty(line)
    scheduler.validate()
    order, its_order = run_to_the_end(scheduler, ops[:2]), run_to_the_end(twin, its_ops[:2])
    assert [ops.index(op) for op in order] == [its_ops.index(op) for op in its_order]
    assert scheduler.idle


@pytest.mark.parametrize("make_room", [Scheduler.withdraw, lambda scheduler, op: scheduler.finish(op)])
def test_room_comes_back(make_room: Callable[[Scheduler[Op], Op], object]) -> None:
    scheduler, ops = full_scheduler()
    make_room(scheduler, ops[2] if make_room is Scheduler.withdraw else ops[1])
    assert scheduler.queued == 2
    scheduler.submit(Op(Line(), "new"))


def test_who_has_waited_elsewhere_is_taken_whatever_the_bound_says() -> None:
    scheduler, _ = full_scheduler()
    waited = Op(Line(), "new", priority=1)
    assert scheduler.admit(waited) == []
    assert scheduler.queued == 4
    assert scheduler.withdraw(waited) == []
    assert waited.state is WITHDRAWN
