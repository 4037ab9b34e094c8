"""Rounds: who is counted, what a push is told, what a pull waits for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from job_cases import Driver, Part, Reading, session

from akv.errors import InvalidArgument, KeyNotFound, NonFinite, ProtocolError
from akv.job import Fail


def workers(names: str, **settings: object) -> Driver:
    driver = Driver(workers=len(names), **settings)
    for name in names:
        driver.join(name)
    driver.create()
    return driver


def test_a_round_is_applied_once_and_in_rank_order() -> None:
    driver = workers("abc")
    tickets = [driver.push(who) for who in "cab"]
    assert [driver.outcome(ticket) for ticket in tickets] == [2, 2, 2]
    assert driver.rounds() == [["a", "b", "c"]]


def test_two_pushes_of_one_worker_make_no_round() -> None:
    driver = workers("ab")
    assert [driver.outcome(driver.push("a")) for _ in range(2)] == [2, 3]
    assert driver.rounds() == []
    assert isinstance(driver.failure(driver.push("a")).error, ProtocolError)
    driver.push("b")
    assert driver.rounds() == [["a", "b"]]
    driver.push("b")
    assert driver.rounds() == [["a", "b"], ["a", "b"]]


def test_a_refused_push_gives_its_contribution_back() -> None:
    driver = workers("ab")
    for _ in range(3):
        driver.push("a")
    assert driver.discarded == {driver.given[2]}


@given(st.permutations([(who, key) for who in "abc" for key in ("x", "y", "z")]))
def test_any_order_of_init_and_push_over_keys(order: list[tuple[str, str]]) -> None:
    driver = Driver(workers=3)
    for who in "abc":
        driver.join(who)
    inits = [driver.init(who, key) for who, key in order]
    assert all(driver.outcome(ticket) == "create" for ticket in inits)
    pushes = [driver.push(who, key) for who, key in reversed(order)]
    pulls = [driver.pull(who, key) for who, key in order]
    assert all(driver.outcome(ticket) == 2 for ticket in pushes)
    assert all(driver.outcome(ticket).version == 2 for ticket in pulls)
    assert all(driver.rounds(key) == [["a", "b", "c"]] for key in ("x", "y", "z"))
    driver.audit()


def test_a_pull_waits_for_the_rounds_its_worker_has_pushed_to_and_no_others() -> None:
    driver = workers("ab")
    driver.push("a")
    assert driver.outcome(driver.pull("b")) == Reading(1, frozenset())
    pull = driver.pull("a")
    assert driver.outcome(pull) is None
    driver.push("a")
    driver.push("b")
    # Not for the second push, which came after the pull.
    assert driver.outcome(pull).version == 2
    assert driver.outcome(driver.pull("b")).version == 2
    assert driver.outcome(driver.pull("a")) is None


def test_the_current_version_is_readable_while_the_next_is_folded() -> None:
    driver = workers("a", eager=False)
    driver.join("r", role="reader")
    driver.push("a")
    reader, own = driver.pull("r"), driver.pull("a")
    assert driver.outcome(reader).version == 1
    assert driver.outcome(own) is None
    driver.push("a")
    assert isinstance(driver.failure(driver.push("a")).error, ProtocolError)
    driver.fold()
    assert driver.outcome(own).version == 2
    driver.fold()
    assert len(driver.rounds()) == 2


def test_a_late_joiner_is_not_counted_in_the_open_round() -> None:
    driver = Driver()
    driver.join("a")
    driver.join("b")
    driver.create()
    driver.push("a")
    driver.join("c")
    assert driver.outcome(driver.push("c")) == 3
    driver.push("b")
    assert driver.rounds() == [["a", "b"]]
    driver.push("a")
    driver.push("b")
    assert driver.rounds() == [["a", "b"], ["a", "b", "c"]]


def test_a_joiner_is_counted_in_a_round_that_others_have_run_ahead_to() -> None:
    driver = Driver()
    driver.join("a")
    driver.join("b")
    driver.create()
    driver.push("a")
    driver.push("a")
    driver.join("c")
    driver.push("b")
    driver.push("b")
    assert driver.rounds() == [["a", "b"]]
    driver.push("c")
    assert driver.rounds() == [["a", "b"], ["a", "b", "c"]]


def test_the_others_wait_for_a_worker_that_has_yet_to_come() -> None:
    driver = Driver(workers=2)
    driver.join("a")
    driver.create()
    driver.push("a")
    pull = driver.pull("a")
    assert driver.outcome(pull) is None
    driver.join("b")
    driver.push("b")
    assert driver.outcome(pull).version == 2


def test_a_worker_that_leaves_is_not_waited_for_and_what_it_gave_counts() -> None:
    driver = workers("abc")
    driver.push("a")
    driver.push("b")
    pull = driver.pull("a")
    driver.leave("b")
    driver.leave("c")
    assert driver.outcome(pull).version == 2
    assert driver.rounds() == [["a", "b"]]


def test_after_the_last_worker_the_job_waits_for_a_whole_set_again() -> None:
    driver = workers("ab")
    driver.leave("a")
    driver.leave("b")
    driver.join("c")
    driver.push("c")
    assert driver.rounds() == []
    driver.join("d")
    driver.push("d")
    assert driver.rounds() == [["c", "d"]]


def test_a_failed_fold_is_told_to_those_who_wait_and_to_the_others_at_their_next_call() -> None:
    driver = workers("ab", eager=False)
    driver.push("a")
    driver.push("b")
    pull = driver.pull("a")
    error = NonFinite("an updater's")
    driver.break_fold(error)
    assert driver.failure(pull).error is error
    assert driver.outcome(driver.pull("a")).version == 1
    assert driver.failure(driver.push("b")).error is error
    assert driver.outcome(driver.push("b")) == 2


def test_a_wait_for_a_version_also_of_a_key_to_come() -> None:
    driver = Driver(workers=1)
    driver.join("a")
    driver.join("r", role="reader")
    first, second = driver.wait("r", 1), driver.wait("r", 2)
    assert driver.outcome(first) is None
    driver.init("a")
    assert driver.outcome(first) == 1
    assert driver.outcome(second) is None
    driver.push("a")
    assert driver.outcome(second) == 2


def test_the_first_ranks_init_counts() -> None:
    driver = Driver(workers=3)
    driver.join("b", rank=1)
    driver.join("c", rank=2)
    others = [driver.init(who) for who in "bc"]
    assert [driver.outcome(ticket) for ticket in others] == [None, None]
    driver.join("a")
    driver.init("a")
    assert [driver.outcome(ticket) for ticket in others] == ["create", "create"]


def test_a_key_that_does_not_exist() -> None:
    driver = Driver(workers=1)
    driver.join("a")
    assert isinstance(driver.failure(driver.push("a")).error, KeyNotFound)
    assert driver.outcome(driver.pull("a")) == Reading(0, frozenset())


def test_delete_tells_those_who_have_pushed() -> None:
    driver = workers("ab")
    driver.push("a")
    driver.push("a")
    pull = driver.pull("a")
    driver.delete()
    assert isinstance(driver.failure(pull).error, KeyNotFound)
    assert driver.discarded == set(driver.given)
    driver.create()
    assert driver.outcome(driver.pull("a")) == Reading(1, frozenset())


def test_a_reader_takes_part_in_nothing() -> None:
    driver = workers("a")
    driver.join("r", role="reader")
    for call in (driver.push, driver.init, driver.barrier):
        assert isinstance(driver.failure(call("r")).error, InvalidArgument)  # type: ignore[operator]
    assert driver.outcome(driver.push("a")) == 2
    assert driver.rounds() == [["a"]]


def test_a_pull_that_is_given_up_names_who_is_missing_and_its_push_still_counts() -> None:
    driver = workers("abc")
    driver.push("a")
    driver.push("b")
    first, second = driver.pull("a"), driver.pull("a")
    driver.tick(5.0, *"abc")
    assert driver.outcome(first) is None
    error = driver.withdraw(first)
    assert driver.failure(first) == Fail(first, error, (2,), 5.0)
    driver.push("c")
    assert driver.rounds() == [["a", "b", "c"]]
    assert driver.outcome(second).version == 2


def test_two_calls_with_one_ticket_are_refused() -> None:
    driver = workers("ab")
    driver.push("a")
    driver.job.pull(77, session("a"), "w", 0.0)
    (fail,) = driver.job.pull(77, session("a"), "w", 0.0)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, InvalidArgument)


def test_what_was_given_is_given_back_once() -> None:
    driver = workers("ab")
    part = Part("a", "w", -1)
    driver.push("a", part=part)
    driver.push("a")
    driver.lose("b")
    assert driver.discarded == set(driver.given)
    driver.audit()
