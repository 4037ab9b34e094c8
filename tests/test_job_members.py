"""Members: ranks, leases, and what a loss means to the others."""

from __future__ import annotations

import pytest
from job_cases import Driver, Reading

from akv.errors import InvalidArgument, QueueFull, SessionExpired, WorkerLost
from akv.job import Fail, Settings, Welcome, Wishes


def job(names: str, **settings: object) -> Driver:
    driver = Driver(workers=len(names), worker_timeout=10.0, **settings)
    for name in names:
        driver.join(name)
    driver.create()
    return driver


def rank_of(driver: Driver, ticket: int) -> int | None:
    welcome = driver.outcome(ticket)
    assert isinstance(welcome, Welcome), welcome
    return welcome.rank


# -- ranks and settings ---------------------------------------------------------------------------------------


def test_ranks_are_given_or_assigned_and_stable() -> None:
    driver = Driver(workers=3)
    assert rank_of(driver, driver.join("c", rank=2)) == 2
    assert rank_of(driver, driver.join("a")) == 0
    assert rank_of(driver, driver.join("b")) == 1
    assert rank_of(driver, driver.join("c")) == 2
    assert isinstance(driver.failure(driver.join("d")).error, InvalidArgument)
    assert isinstance(driver.failure(driver.join("e", rank=1)).error, InvalidArgument)
    assert isinstance(driver.failure(driver.join("f", rank=3)).error, InvalidArgument)
    assert rank_of(driver, driver.join("r", role="reader")) is None


def test_a_refused_client_can_come_again() -> None:
    driver = job("a")
    assert isinstance(driver.failure(driver.join("b")).error, InvalidArgument)
    driver.leave("a")
    assert rank_of(driver, driver.join("b")) == 0


