"""Memory that is used again: never while anything refers to it, and no more of it lies idle than may."""

from __future__ import annotations

import gc
import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akv.values import buffers
from akv.values.buffers import Pool, empty

MIB = 1 << 20
BYTE = np.dtype(np.uint8)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_it_comes_back_when_the_last_view_is_gone() -> None:
    pool = Pool(64 * MIB)
    array = pool.take(4 * MIB)
    place = address(array)
    users: list[object] = [array[MIB:].view(np.float32).reshape(-1, 4)[::2], memoryview(array)[1:], array]
    del array
    while users:
        assert pool.nbytes == 0
        other = pool.take(4 * MIB)
        assert address(other) != place, f"used again although there is {users[-1]!r}"
        del other
        pool.clear()
        users.pop()
    assert pool.nbytes == 4 * MIB
    again = pool.take(4 * MIB)
    assert address(again) == place


def test_a_cycle_gives_it_back_too() -> None:
    pool = Pool(64 * MIB)
    cycle: list[object] = [pool.take(MIB)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert pool.nbytes == MIB


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=40))
def test_what_is_out_is_never_shared_and_what_is_idle_is_bounded(steps: list[tuple[bool, int]]) -> None:
    pool, out = Pool(6 * MIB), []
    for takes, size in steps:
        if takes or not out:
            array = pool.take(size * MIB)
            array[:] = len(out)
            out.append(array)
            del array
        else:
            array = out.pop(size % len(out))
            del array
        assert pool.nbytes <= 6 * MIB
        spans = sorted((address(array), address(array) + array.nbytes) for array in out)
        assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(spans))
        assert all((array == array[0]).all() for array in (each[::4096] for each in out))


@pytest.mark.parametrize("nbytes", [0, 1, 100, 16 << 10, MIB - 1, MIB, MIB + 1])
def test_large_ones_are_aligned_and_can_be_kept(nbytes: int) -> None:
    array = empty((nbytes,), BYTE)
    assert array.shape == (nbytes,)
    assert buffers.can_be_kept(array)
    if nbytes >= 16 << 10:
        assert address(array) % 64 == 0


def test_threads_share_it() -> None:
    pool, failures = Pool(16 * MIB), []

    def work(number: int) -> None:
        for _ in range(200):
            array = pool.take(MIB + number % 2)
            array[:: 1 << 12] = number
            if (array[:: 1 << 12] != number).any():
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failures
    assert pool.nbytes <= 16 * MIB
