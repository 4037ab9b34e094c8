"""Every push is applied once, whatever the network does: push i adds one to element i."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tcp_cases import PATIENCE, QUICK, Stranger, serving, stored
from tcp_proxy import CALM, Fate, Proxy, fates

import akv
from akv.errors import KeyExists
from akv_tcp import wire as w
from akv_tcp.memory_budget import Share
from akv_tcp.session import Session
from akv_tcp.slots import SLOTS, Slots, is_later, slot_of

PUSHES = 10_000 if os.environ.get("AKV_LONG") == "1" else 1_000
# What is large travels in slices.
SIZE, LARGE = 500, 140_000


class Forgetful(Session):
    """A server that does not know which pushes it has done: what comes again is done again."""

    def take(self, request: w.Request, share: Share) -> None:
        if isinstance(request, w.Push | w.PushPull) and request.request not in self._work:
            self._records.pop(slot_of(request.request), None)
        super().take(request, share)


async def push_all(proxy: Proxy, pushes: int) -> list[np.ndarray]:
    """Push each element once, small and large values mixed; return what the client sees in the end."""
    keys = [f"w{place}" for place in range(0, pushes, SIZE)]
    async with proxy.run() as url, asyncio.timeout(PATIENCE + PATIENCE * pushes / 1000):
        async with akv.connect(f"{url}/job") as kv:
            await kv.init([*keys, "large"], [np.zeros(SIZE, np.uint8)] * len(keys) + [np.zeros(LARGE, np.uint8)])
            await kv.set_updater("add")
            room = asyncio.Semaphore(40)

            async def push(number: int) -> None:
                key, place = f"w{number - number % SIZE}", number % SIZE
                async with room:
                    if is_large(number):
                        await kv.push("large", one(LARGE, number))
                    elif number % 10 == 5:
                        assert (await kv.pushpull(key, one(SIZE, place)))[place] >= 1
                    else:
                        await kv.push(key, one(SIZE, place), priority=number % 3)

            await asyncio.gather(*map(push, range(pushes)))
            found: list[np.ndarray] = await kv.pull([*keys, "large"])
            return found


def is_large(number: Any) -> Any:
    return number % 50 == 3


def one(size: int, *places: int) -> np.ndarray:
    array = np.zeros(size, np.uint8)
    array[list(places)] = 1
    return array


@pytest.mark.timeout(300)
async def test_no_push_is_lost_and_none_doubled() -> None:
    async with serving(QUICK) as server:
        proxy = Proxy(server.port, fates(1, 200_000))
        *small, large = await push_all(proxy, PUSHES)
        assert proxy.cuts > PUSHES / 50, "the network did too little harm"
        numbers = np.arange(PUSHES)
        assert np.array_equal(np.concatenate(small), ~is_large(numbers))
        assert np.array_equal(large, one(LARGE, *numbers[is_large(numbers)]))
        for place, seen in zip(range(0, PUSHES, SIZE), small, strict=True):
            assert np.array_equal(stored(server, "job", f"w{place}"), seen)


async def test_a_server_that_forgets_is_found_out() -> None:
    async with serving(QUICK, new_session=Forgetful) as server:
        try:
            *small, _ = await push_all(Proxy(server.port, fates(1, 200_000)), SIZE)
        except KeyExists:
            return  # an init was doubled
        assert small[0].max() > 1, "nothing was doubled, so the test above proves nothing"


async def test_a_lost_answer_comes_again() -> None:
    # The server has done it, and says so on a connection that nobody reads any more.
    fate = iter([Fate("swallow", up=False, after=600), *[CALM] * 9])
    async with serving(QUICK) as server, Proxy(server.port, fate).run() as url, akv.connect(f"{url}/job") as kv:
        await kv.init("w", np.zeros(9, np.uint8))
        await kv.set_updater("add")
        versions = [await kv.push("w", one(9, number % 9)) for number in range(27)]
        assert versions == list(range(2, 29))
        assert (stored(server, "job", "w") == 3).all()


# -- what a session remembers ---------------------------------------------------------------------------------


def push(number: int, kind: Any = w.Push) -> w.Push | w.PushPull:
    data = np.ones(3, np.uint8)
    entry = w.Entry("w", w.Kind.DENSE, int(w.DType.UINT8), (3,), 0, 3)
    return kind(number, entries=(entry,), data=[w.array_bytes(data)])


async def test_a_request_that_comes_again_is_answered_again() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, Stranger(server) as client:
        await kv.init("w", np.zeros(3, np.uint8))
        await kv.set_updater("add")
        await client.greet()
        answers = []
        for number in (1, 1, 1 + SLOTS, 1 + SLOTS, 2, 1 + SLOTS):
            await client.send(push(number))
            answers.append(await client.event())
        versions = [answer.entries[0].version for answer in answers if isinstance(answer, w.Result)]
        assert versions == [2, 2, 3, 3, 4, 3]
        assert (await kv.pull("w") == 3).all()


async def test_one_that_is_too_old_is_refused() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, Stranger(server) as client:
        await kv.init("w", np.zeros(3, np.uint8))
        await kv.set_updater("add")
        await client.greet()
        await client.send(push(1 + SLOTS))
        assert isinstance(await client.event(), w.Result)
        await client.send(push(1))
        answer = await client.event()
        assert isinstance(answer, w.Error)
        assert w.error_from(answer.code, "").__class__ is akv.ProtocolError
        assert (await kv.pull("w") == 1).all()


async def test_what_a_pushpull_read_is_read_again() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, Stranger(server) as client:
        await kv.init("w", np.zeros(3, np.uint8))
        await kv.set_updater("add")
        await client.greet()
        values = []
        for _ in range(2):
            await client.send(push(1, w.PushPull))
            answer = await client.event()
            assert isinstance(answer, w.Result)
            values.append(bytes(answer.data[0]))  # type: ignore[arg-type]
            await kv.push("w", np.ones(3, np.uint8))
        assert values == [bytes([1, 1, 1]), bytes([2, 2, 2])]
        assert (await kv.pull("w") == 3).all()


async def test_answers_wait_for_a_client_that_is_away() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(3, np.uint8))
        await kv.set_updater("add")
        async with Stranger(server) as client:
            await client.greet()
            await client.send(push(1))
        assert await kv.wait_version("w", 2) == 2
        async with Stranger(server) as client:
            assert (await client.greet(resume=True)).resumed
            await client.send(push(1))
            answer = await client.event()
            assert isinstance(answer, w.Result)
            assert answer.entries[0].version == 2
        assert (await kv.pull("w") == 1).all()


async def test_a_client_has_one_connection() -> None:
    async with serving() as server, Stranger(server) as first, Stranger(server) as second:
        await first.greet()
        await second.greet(resume=True)
        assert await first.event() is None
        await second.send(w.Keys(1))
        assert isinstance(await second.event(), w.Result)
        assert len(server.sessions) == 1


# -- numbers --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, SLOTS - 2) | st.none(), max_size=200), st.integers(0, (1 << 22) - 1))
def test_numbers_of_requests(steps: list[int | None], count: int) -> None:
    """None takes a number, an integer gives one of those in use back."""
    slots = Slots()
    slots._next = [(number + count * SLOTS) % 2**32 for number in slots._next]  # after many requests
    used: list[int] = []
    last: dict[int, int] = {}
    for step in steps:
        if step is None and len(slots):
            number = slots.take()
            assert 0 < number < 2**32
            assert slot_of(number) not in map(slot_of, used)
            if slot_of(number) in last:
                assert is_later(number, last[slot_of(number)])
                assert not is_later(last[slot_of(number)], number)
            used.append(number)
            last[slot_of(number)] = number
        elif step is not None and used:
            slots.give_back(used.pop(step % len(used)))


def test_there_are_as_many_numbers_as_slots() -> None:
    slots = Slots()
    assert sorted(slot_of(slots.take()) for _ in range(len(slots))) == list(range(1, SLOTS))
    assert not len(slots)
    assert not is_later(5, 5)