def test_the_first_clients_choice_holds() -> None:
    settings = Settings.of(Wishes(consistency="ssp", staleness=2))
    assert settings == Settings("ssp", 2)
    settings.check(Wishes(staleness=2))
    with pytest.raises(InvalidArgument, match=r"consistency=sync is not what this job runs with.*ssp"):
        settings.check(Wishes(consistency="sync"))
    with pytest.raises(InvalidArgument, match="workers=3 is not what this job runs with"):
        settings.check(Wishes(workers=3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"consistency": "bsp"},
        {"staleness": 1},
        {"consistency": "ssp", "staleness": -1},
        {"workers": 0},
        {"on_worker_loss": "panic"},
        {"worker_timeout": 0.0},
        {"worker_timeout": float("inf")},
    ],
)
def test_settings_without_a_meaning(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match=next(reversed(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


# -- loss -----------------------------------------------------------------------------------------------------


def test_only_silence_for_the_whole_lease_is_a_loss() -> None:
    driver = job("ab")
    for _ in range(5):
        driver.tick(9.0, "a", "b")
    assert driver.lost == []
    driver.tick(9.0, "a")
    driver.tick(1.0, "a")
    assert driver.lost == ["b"]


def test_abort_tells_all_who_wait() -> None:
    driver = job("abc", on_worker_loss="abort")
    driver.push("a")
    driver.push("b")
    pulls = [driver.pull("a"), driver.pull("b")]
    version, barrier = driver.wait("a", 2), driver.barrier("b")
    driver.tick(10.0, "a", "b")
    for ticket in (*pulls, version, barrier):
        failure = driver.failure(ticket)
        assert isinstance(failure.error, WorkerLost)
        assert (failure.ranks, failure.waited) == ((2,), 10.0)
    assert "'w'" in str(driver.failure(pulls[0]).error)
    assert driver.discarded == set(driver.given)
    # And all who would wait, at once; what does not depend on it goes on.
    for ticket in (driver.push("a"), driver.wait("b", 2), driver.barrier("a")):
        assert isinstance(driver.failure(ticket).error, WorkerLost)
    assert driver.outcome(driver.pull("a")) == Reading(1, frozenset())


def test_abort_leaves_a_round_alone_that_has_everything_of_the_lost_worker() -> None:
    driver = job("ab", on_worker_loss="abort")
    driver.push("b")
    driver.lose("b")
    assert isinstance(driver.failure(driver.push("a")).error, WorkerLost)
    driver = job("ab", on_worker_loss="abort", eager=False)
    driver.push("b")
    driver.push("a")
    pull = driver.pull("a")
    driver.lose("b")
    assert driver.outcome(pull) is None
    driver.fold()
    assert driver.outcome(pull).version == 2


def test_a_push_thrown_away_by_an_abort_is_told_once() -> None:
    driver = job("ab", on_worker_loss="abort")
    assert driver.outcome(driver.push("a")) == 2
    assert driver.outcome(driver.push("a")) == 3
    driver.lose("b")
    driver.join("b2", rank=1)
    assert isinstance(driver.failure(driver.pull("a")).error, WorkerLost)
    assert driver.outcome(driver.push("a")) == 2
    driver.push("b2")
    assert driver.rounds() == [["a", "b2"]]


def test_a_worker_who_was_told_while_waiting_is_not_told_again() -> None:
    driver = job("ab", on_worker_loss="abort")
    driver.push("a")
    driver.push("a")
    pull = driver.pull("a")
    driver.lose("b")
    assert isinstance(driver.failure(pull).error, WorkerLost)
    driver.join("b2")
    assert driver.outcome(driver.push("a")) == 2


def test_drop_goes_on_without_the_lost_and_counts_only_what_is_whole() -> None:
    driver = job("abc", on_worker_loss="drop")
    driver.push("a")
    driver.push("c")
    pull, barrier = driver.pull("a"), [driver.barrier(who) for who in "ac"]
    driver.tick(10.0, "a", "c")
    assert driver.lost == ["b"]
    assert driver.rounds() == [["a", "c"]]
    assert driver.outcome(pull).version == 2
    assert [driver.outcome(ticket) for ticket in barrier] == [0, 0]
    # Back again, it is a late joiner.
    driver.push("a")
    driver.push("b")
    driver.push("c")
    assert driver.rounds()[1:] == [["a", "c"]]
    driver.push("a")
    driver.push("c")
    assert driver.rounds()[2:] == [["a", "b", "c"]]


def test_drop_keeps_what_the_lost_worker_had_given() -> None:
    driver = job("ab", on_worker_loss="drop")
    driver.push("b")
    driver.lose("b")
    driver.push("a")
    assert driver.rounds() == [["a", "b"]]


def test_wait_waits_for_the_worker_or_another_in_its_place() -> None:
    driver = job("ab", on_worker_loss="wait")
    driver.push("a")
    pull = driver.pull("a")
    driver.tick(50.0, "a")
    assert driver.lost == ["b"]
    assert driver.outcome(pull) is None
    driver.join("b2")
    driver.push("b2")
    assert driver.outcome(pull).version == 2
    assert isinstance(driver.failure(driver.push("b")).error, SessionExpired)
    driver.push("a")
    pull = driver.pull("a")
    driver.tick(50.0, "a")
    assert driver.outcome(pull) is None
    error = driver.withdraw(pull)
    assert driver.failure(pull) == Fail(pull, error, (1,), 50.0)


def test_a_worker_that_was_only_frozen_comes_back_to_its_seat() -> None:
    driver = job("ab", on_worker_loss="abort")
    driver.tick(10.0, "a")
    assert isinstance(driver.failure(driver.push("a")).error, WorkerLost)
    driver.push("b")
    driver.push("a")
    assert driver.rounds() == [["a", "b"]]


def test_a_worker_that_never_comes_is_lost_after_ten_leases() -> None:
    driver = Driver(workers=2, worker_timeout=10.0)
    driver.tick(1000.0)
    driver.join("a")
    init = driver.init("a")
    assert driver.outcome(init) == "create"
    driver.push("a")
    pull = driver.pull("a")
    driver.tick(99.0, "a")
    assert driver.outcome(pull) is None
    driver.tick(1.0, "a")
    assert isinstance(driver.failure(pull).error, WorkerLost)
    assert driver.failure(pull).ranks == (1,)


def test_inits_when_the_first_rank_is_lost() -> None:
    for policy, outcome in (("abort", WorkerLost), ("drop", str)):
        driver = Driver(workers=3, worker_timeout=10.0, on_worker_loss=policy)
        for name in "abc":
            driver.join(name)
        waiting = [driver.init("c"), driver.init("b")]
        driver.tick(10.0, "b", "c")
        found = [driver.outcome(ticket) for ticket in waiting]
        assert all(isinstance(getattr(each, "error", each), outcome) for each in found)


def test_readers_come_go_and_fall_silent_unnoticed() -> None:
    driver = job("ab", on_worker_loss="abort")
    driver.join("r", role="reader")
    driver.push("a")
    wait = driver.wait("r", 2)
    driver.tick(9.0, "a", "b")
    driver.tick(9.0, "a", "b")
    assert driver.lost == []
    driver.push("b")
    assert driver.outcome(wait) == 2
    driver.leave("r")


# -- bounds ---------------------------------------------------------------------------------------------------


def test_sessions_are_bounded_and_the_forgotten_one_is_told() -> None:
    driver = job("a")
    for number in range(7):
        driver.join(f"r{number}", role="reader")
        driver.tick(0.1, "a")
    driver.join("r7", role="reader")
    assert isinstance(driver.failure(driver.pull("r0")).error, SessionExpired)
    assert driver.outcome(driver.pull("r1")) == Reading(1, frozenset())
    assert driver.outcome(driver.push("a")) == 2


def test_live_workers_are_never_forgotten() -> None:
    driver = Driver()
    for number in range(8):
        driver.join(f"w{number}")
    assert isinstance(driver.failure(driver.join("r", role="reader")).error, QueueFull)


def test_waiting_calls_are_bounded() -> None:
    driver = job("ab")
    waits = [driver.wait("a", 2) for _ in range(65)]
    assert isinstance(driver.failure(waits.pop()).error, QueueFull)
    assert all(driver.outcome(ticket) is None for ticket in waits)
