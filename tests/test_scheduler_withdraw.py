"""Withdrawal: in every state that allows it, without a trace, and at a cost that does not grow with the queue."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_cases import ONE_BY_ONE, PLENTY, Op, is_empty, run_to_the_end, submit_all

from akv.scheduler import DONE, HELD, READY, STARTED, WAITING, WITHDRAWN, Line, Scheduler, State

MANY = 50_000


def test_what_has_started_or_ended_cannot_be_withdrawn() -> None:
    scheduler, op, at_once = Scheduler[Op](PLENTY), Op(Line(), "a"), Op(Line(), "b")
    scheduler.submit(op)
    scheduler.start(at_once)
    assert scheduler.withdraw(op) is scheduler.withdraw(at_once) is None
    assert op.state is at_once.state is STARTED
    scheduler.finish(op)
    assert scheduler.withdraw(op) is None
    assert op.state is DONE


@pytest.mark.parametrize(
    ("state", "behind"),
    [(HELD, {"fence": True}), (WAITING, {"writes": False}), (READY, {"writes": False})],
)
def test_who_waited_behind_a_withdrawn_operation_goes_on(state: State, behind: dict[str, bool]) -> None:
    """Between two reads a write is withdrawn: the second read joins the first. Likewise for fences, and the budget."""
    scheduler, line = Scheduler[Op](PLENTY._replace(nbytes=10)), Line()
    first = Op(line, "a" if state is WAITING else "b", writes=False, nbytes=5)
    obstacle = Op(line, "a", fence=state is HELD, nbytes=9)
    last = Op(line, "a", writes=False, nbytes=5)
    assert submit_all(scheduler, [first, obstacle, last]) == [first]
    assert obstacle.state is state
    assert scheduler.withdraw(obstacle) == [last]
    assert scheduler.withdraw(obstacle) is None
    assert obstacle.state is WITHDRAWN
    assert run_to_the_end(scheduler, [first, last]) == [first, last]
    assert scheduler.idle
    assert is_empty(line)


@settings(deadline=None)
@given(st.sets(st.integers(0, 11)), st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1)), max_size=12))
def test_the_rest_goes_on_as_if_the_withdrawn_had_never_come(withdrawn: set[int], wanted: list[Any]) -> None:
    def order(of: Callable[[int], bool]) -> list[int]:
        scheduler = Scheduler[Op](ONE_BY_ONE)
        ops = [Op(Line(), key, priority=priority) for key, priority in wanted]
        busy = Op(Line(), "a", "b", "c")
        submit_all(scheduler, [busy, *(op for n, op in enumerate(ops) if of(n))])
        for n, op in enumerate(ops):
            if n in withdrawn and of(n):
                assert scheduler.withdraw(op) == []
                scheduler.validate()
        return [ops.index(op) for op in run_to_the_end(scheduler, [busy])[1:]]

    assert order(lambda n: True) == order(lambda n: n not in withdrawn)


def test_withdrawing_all_of_a_handle_starts_none_of_it() -> None:
    """One by one, taking back the fence would start what it holds."""
    scheduler, line = Scheduler[Op](PLENTY), Line()
    theirs, mine = Op(Line(), "a"), [Op(line, "a"), Op(line, fence=True), Op(line, "b"), Op(line, "c", priority=9)]
    behind = Op(Line(), "a")
    assert submit_all(scheduler, [theirs, *mine, behind]) == [theirs]
    withdrawn, started = scheduler.withdraw_all(line)
    assert set(withdrawn) == set(mine)
    assert started == []
    assert {op.state for op in mine} == {WITHDRAWN}
    assert run_to_the_end(scheduler, [theirs]) == [theirs, behind]
    assert is_empty(line)


def test_withdrawing_all_of_a_handle_lets_others_go_on() -> None:
    scheduler, line = Scheduler[Op](PLENTY._replace(nbytes=10)), Line()
    running, huge, theirs = Op(Line(), "a", nbytes=5), Op(line, "b", nbytes=9), Op(Line(), "b", nbytes=5)
    assert submit_all(scheduler, [running, huge, theirs]) == [running]
    assert scheduler.withdraw_all(line) == ([huge], [theirs])


# -- the cost ---------------------------------------------------------------------------------------------


class Counted(Op):
    """Counts how often the scheduler looks at operations of its kind."""

    __slots__ = ("_state",)
    looks: ClassVar[Counter[str]] = Counter()

    @property
    def state(self) -> State:
        self.looks["state"] += 1
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state

    @property
    def writes(self) -> bool:
        self.looks["writes"] += 1
        return True

    @writes.setter
    def writes(self, writes: bool) -> None:
        pass


def crowd(where: State, size: int = MANY) -> tuple[Scheduler[Any], list[Counted], Callable[[], int]]:
    """Many operations behind one that is stuck, and what measures where they are kept."""
    scheduler = Scheduler[Any](ONE_BY_ONE)
    line, head = Line(), Op(Line(), "stuck")
    if where is HELD:
        head = Op(line, "stuck", fence=True)
    scheduler.submit(head)
    ops = [Counted(line, "stuck" if where is WAITING else f"key {n}", priority=n % 7) for n in range(size)]
    assert submit_all(scheduler, ops) == []
    assert {op._state for op in ops} == {where}
    kept = {HELD: line.held, WAITING: scheduler._lanes.taken["stuck"].waiting, READY: scheduler._ready}[where]
    return scheduler, ops, lambda: len(kept)


@pytest.mark.parametrize("order", ["oldest first", "newest first", "any"])
@pytest.mark.parametrize("where", [HELD, WAITING, READY])
def test_withdrawing_many_behind_a_stuck_head_costs_the_same_for_each(where: State, order: str) -> None:
    """Counted, not timed: the looks at operations, and what is still kept of those that are gone."""
    scheduler, ops, kept = crowd(where)
    if order == "newest first":
        ops.reverse()
    elif order == "any":
        random.Random(0).shuffle(ops)
    Counted.looks.clear()
    for gone, op in enumerate(ops, 1):
        assert scheduler.withdraw(op) == []
        assert kept() <= 2 * (MANY - gone) + 40
        assert Counted.looks.total() <= 12 * gone + 200
    assert kept() <= 40
    assert scheduler.queued == 0
    assert list(scheduler._lanes.taken) == ["stuck"]
    scheduler.validate()


@pytest.mark.parametrize("where", [HELD, WAITING, READY])
def test_the_few_that_are_left_of_many_keep_their_order(where: State) -> None:
    scheduler, ops, _ = crowd(where, 500)
    chance = random.Random(1)
    gone = set(chance.sample(ops, 470))
    for op in chance.sample(ops, len(ops)):
        if op in gone:
            scheduler.withdraw(op)
            scheduler.validate()
    left = [op for op in ops if op not in gone]
    expected = left if where is WAITING else sorted(left, key=lambda op: -op.priority)
    (head,) = scheduler._started
    assert run_to_the_end(scheduler, [head])[1:] == expected
    assert scheduler.idle
