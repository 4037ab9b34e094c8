"""Barriers: named, cyclic, for all live workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from job_cases import Driver

from akv.errors import InvalidArgument, QueueFull
from akv.job import Fail


def job(names: str, **settings: object) -> Driver:
    driver = Driver(workers=len(names), worker_timeout=10.0, **settings)
    for name in names:
        driver.join(name)
    return driver


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x"])), max_size=40))
def test_nobody_passes_before_all_have_come(order: list[tuple[str, str]]) -> None:
    driver = job("abc")
    came: dict[str, dict[str, int]] = {name: dict.fromkeys("abc", 0) for name in ("", "x")}
    tickets: dict[tuple[str, str], int] = {}
    for who, name in order:
        before = tickets.get((who, name))
        if before is not None and driver.outcome(before) is None:
            continue  # it waits there
        tickets[who, name] = driver.barrier(who, name)
        came[name][who] += 1
        for (each, barrier), ticket in tickets.items():
            passed = min(came[barrier].values()) >= came[barrier][each]
            assert driver.outcome(ticket) == (0 if passed else None)


def test_one_call_at_a_time() -> None:
    driver = job("ab")
    driver.barrier("a")
    assert isinstance(driver.failure(driver.barrier("a")).error, InvalidArgument)


def test_a_late_joiner_passes_along_but_is_not_waited_for() -> None:
    driver = Driver()
    driver.join("a")
    driver.join("b")
    first = driver.barrier("a")
    driver.join("c")
    joiner = driver.barrier("c")
    assert driver.outcome(joiner) is None
    driver.barrier("b")
    assert [driver.outcome(ticket) for ticket in (first, joiner)] == [0, 0]


def test_a_worker_that_leaves_is_not_waited_for() -> None:
    driver = job("abc")
    waiting = [driver.barrier("a"), driver.barrier("b")]
    driver.leave("c")
    assert [driver.outcome(ticket) for ticket in waiting] == [0, 0]


def test_who_gives_up_has_not_arrived() -> None:
    driver = job("ab")
    ticket = driver.barrier("a", "epoch")
    driver.tick(5.0, "a", "b")
    assert driver.outcome(ticket) is None
    error = driver.withdraw(ticket)
    assert driver.failure(ticket) == Fail(ticket, error, (1,), 5.0)
    other = driver.barrier("b", "epoch")
    assert driver.outcome(other) is None
    driver.barrier("a", "epoch")
    assert driver.outcome(other) == 0


def test_open_barriers_are_bounded() -> None:
    driver = job("ab")
    tickets = [driver.barrier("a", str(number)) for number in range(5)]
    assert isinstance(driver.failure(tickets[4]).error, QueueFull)
