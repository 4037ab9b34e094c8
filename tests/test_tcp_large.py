"""Requests of many keys: a thread deals with them, and nothing else changes. Push i adds one to each key."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from simulation.world import run
from tcp_cases import PATIENCE, QUICK, Running, Stranger, serving, stored, until

import akv
from akv.engine import INLINE_KEYS
from akv.operations import Operation
from akv_tcp import connection, session, work
from akv_tcp import wire as w
from akv_tcp.hosting import host

KEYS = [f"w{number}" for number in range(INLINE_KEYS + 1)]
ONE = np.ones(1, np.uint8)


class Gate:
    """Stands in for a server's thread: does what it is given when it is told to."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def submit(self, work: Callable[[], None], copies: int = 1) -> None:
        self.work.append(work)

    def open(self) -> None:
        """Do what has been given so far."""
        ready, self.work = self.work, []
        for step in ready:
            step()


@asynccontextmanager
async def gated() -> AsyncIterator[tuple[Running, Gate]]:
    """A server with all keys, zero, and small work done at once; nothing large is, before the gate is opened."""
    async with serving(QUICK, make_engine=host("memory://")) as server:
        async with akv.connect(f"{server.url}/job") as kv:
            await kv.set_updater("add")
            await kv.init(KEYS, [np.zeros(1, np.uint8)] * len(KEYS))
        gate = Gate()
        server.budget.aside = gate  # type: ignore[assignment]
        yield server, gate


def push(number: int, keys: list[str] = KEYS, kind: Any = w.Push) -> Any:
    entries = tuple([w.Entry(key, w.Kind.DENSE, int(w.DType.UINT8), (1,), 0, 1) for key in keys])
    return kind(number, entries=entries, data=[w.array_bytes(ONE)] * len(keys))


def pull(number: int, keys: list[str] = KEYS) -> w.Pull:
    return w.Pull(number, entries=tuple(map(w.Entry, keys)))


def versions(answer: Any) -> set[int]:
    assert isinstance(answer, w.Result), answer
    return {entry.version for entry in answer.entries}


def values(answer: Any) -> set[bytes]:
    assert isinstance(answer, w.Result), answer
    return set(map(bytes, answer.data))  # type: ignore[arg-type]


async def answered(client: Stranger, gate: Gate, count: int = 1) -> dict[int, Any]:
    """So many answers by their requests, with the gate open."""
    answers: dict[int, Any] = {}
    while len(answers) < count:
        coming = asyncio.ensure_future(client.event())
        while not coming.done():
            gate.open()
            await asyncio.sleep(0.001)
        answer: Any = await coming
        answers[answer.request] = answer
    return answers


async def unmoved(server: Running) -> None:
    """Some turns of the loop later, nothing has happened."""
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not stored(server, "job", KEYS[0]).any()


async def test_nothing_overtakes_a_large_request_before_it_is_in_its_place() -> None:
    async with gated() as (server, gate), Stranger(server) as client:
        await client.greet()
        await client.send(push(1), push(2, KEYS[:1]), pull(3, KEYS[:1]))
        await until(lambda: gate.work)
        await unmoved(server)
        answers = await answered(client, gate, 3)
        assert (versions(answers[1]), versions(answers[2])) == ({2}, {3})
        assert values(answers[3]) == {b"\2"}


@pytest.mark.parametrize("steps", [0, 1])
async def test_who_comes_back_meanwhile_is_answered_once(steps: int) -> None:
    """The connection is lost while the operation is made (0), or its answer (1)."""
    async with gated() as (server, gate), Stranger(server) as second:
        async with Stranger(server) as first:
            await first.greet()
            await first.send(push(1))
            await until(lambda: gate.work)
            for _ in range(steps):
                gate.open()
                await until(lambda: gate.work)
        await second.greet(resume=True)
        await second.send(push(1), push(2, KEYS[:1]))
        if not steps:
            await unmoved(server)
        answers = await answered(second, gate, 2)
        assert (versions(answers[1]), versions(answers[2])) == ({2}, {3})


@pytest.mark.parametrize("kind", [w.Push, w.PushPull])
async def test_a_lost_answer_comes_again(kind: Any) -> None:
    async with gated() as (server, gate), Stranger(server) as client:
        await client.greet()
        answers = []
        for _ in range(3):
            await client.send(push(1, KEYS, kind))
            answers.append((await answered(client, gate))[1])
        assert [versions(answer) for answer in answers] == [{2} if kind is w.Push else {0}] * 3
        assert kind is w.Push or [values(answer) for answer in answers] == [{b"\1"}] * 3
        assert all(stored(server, "job", key) == 1 for key in KEYS)


