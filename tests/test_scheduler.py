"""Whose turn it is: order per key, and fences. test_scheduler_model.py has all rules at once."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_cases import ONE_BY_ONE, PLENTY, Op, run_to_the_end, submit_all

from akv.scheduler import HELD, STARTED, WAITING, Line, Scheduler

PRIORITIES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


# -- first come, first served, per key --------------------------------------------------------------------


@settings(deadline=None)
@given(PRIORITIES)
def test_writes_of_a_key_go_one_by_one_in_the_order_of_their_arrival_whatever_their_priority(
    priorities: list[int],
) -> None:
    scheduler = Scheduler[Op](PLENTY)
    ops = [Op(Line(), "w", priority=priority) for priority in priorities]
    assert submit_all(scheduler, ops) == ops[:1]
    assert run_to_the_end(scheduler, ops[:1]) == ops
    assert scheduler.idle


@settings(deadline=None)
@given(st.text("rw", min_size=1, max_size=12))
def test_reads_overlap_between_two_writes_and_only_there(kinds: str) -> None:
    scheduler = Scheduler[Op](PLENTY)
    ops = [Op(Line(), "w", writes=kind == "w") for kind in kinds]
    together = submit_all(scheduler, ops)
    waves = []
    while together:
        waves.append("".join("w" if op.writes else "r" for op in together))
        together = [started for op in together for started in scheduler.finish(op)]
    assert "".join(waves) == kinds
    assert all(wave == "w" or set(wave) == {"r"} for wave in waves)
    assert not any(set(wave + following) == {"r"} for wave, following in itertools.pairwise(waves))


def test_a_read_does_not_overtake_a_write_that_waits() -> None:
    scheduler, line = Scheduler[Op](PLENTY), Line()
    first, write, late = Op(line, "w", writes=False), Op(line, "w"), Op(line, "w", writes=False, priority=9)
    assert submit_all(scheduler, [first, write, late]) == [first]
    assert not scheduler.admits(Op(Line(), "w", writes=False))
    assert run_to_the_end(scheduler, [first]) == [first, write, late]


def test_keys_do_not_wait_for_each_other_but_an_operation_waits_for_all_of_its_keys() -> None:
    scheduler = Scheduler[Op](PLENTY)
    a, b, both, behind = Op(Line(), "a"), Op(Line(), "b"), Op(Line(), "a", "b", "c"), Op(Line(), "c")
    assert submit_all(scheduler, [a, b, both, behind]) == [a, b]
    assert scheduler.finish(b) == []
    assert scheduler.finish(a) == [both]
    assert scheduler.finish(both) == [behind]


# -- fences -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.permutations(range(4)))
def test_a_fence_lies_between_what_its_handle_submits_before_and_after(before: int, after: int, order: Any) -> None:
    scheduler, line = Scheduler[Op](PLENTY), Line()
    early = [Op(line, f"early {n}") for n in range(before)]
    fence = Op(line, fence=True)
    late = [Op(line, f"late {n}", priority=9) for n in range(after)]
    started = submit_all(scheduler, [*early, fence, *late])
    assert started == (early or [fence])
    ended = [started_by for n in order if n < before for started_by in scheduler.finish(early[n])]
    assert ended == ([fence] if early else [])
    assert scheduler.finish(fence) == late


def test_a_fence_holds_back_no_other_handle() -> None:
    scheduler, line, other = Scheduler[Op](PLENTY), Line(), Line()
    mine = [Op(line, "a"), Op(line, fence=True), Op(line, "b")]
    theirs = [Op(other, "b"), Op(other, fence=True)]
    assert submit_all(scheduler, mine) == mine[:1]
    assert submit_all(scheduler, theirs) == theirs[:1]
    assert scheduler.finish(theirs[0]) == theirs[1:]
    assert [op.state for op in mine] == [STARTED, HELD, HELD]


def test_what_a_fence_held_back_takes_its_place_behind_who_came_meanwhile() -> None:
    scheduler, line = Scheduler[Op](PLENTY), Line()
    fence, held, stranger = Op(line, fence=True), Op(line, "w"), Op(Line(), "w")
    assert submit_all(scheduler, [fence, held, stranger]) == [fence, stranger]
    assert scheduler.finish(fence) == []
    assert scheduler.finish(stranger) == [held]


# -- stages -----------------------------------------------------------------------------------------------------


def test_an_operation_that_proceeds_gives_its_keys_up_and_takes_its_place_behind_who_waits_for_the_next() -> None:
    scheduler, line = Scheduler[Op](PLENTY), Line()
    staged, after = Op(line, "a", fence=True), Op(line, "x")
    on_a, on_b, late = Op(Line(), "a"), Op(Line(), "b"), Op(Line(), "b")
    assert submit_all(scheduler, [staged, after, on_a, on_b]) == [staged, on_b]
    assert scheduler.proceed(staged, ["b"]) == [on_a]
    assert scheduler.submit(late) == []
    assert (staged.state, after.state) == (WAITING, HELD)
    assert scheduler.finish(on_b) == [staged]
    assert scheduler.finish(staged) == [after, late]
    assert run_to_the_end(scheduler, [on_a, after, late]) == [on_a, after, late]
    assert scheduler.idle


def test_between_two_stages_an_operation_is_queued_and_outside_the_budget() -> None:
    scheduler = Scheduler[Op](ONE_BY_ONE)
    staged, next_one = Op(Line(), "a"), Op(Line(), "b", priority=1)
    submit_all(scheduler, [staged, next_one])
    assert scheduler.proceed(staged, ["b"]) == [next_one]
    assert scheduler.queued == 1
    assert scheduler.withdraw(staged) == []
    assert scheduler.finish(next_one) == []
    assert scheduler.idle
