"""Numbered calls are carried out once, and answered alike however often they are sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_cases import Driver, session

from akv.errors import ConnectionLost, InvalidArgument, NonFinite, ProtocolError


def job(names: str, **settings: object) -> Driver:
    driver = Driver(workers=len(names), **settings)
    for name in names:
        driver.join(name)
    driver.create()
    return driver


def test_a_push_that_is_sent_again_is_applied_once_and_answered_alike() -> None:
    driver = job("ab")
    for _ in range(3):
        assert driver.outcome(driver.push("a", number=1)) == 2
    for _ in range(3):
        assert driver.outcome(driver.push("a", number=2)) == 3
        assert driver.outcome(driver.push("a", number=1)) == 2
    driver.push("b", number=1)
    driver.push("b", number=1)
    assert driver.rounds() == [["a", "b"]]
    driver.audit()
    assert len(driver.discarded) == len(driver.given) - 3


@pytest.mark.parametrize("consistency", ["async", "ssp"])
def test_a_push_that_is_sent_again_while_in_progress_is_not_answered_early(consistency: str) -> None:
    driver = job("a", eager=False, consistency=consistency)
    first = driver.push("a", number=1)
    again = driver.push("a", number=1)
    assert isinstance(driver.failure(first).error, ConnectionLost)
    assert driver.outcome(again) is None
    driver.fold()
    assert driver.outcome(again) == 2
    assert driver.outcome(driver.push("a", number=1)) == 2
    assert driver.rounds() == [["a"]]


def test_errors_are_answers_too() -> None:
    driver = job("a")
    error = NonFinite("of the contribution")
    refusal = driver._call(driver.job.refuse, session("a"), "w", error, driver.now, number=1)
    assert driver.failure(refusal).error is error
    assert driver.failure(driver.push("a", number=1)).error is error
    assert driver.outcome(driver.push("a", number=2)) == 2


def test_numbers_have_no_gaps_and_do_not_grow_old() -> None:
    driver = job("a")
    assert isinstance(driver.failure(driver.push("a", number=2)).error, ProtocolError)
    for number in (1, 2, 3):
        assert driver.outcome(driver.push("a", number=number)) == number + 1
    assert isinstance(driver.failure(driver.push("a", number=1)).error, ProtocolError)
    assert driver.outcome(driver.push("a", number=2)) == 3


def test_a_number_that_was_refused_as_too_far_ahead_can_be_sent_again() -> None:
    driver = job("ab")
    for number in (1, 2):
        driver.push("a", number=number)
    assert isinstance(driver.failure(driver.push("a", number=3)).error, ProtocolError)
    driver.push("b", number=1)
    assert driver.outcome(driver.push("a", number=3)) == 4


def test_numbers_count_per_key_so_that_priorities_may_overtake() -> None:
    driver = job("a")
    driver.create("v")
    assert driver.outcome(driver.push("a", "v", number=1)) == 2
    assert driver.outcome(driver.push("a", "w", number=1)) == 2


def test_a_barrier_passes_once_per_number() -> None:
    driver = job("ab")
    first = driver.barrier("a", number=1)
    again = driver.barrier("a", number=1)
    assert isinstance(driver.failure(first).error, ConnectionLost)
    other = driver.barrier("b", number=1)
    assert [driver.outcome(ticket) for ticket in (again, other)] == [0, 0]
    assert driver.outcome(driver.barrier("a", number=1)) == 0
    second = driver.barrier("a", number=2)
    assert driver.outcome(second) is None
    driver.barrier("b", number=2)
    assert driver.outcome(second) == 0


def test_detach_forgets_what_can_be_asked_again_and_keeps_what_is_numbered() -> None:
    driver = job("ab", consistency="ssp", eager=False)
    driver.push("a", number=1)
    held, pull = driver.push("a", number=2), driver.pull("a")
    for ticket in (held, pull):
        driver._take(driver.job.detach(ticket, driver.now))
    driver.fold()
    assert driver.outcome(held) is None
    driver.push("b", number=1)
    driver.fold()
    driver.fold()
    assert driver.outcome(driver.push("a", number=2)) == 4
    assert driver.outcome(pull) is None


def test_two_calls_with_one_ticket_are_refused() -> None:
    driver = job("ab")
    driver.push("a")
    driver.job.pull(77, session("a"), "w", 0.0)
    (fail,) = driver.job.pull(77, session("a"), "w", 0.0)
    assert isinstance(fail.error, InvalidArgument)  # type: ignore[union-attr]


@given(st.data())
def test_a_client_that_loses_answers_and_sends_again(data: st.DataObject) -> None:
    """Whatever arrives twice, in the order of a client that resends what is unanswered: each push counts once."""
    consistency = data.draw(st.sampled_from(["sync", "async", "ssp"]))
    driver = job("ab", consistency=consistency)
    done = {"a": 0, "b": 0}
    for _ in range(data.draw(st.integers(1, 12))):
        who = data.draw(st.sampled_from("ab"))
        if done[who] - min(done.values()) >= 1:
            continue  # a client holds it
        for _ in range(data.draw(st.integers(1, 3))):
            ticket = driver.push(who, number=done[who] + 1)
        assert isinstance(driver.outcome(ticket), int)
        done[who] += 1
    pushed = [part.who for round_ in driver.applied.get("w", []) for part in round_]
    if consistency == "sync":
        assert len(driver.rounds()) == min(done.values())
        assert driver.rounds() == [["a", "b"]] * min(done.values())
    else:
        assert {who: pushed.count(who) for who in "ab"} == done
    driver.audit()