async def test_a_client_may_go_for_good_meanwhile() -> None:
    async with gated() as (server, gate):
        for steps in (1, 2):
            async with Stranger(server) as client:
                await client.greet()
                await client.send(push(1))
                await until(lambda: gate.work)
            await until(lambda: not server.connections)
            assert server.budget.held > 0
            if steps == 2:
                gate.open()
                await until(lambda: gate.work)
            (left,) = server.sessions
            server.forget(left, left=False)
            while left.busy:
                gate.open()
                await asyncio.sleep(0.001)
            assert server.budget.held == 0


async def test_a_server_that_stops_waits_for_it() -> None:
    async with gated() as (server, gate), Stranger(server) as client:
        await client.greet()
        await client.send(push(1))
        await until(lambda: gate.work)
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        error = (await answered(client, gate))[1]
        assert isinstance(error, w.Error)
        assert isinstance(w.error_from(error.code, ""), akv.StoreClosed)
        async with asyncio.timeout(PATIENCE):
            await stopping
        assert not stored(server, "job", KEYS[0]).any()


async def test_a_wait_that_was_on_its_way_when_the_server_stopped_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gated() as (server, gate), Stranger(server) as client:
        await client.greet()
        (waiting,) = server.sessions
        submit = waiting.engine.submit

        def too_late(op: Operation) -> bool:
            waiting.stop(akv.StoreClosed("the server was stopped"))
            return submit(op)

        monkeypatch.setattr(waiting.engine, "submit", too_late)
        await client.send(w.Pull(1, entries=tuple([w.Entry(key, version=2) for key in KEYS])))
        error = (await answered(client, gate))[1]
        assert isinstance(w.error_from(error.code, ""), akv.StoreClosed)


async def test_a_large_request_may_fail_and_time_out() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, asyncio.timeout(PATIENCE):
        with pytest.raises(akv.KeyNotFound):
            await kv.push(KEYS, [ONE] * len(KEYS))
        await kv.init(KEYS, [ONE] * len(KEYS))
        async with akv.connect(f"{server.url}/job", timeout=0.2) as hasty:
            with pytest.raises(akv.AkvTimeout):
                await hasty.pull(KEYS, min_version=2)
        given_up = kv.pull(KEYS, min_version=3)
        given_up.cancel()
        waiting = kv.pull(KEYS, min_version=2)
        assert await kv.push(KEYS, [ONE] * len(KEYS)) == [2] * len(KEYS)
        assert len(await waiting) == len(KEYS)
        assert len(await kv.keys()) == len(KEYS)
        await kv.delete(KEYS)
        assert await kv.keys() == []


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """In which threads what takes long was done."""
    found: dict[str, set[int]] = {}
    for module, name in ((session, "operation"), (work, "expected"), (work, "answer"), (w, "encode_answer")):
        noted(monkeypatch, module, name, found)
    return found


def noted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, found: dict[str, set[int]]) -> None:
    real = getattr(module, name)

    def call(*arguments: Any) -> Any:
        found.setdefault(name, set()).add(threading.get_ident())
        return real(*arguments)

    monkeypatch.setattr(module, name, call)


async def test_the_loop_has_no_part_in_what_takes_long(places: dict[str, set[int]]) -> None:
    arrays = [ONE] * len(KEYS)
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init(KEYS, arrays)
        await kv.push(KEYS, arrays)
        await kv.pull(KEYS)
        await kv.pushpull(KEYS, arrays)
        await kv.info(KEYS)
        await kv.delete(KEYS)
        assert set(places) == {"operation", "expected", "answer", "encode_answer"}
        assert all(threading.get_ident() not in threads for threads in places.values())
        await kv.init(KEYS[:-1], arrays[:-1])
        assert threading.get_ident() in places["operation"]


async def test_others_have_a_turn_while_one_brings_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one client sends at once is handed out over several turns of the loop, in its order."""
    monkeypatch.setattr(connection, "_TURN", -1.0)
    async with serving(make_engine=host("memory://")) as server, Stranger(server) as client:
        await client.greet()
        await client.send(push(1, KEYS[:1], w.Init), *[push(number, KEYS[:1]) for number in range(2, 30)])
        seen = set()
        async with asyncio.timeout(PATIENCE):
            while (version := server_version(server)) < 29:
                seen.add(version)
                await asyncio.sleep(0)
        assert len(seen) > 10
        answers = [await client.event() for _ in range(29)]
        assert [versions(answer) for answer in answers[1:]] == [{version} for version in range(2, 30)]


def server_version(server: Running) -> int:
    return server.jobs.store("job").version(KEYS[0])


# -- whatever happens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_all_laws_hold_where_every_request_is_large(seed: int, job: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LARGE", 0)
    monkeypatch.setattr(connection, "_TURN", -1.0)
    run(seed, job=job)
