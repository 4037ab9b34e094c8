"""async and ssp: pushes applied one by one, and how far a worker may get ahead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_cases import Driver

from akv.errors import AkvTimeout, ProtocolError, WorkerLost


def job(names: str, **settings: object) -> Driver:
    driver = Driver(workers=len(names), worker_timeout=10.0, **{"consistency": "ssp", **settings})
    for name in names:
        driver.join(name)
    driver.create()
    return driver


def test_async_applies_each_push_by_itself_and_answers_when_it_is_applied() -> None:
    driver = job("ab", consistency="async", eager=False)
    tickets = [driver.push(who) for who in "aab"]
    assert [driver.outcome(ticket) for ticket in tickets] == [None] * 3
    for done in (1, 2, 3):
        driver.fold()
        assert sum(driver.outcome(ticket) is not None for ticket in tickets) == done
    assert [driver.outcome(ticket) for ticket in tickets] == [2, 3, 4]
    assert driver.rounds() == [["a"], ["a"], ["b"]]


def test_a_pull_sees_all_that_its_worker_has_pushed() -> None:
    driver = job("ab", consistency="async", eager=False)
    driver.push("a")
    driver.push("b")
    driver.push("a")
    pull, other = driver.pull("a"), driver.pull("b")
    for _ in range(3):
        driver.fold()
    assert [driver.outcome(ticket).version for ticket in (pull, other)] == [4, 3]


@given(st.integers(0, 3), st.lists(st.sampled_from("abc"), max_size=40))
def test_the_bound_of_ssp(staleness: int, order: list[str]) -> None:
    """The n-th push is accepted exactly when every worker has made n - 1 - k."""
    driver = job("abc", staleness=staleness)
    made = dict.fromkeys("abc", 0)
    held: list[tuple[str, int]] = []
    for who in order:
        if sum(name == who for name, _ in held) == 4:
            continue
        held.append((who, driver.push(who)))
        progress = True
        while progress:
            progress = False
            for name in "abc":
                first = next(((each, ticket) for each, ticket in held if each == name), None)
                if first is not None and all(made[each] >= made[name] - staleness for each in "abc"):
                    held.remove(first)
                    made[name] += 1
                    progress = True
                    assert driver.outcome(first[1]) is not None
        assert all(driver.outcome(ticket) is None for _, ticket in held)
    assert {who: driver.rounds().count([who]) for who in "abc"} == made


def test_a_joiner_starts_at_the_minimum() -> None:
    driver = Driver(consistency="ssp", staleness=1)
    for who in "ab":
        driver.join(who)
    driver.create()
    for _ in range(5):
        driver.push("a")
        driver.push("b")
    driver.push("a")
    driver.join("c")
    # Its clock is 5, so it may push 7 times... were the others not at 6 and 5.
    assert driver.outcome(driver.push("b")) is not None
    assert driver.outcome(driver.push("b")) is not None
    assert driver.outcome(driver.push("b")) is None
    assert [driver.outcome(driver.push("c")) is not None for _ in range(3)] == [True, True, True]


def test_one_that_was_expected_from_the_start_is_waited_for_from_the_start() -> None:
    driver = Driver(consistency="ssp", staleness=1, workers=2)
    driver.join("a")
    driver.create()
    tickets = [driver.push("a") for _ in range(3)]
    assert [driver.outcome(ticket) is not None for ticket in tickets] == [True, True, False]
    driver.join("b")
    assert driver.outcome(tickets[2]) is None
    driver.push("b")
    assert driver.outcome(tickets[2]) is not None


@pytest.mark.parametrize(("policy", "outcome"), [("abort", WorkerLost), ("drop", int), ("wait", AkvTimeout)])
def test_a_loss_while_a_push_is_held(policy: str, outcome: type) -> None:
    driver = job("ab", on_worker_loss=policy)
    driver.push("a")
    held, pull = driver.push("a"), driver.pull("a")
    driver.tick(20.0, "a")
    driver.tick(30.0, "a")
    assert (driver.outcome(held) is None) == (policy == "wait")
    driver.withdraw(held)
    found = driver.outcome(held)
    assert isinstance(getattr(found, "error", found), outcome)
    if policy != "drop":
        assert driver.failure(held).ranks == (1,)
    if policy == "wait":
        # The pull goes on, for what was pushed before.
        assert driver.outcome(pull).version == 2
    driver.audit()


def test_what_is_accepted_is_applied_though_nobody_waits_for_it() -> None:
    driver = job("a", eager=False)
    push = driver.push("a")
    driver.withdraw(push)
    assert driver.outcome(push) is None
    driver.fold()
    assert driver.outcome(push) == 2


def test_async_waits_for_nobody() -> None:
    driver = job("ab", consistency="async", on_worker_loss="abort")
    driver.tick(10.0, "a")
    assert driver.lost == ["b"]
    assert [driver.outcome(driver.push("a")) for _ in range(9)] == list(range(2, 11))


def test_pushes_in_progress_are_bounded() -> None:
    driver = job("ab", consistency="async", eager=False)
    for _ in range(4):
        driver.push("a")
    assert isinstance(driver.failure(driver.push("a")).error, ProtocolError)
    assert driver.outcome(driver.push("b")) is None
    driver.fold()
    driver.push("a")
    assert driver.discarded == {driver.given[4]}


def test_what_is_queued_can_be_withdrawn_where_no_clock_counts_it() -> None:
    for consistency, outcome in (("async", AkvTimeout), ("ssp", int)):
        driver = job("a", consistency=consistency, eager=False)
        driver.push("a")
        push = driver.push("a")
        driver.withdraw(push)
        driver.fold()
        if consistency == "ssp":
            driver.fold()
        found = driver.outcome(push)
        assert isinstance(getattr(found, "error", found), outcome)
        assert not driver.folding
        driver.audit()
