"""A store's threads: work in order, no more threads than allowed, none left when idle; and passes cut into slices."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from engine_cases import PATIENCE, Aside, until
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.backend import thread_pool as module
from akv.backend.storage import Where
from akv.backend.thread_pool import Slices, ThreadPool

NAME = "akv-pool-under-test"


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture(autouse=True)
def _threads_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Idle threads end soon here, and none outlives its test."""
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.02)
    yield
    for thread in alive():
        thread.join(PATIENCE)
    assert not alive()


class Stage:
    """Work that says when it has begun, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.begun.release()
        assert self.go.wait(PATIENCE)
        with self._lock:
            self.inside -= 1

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE)


# -- threads --------------------------------------------------------------------------------------------------------


def test_one_thread_works_in_the_order_in_which_it_came() -> None:
    pool, seen, done = ThreadPool(NAME, 1), [], threading.Event()
    for number in range(50):
        pool.submit(lambda number=number: seen.append(number))
    pool.submit(done.set)
    assert done.wait(PATIENCE)
    assert seen == list(range(50))


@pytest.mark.parametrize("size", [1, 3])
def test_there_are_never_more_threads_than_allowed_and_all_of_them_help(size: int) -> None:
    pool, stage = ThreadPool(NAME, size), Stage()
    pool.submit(stage, copies=5)
    for _ in range(5):
        pool.submit(stage)
    stage.wait_for(size)
    assert len(alive()) == size
    assert all(thread.daemon for thread in alive())
    stage.go.set()
    stage.wait_for(10 - size)
    assert stage.most == size


def test_no_copies_of_a_work_are_no_work() -> None:
    ThreadPool(NAME, 1).submit(lambda: pytest.fail("it was called"), copies=0)
    assert not alive()


def test_an_idle_thread_is_used_again_and_ends_by_itself() -> None:
    module._IDLE_SECONDS = PATIENCE
    pool, ids = ThreadPool(NAME, 4), []
    for count in range(3):
        pool.submit(lambda: ids.append(threading.get_ident()))
        until(lambda count=count: len(ids) == count + 1 and pool._idle == 1)
    (thread,) = alive()
    assert set(ids) == {thread.ident}
    module._IDLE_SECONDS = 0.0
    pool.submit(lambda: None)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert (pool._threads, pool._idle) == (0, 0)


def test_work_is_done_after_the_threads_have_ended() -> None:
    pool = ThreadPool(NAME, 2)
    for _ in range(3):
        done = threading.Event()
        pool.submit(done.set)
        assert done.wait(PATIENCE)
        for thread in alive():
            thread.join(PATIENCE)
        assert pool._threads == 0


def test_work_that_comes_while_a_thread_gives_up_waiting_is_never_lost() -> None:
    module._IDLE_SECONDS = 0.0
    pool, count = ThreadPool(NAME, 2), 300
    done = threading.Semaphore(0)
    for _ in range(count):
        pool.submit(done.release)
    for _ in range(count):
        assert done.acquire(timeout=PATIENCE)


# -- slices -----------------------------------------------------------------------------------------------------------


def nth(where: Where) -> int:
    assert isinstance(where, slice)
    return int(where.start)


def cut(count: int) -> Iterator[Where]:
    return (slice(number, number + 1) for number in range(count))


def worked_by(threads: int, work: Callable[[], None]) -> None:
    for aside in [Aside(work) for _ in range(threads)]:
        aside.join()


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 4))
def test_every_slice_is_run_once_however_many_help(count: int, threads: int) -> None:
    seen: Counter[int] = Counter()
    slices = Slices(lambda where: seen.update([nth(where)]), cut(count), lambda: False)
    worked_by(threads, slices.work)
    assert slices.join() is True
    assert seen == Counter(range(count))
    slices.work()  # a thread that comes late finds nothing
    assert seen.total() == count


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 20))
def test_stopped_it_takes_no_more_and_says_whether_it_was_done_nevertheless(count: int, stop: int) -> None:
    seen: list[int] = []
    slices = Slices(lambda where: seen.append(nth(where)), cut(count), lambda: len(seen) >= stop)
    slices.work()
    assert slices.join() is (stop >= count)
    assert seen == list(range(min(count, stop)))


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 19))
def test_an_error_is_kept_for_join_and_no_more_is_taken(kind: type[BaseException], count: int, bad: int) -> None:
    seen: list[int] = []
    error = kind("a bad slice")

    def run(where: Where) -> None:
        seen.append(nth(where))
        if nth(where) == bad:
            raise error

    slices = Slices(run, cut(count), lambda: False)
    slices.work()
    slices.work()
    if bad < count:
        with pytest.raises(kind) as caught:
            slices.join()
        assert caught.value is error
    else:
        assert slices.join() is True
    assert seen == list(range(min(count, bad + 1)))


def test_the_first_of_several_errors_is_raised() -> None:
    both, first_failed = threading.Barrier(2), threading.Event()

    def run(where: Where) -> None:
        both.wait(PATIENCE)
        if nth(where) == 0:
            raise ValueError("first")
        assert first_failed.wait(PATIENCE)
        raise ValueError("second")

    slices = Slices(run, cut(2), lambda: False)
    helpers = [Aside(slices.work) for _ in range(2)]
    until(lambda: slices._error is not None)
    first_failed.set()
    for helper in helpers:
        helper.join()
    with pytest.raises(ValueError, match="first"):
        slices.join()


def test_join_waits_for_slices_that_others_have_taken() -> None:
    stage = Stage()
    slices = Slices(lambda where: stage(), cut(1), lambda: False)
    helper = Aside(slices.work)
    stage.wait_for(1)
    slices.work()
    joining = Aside(slices.join)
    assert stage.inside == 1
    assert joining._thread.is_alive()
    stage.go.set()
    assert joining.join() is True
    helper.join()


def test_a_pool_and_its_caller_share_the_slices() -> None:
    pool, seen = ThreadPool(NAME, 3), Counter[int]()
    for _ in range(20):
        slices = Slices(lambda where: seen.update([nth(where)]), cut(30), lambda: False)
        pool.submit(slices.work, pool.size - 1)
        slices.work()
        assert slices.join() is True
    assert seen == Counter(list(range(30)) * 20)
