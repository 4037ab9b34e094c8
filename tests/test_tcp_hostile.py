"""Clients that do harm: they are slowed, cut off, bounded, and the others go on."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tcp_cases import PATIENCE, QUICK, Running, Stranger, process, serving, until

import akv
from akv_tcp import wire as w
from akv_tcp.memory_budget import MemoryBudget, Share
from akv_tcp.peer import Peer
from akv_tcp.stall import StallDetector
from akv_tcp.wire.head import pack_head
from akv_tcp.wire.header import new_pack

MIB = 1 << 20
# Longer than any hostile client may last.
SOON = 15.0
PULLS = 250
SMALL = 60_000
PACK = new_pack()


def announced(request: int, nbytes: int, key: str = "w") -> bytes:
    """The beginning of a push of so many bytes."""
    entry = w.Entry(key, w.Kind.DENSE, int(w.DType.UINT8), (nbytes,), 0, nbytes)
    header = PACK((0, None, 1, nbytes, (entry,)))
    return pack_head(17, request, len(header), 0) + header


def piece(request: int, offset: int, nbytes: int) -> bytes:
    """A slice of it."""
    header = PACK((0, offset))
    return pack_head(127, request, len(header), nbytes) + header + bytes(nbytes)


def pull(request: int, key: str = "w") -> w.Pull:
    return w.Pull(request, entries=(w.Entry(key),))


class Lazy(Stranger):
    """Has little memory for what it is sent. (The kernel would take up to 32 MiB for it.)"""

    async def __aenter__(self) -> Stranger:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        return await super().__aenter__()


def backlog_of(peer: Peer) -> int:
    return peer.connection.sender.backlog


def peer_of(server: Running, count: int) -> Peer:
    """The peer of the newest of `count` connections."""
    assert server.connections == count
    return list(server._peers)[-1]


@asynccontextmanager
async def witness(server: Running) -> AsyncIterator[akv.KVStore]:
    """A client that works all the time, and must not be kept waiting."""
    async with akv.connect(f"{server.url}/witness") as kv:
        await kv.init(["w", "small"], [np.zeros(MIB, np.uint8), np.zeros(SMALL, np.uint8)])
        rounds = 0

        async def work() -> None:
            nonlocal rounds
            value, out = np.ones(MIB, np.uint8), np.empty(MIB, np.uint8)
            while True:
                out[:] = 0
                await kv.push("w", value)
                await kv.pull("w", out)
                assert out.all()
                rounds += 1
                await asyncio.sleep(0.005)

        working = asyncio.create_task(work())
        try:
            yield kv
            async with asyncio.timeout(PATIENCE):
                before = rounds
                assert before > 1
                await until(lambda: rounds > before + 1)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


# -- who does not read ----------------------------------------------------------------------------------------


async def test_one_that_never_reads_is_slowed_then_cut() -> None:
    terms = replace(QUICK, outbox=8 * MIB)
    async with serving(terms) as server, witness(server), akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(MIB, np.uint8))
        async with Lazy(server) as client:
            await client.greet()
            peer = peer_of(server, 3)
            await client.send(*[pull(number) for number in range(1, 200)])
            await until(lambda: not peer.connection.listening)
            most = 0
            async with asyncio.timeout(SOON):
                while peer.connection.open:
                    most = max(most, backlog_of(peer))
                    await asyncio.sleep(0)
            while isinstance(last := await client.event(), w.Result):
                pass
            assert isinstance(last, w.Goodbye)
            assert "bytes of answers, too little was taken for 0.4 s" in last.text
            assert await client.event() is None
        assert 4 * MIB < most <= 8 * MIB + 2 * MIB


async def test_one_that_takes_too_little_is_cut() -> None:
    terms = replace(QUICK, outbox=2 * MIB)
    async with serving(terms) as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(32 * MIB, np.uint8))
        async with Lazy(server) as client:
            await client.greet()
            peer = peer_of(server, 2)
            await client.send(pull(1))
            await until(lambda: backlog_of(peer))
            async with asyncio.timeout(SOON):
                while peer.connection.open:
                    await client.send(w.Heartbeat(1))
                    await asyncio.get_running_loop().sock_recv(client.socket, 5000)
                    await asyncio.sleep(0.01)
            assert backlog_of(peer) < 1000, "more than the good-bye"


async def test_one_without_a_connection_owes_nothing() -> None:
    async with serving(QUICK) as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(32 * MIB, np.uint8))
        async with Lazy(server) as client:
            await client.greet()
            await client.send(pull(1))
            await until(lambda: server.budget.backlog > MIB)
        await until(lambda: server.budget.backlog == 0)


async def test_many_may_together_leave_no_more_than_the_server_has() -> None:
    terms = replace(QUICK, outbox=64 * MIB, held=16 * MIB)
    async with serving(terms) as server, witness(server), AsyncExitStack() as stack:
        async with akv.connect(f"{server.url}/job") as kv:
            await kv.init("w", np.zeros(MIB, np.uint8))
        most = 0
        for number in range(12):
            client = await stack.enter_async_context(Lazy(server))
            await client.greet(client=bytes([number] * 16))
            await client.send(*[pull(number) for number in range(1, 33)])
            most = max(most, server.budget.backlog)
        async with asyncio.timeout(SOON):
            while server.connections > 1:
                most = max(most, server.budget.backlog)
                await asyncio.sleep(0)
        assert 16 * MIB < most < 16 * MIB + 12 * 3 * MIB + 32 * MIB


async def test_one_that_reads_slowly_is_only_slowed() -> None:
    terms = replace(QUICK, outbox=2 * MIB)
    async with serving(terms) as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(MIB, np.uint8))
        async with Lazy(server) as client:
            await client.greet()
            peer = peer_of(server, 2)
            await client.send(*[pull(number) for number in range(1, 13)])
            await until(lambda: not peer.connection.listening)
            for number in range(1, 13):
                await asyncio.sleep(0.05)
                await client.send(w.Heartbeat(number))
                answer = await client.event()
                assert isinstance(answer, w.Result)
                assert backlog_of(peer) <= 4 * MIB
            await until(lambda: peer.connection.listening)
            assert server.connections == 2


async def test_who_waits_for_others_is_read() -> None:
    """The pulls of each worker wait for pushes that the other sends after its own pulls."""
    count, value = 12, np.ones(MIB, np.uint8)
    async with serving(replace(QUICK, outbox=2 * MIB)) as server, AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(akv.connect(f"{server.url}/job?workers=2")) for _ in range(2)]
        await asyncio.gather(*[kv.init([f"w{number}" for number in range(count)], [value] * count) for kv in workers])
        pulls = []
        for kv, order in zip(workers, (range(count), reversed(range(count))), strict=True):
            for number in order:
                pushing = kv.push(f"w{number}", value)
                pulls += [pushing, kv.pull(f"w{number}")]
        async with asyncio.timeout(SOON):
            await asyncio.gather(*pulls)


async def test_small_answers_are_bounded_too() -> None:
    async with serving(QUICK) as server, akv.connect(f"{server.url}/job") as kv, Lazy(server) as client:
        await kv.init([f"a long name {number}" for number in range(50)], [np.zeros(1)] * 50)
        await client.greet()
        peer = peer_of(server, 2)
        (session,) = [session for session in server.sessions if session.responder is peer]
        flood = asyncio.create_task(client.send(*[w.Keys(number) for number in range(1, 6_000)]))
        most = 0
        async with asyncio.timeout(SOON):
            while server.connections == 2:
                most = max(most, session.crowd + peer.connection.sender.queued)
                await asyncio.sleep(0)
        assert 100 < most <= 2049
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)


async def test_heartbeats_do_not_set_a_held_connection_free() -> None:
    async with serving(QUICK) as server, Stranger(server) as client:
        await client.greet()
        connection = peer_of(server, 1).connection
        connection.hold()
        connection.hold()
        connection.take_events()
        await client.send(w.Keys(1))
        sent = connection.sent
        await until(lambda: connection.sent > sent + 100)
        assert connection._holds == 2
        connection.go_on()
        await asyncio.sleep(0.01)
        assert not connection.listening
        connection.go_on()
        assert isinstance(await client.event(), w.Result)


async def test_a_request_that_comes_twice_on_one_connection() -> None:
    async with serving(QUICK) as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(32 * MIB, np.uint8))
        async with Lazy(server) as client:
            await client.greet()
            peer = peer_of(server, 2)
            await client.send(pull(1))
            await until(lambda: backlog_of(peer))
            await client.send(pull(1))
            await until(lambda: not peer.connection.open)
            goodbye = await client.event()
            assert isinstance(goodbye, w.Goodbye)
            assert "request 1 came again" in goodbye.text


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 400_000), st.integers(0, 900_000)), max_size=50))
def test_progress(steps: list[tuple[float, int, int]]) -> None:
    """Whoever moves 512 KiB, or all there was, has a new start; nobody else has."""
    progress, now, moved = StallDetector(), 0.0, 0
    goal, since = 0, 0.0
    for seconds, more, left in steps:
        now, moved = now + seconds, moved + more
        if moved >= goal or not left:
            goal, since = moved + min(left, 512 * 1024), now
        assert progress.standstill(now, moved, left) == now - since


async def test_a_server_that_stood_still_blames_nobody() -> None:
    async with serving(QUICK) as server, Stranger(server) as client, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(MIB, np.uint8))
        await client.greet()
        await client.send_bytes(announced(1, MIB))
        await until(lambda: server.budget.held > MIB)
        swept = server._swept
        await until(lambda: server._swept > swept)
        server._swept -= 100.0  # as after a SIGSTOP: it was then that this was done last
        server._sweep()
        for offset in (0, MIB // 2):
            await client.send_bytes(piece(1, offset, MIB // 2))
        assert isinstance(await client.event(), w.Result)


# -- who does not go on ---------------------------------------------------------------------------------------


async def test_one_that_announces_much_and_stalls_is_cut() -> None:
    async with serving(QUICK) as server, witness(server), Stranger(server) as client:
        await client.greet()
        await client.send_bytes(announced(1, 1 << 30) + piece(1, 0, 512 * 1024))
        await until(lambda: server.budget.held > 1 << 30)
        async with asyncio.timeout(SOON):
            while server.budget.held > 1 << 30:
                await client.send(w.Heartbeat(1))  # it is there, but says nothing more
                await asyncio.sleep(0.02)
        goodbye = await client.event()
        assert isinstance(goodbye, w.Goodbye)
        assert "announced" in goodbye.text
        assert await client.event() is None


async def test_one_that_trickles_is_cut() -> None:
    async with serving(QUICK) as server, Stranger(server) as client:
        await client.greet()
        data = announced(1, 1 << 30) + piece(1, 0, 512 * 1024)
        await client.send_bytes(data[:-1000])
        with pytest.raises(OSError):  # noqa: PT011 - a reset, or a broken pipe
            for place in range(300):
                await client.send_bytes(data[place : place + 1])
                await asyncio.sleep(0.01)


async def test_one_that_goes_on_steadily_is_not() -> None:
    async with serving(QUICK) as server, Stranger(server) as client, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(4 * MIB, np.uint8))
        await client.greet()
        await client.send_bytes(announced(1, 4 * MIB))
        for place in range(8):
            await asyncio.sleep(0.15)
            await client.send_bytes(piece(1, place * 512 * 1024, 512 * 1024))
        assert isinstance(await client.event(), w.Result)


async def test_what_is_larger_than_the_server_takes() -> None:
    async with serving(replace(QUICK, held=4 * MIB)) as server, akv.connect(f"{server.url}/job") as kv:
        with pytest.raises(akv.InvalidArgument, match=f"message={4 * MIB}"):
            await kv.init("w", np.zeros(5 * MIB, np.uint8))
        await kv.init("w", np.zeros(4 * MIB, np.uint8))
        async with Stranger(server) as client:
            await client.greet()
            await client.send_bytes(announced(1, 1 << 50))
            assert isinstance(await client.event(), w.Goodbye)
        assert await kv.push("w", np.ones(4 * MIB, np.uint8)) == 2


# -- memory ---------------------------------------------------------------------------------------------------


async def test_clients_take_turns_when_memory_is_short() -> None:
    async with serving(replace(QUICK, held=5 * MIB, stall=10.0)) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(akv.connect(f"{server.url}/job")) for _ in range(6)]
        await clients[0].init("w", np.zeros(4 * MIB, np.uint8))
        await clients[0].set_updater("add")
        most = 0

        async def look() -> None:
            nonlocal most
            while True:
                most = max(most, server.budget.held)
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        async with asyncio.timeout(PATIENCE):
            value = np.ones(4 * MIB, np.uint8)
            await asyncio.gather(*[kv.push("w", value) for kv in clients for _ in range(3)])
        looking.cancel()
        assert (await clients[0].pull("w") == 18).all()
        assert most <= 5 * MIB + 6 * MIB, "more than the bound, and a little for each that held nothing"


async def test_one_that_has_begun_something_is_not_made_to_wait_for_it() -> None:
    # The second message is the more urgent; the first cannot end before it, so its memory must not be waited for.
    async with serving(replace(QUICK, held=5 * MIB, stall=10.0)) as server, Stranger(server) as client:
        async with akv.connect(f"{server.url}/job") as kv:
            for key in ("a", "b"):
                await kv.init(key, np.zeros(4 * MIB, np.uint8))
        await client.greet()
        await client.send_bytes(announced(1, 4 * MIB, "a") + announced(2, 4 * MIB, "b"))
        for request in (2, 1):
            for offset in range(0, 4 * MIB, 512 * 1024):
                await client.send_bytes(piece(request, offset, 512 * 1024))
            answer = await client.event()
            assert isinstance(answer, w.Result)
            assert answer.request == request


async def test_one_that_begins_too_much_is_refused() -> None:
    async with serving(replace(QUICK, window=4 * MIB)) as server, Stranger(server) as client:
        async with akv.connect(f"{server.url}/job") as kv:
            await kv.init(["a", "b", "c"], [np.zeros(3 * MIB, np.uint8)] * 3)
        await client.greet()
        await client.send_bytes(announced(1, 3 * MIB, "a") + announced(2, 3 * MIB, "b") + announced(3, 3 * MIB, "c"))
        answer = await client.event()
        assert isinstance(answer, w.Error)
        assert (answer.request, answer.code) == (3, w.code_of(akv.QueueFull()))


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.lists(st.integers(1, 100), max_size=6), min_size=3, max_size=3), data=st.data())
def test_room_is_kept(sizes: list[list[int]], data: st.DataObject) -> None:
    """Requests come and are answered in any order: nobody takes too much, and all get through."""
    budget, waiting = MemoryBudget(100), set[int]()
    shares = [Share(budget, 80, lambda number=number: waiting.discard(number)) for number in range(3)]  # type: ignore[misc]
    begun: list[list[int]] = [[], [], []]
    while any(sizes) or any(begun):
        comes = [number for number in range(3) if sizes[number] and number not in waiting]
        goes = [number for number in range(3) if begun[number]]
        assert comes or goes, "they wait for nothing"
        if comes and (not goes or data.draw(st.booleans())):
            number = data.draw(st.sampled_from(comes))
            if shares[number].take(sizes[number][0], 0):
                begun[number].append(sizes[number].pop(0))
            else:
                waiting.add(number)
        else:
            number = data.draw(st.sampled_from(goes))
            shares[number].give_back(begun[number].pop())
        assert budget.held == sum(map(sum, begun)) == sum(share.held for share in shares)
        assert all(share.held <= 80 or len(mine) == 1 for share, mine in zip(shares, begun, strict=True))
    assert not waiting


async def test_one_whose_time_is_over_before_it_is_there() -> None:
    async with serving(QUICK) as server:
        peer = Peer(server)
        peer.connection.abort()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: peer.connection, "127.0.0.1", server.port)
        assert transport.is_closing()
        await until(lambda: not server.connections)


async def test_jobs_are_counted() -> None:
    async with serving(replace(QUICK, jobs=2)) as server:
        for _ in range(2):
            for job in ("a", "b"):
                async with akv.connect(f"{server.url}/{job}") as kv:
                    await kv.init("w", np.zeros(1))
            with pytest.raises(akv.BackendUnavailable, match="2 jobs"):
                await akv.connect(f"{server.url}/c?timeout=5")


# -- many -----------------------------------------------------------------------------------------------------


async def harm(client: Stranger, number: int) -> None:
    """Connect, do one of the things above, and stay until the server has had enough."""
    chance = random.Random(number)
    async with client:
        if number % 5 == 0:
            pass
        elif number % 5 == 1:
            await client.send_bytes(chance.randbytes(1000))
        else:
            await client.greet("witness", chance.randbytes(16))
        if number % 5 == 2:
            await client.send(*[pull(request, "small") for request in range(1, PULLS)])
        elif number % 5 == 3:
            await client.send_bytes(announced(1, 1 << 30) + piece(1, 0, 512 * 1024))
        elif number % 5 == 4:
            await client.send_bytes(chance.randbytes(200_000))
        if number % 5 == 2:  # reads nothing
            await asyncio.sleep(1.0)
        while await client.event() is not None:
            pass


async def harm_all(server: Running) -> None:
    """Three hundred at once, sixty of each kind. All end soon, by the server's doing."""
    async with asyncio.timeout(PATIENCE):
        ends = await asyncio.gather(*[harm(Lazy(server), number) for number in range(300)], return_exceptions=True)
    assert not [end for end in ends if isinstance(end, BaseException) and not isinstance(end, ConnectionError)]


async def test_three_hundred_at_once() -> None:
    async with (
        serving(replace(QUICK, heartbeat=0.5, greeting=2.0, outbox=MIB, held=1 << 36)) as server,
        witness(server),
    ):
        harming, most = asyncio.create_task(harm_all(server)), 0
        while not harming.done():
            most = max(most, server.budget.backlog)
            await asyncio.sleep(0)
        await harming
        await until(lambda: server.connections == 1)
        assert MIB < most < 60 * (MIB + 2 * SMALL) + 8 * MIB


_SMALL_SERVER = """
import asyncio, signal
from akv.loop import run
from akv_tcp.hosting import host
from akv_tcp.server import Server
from akv_tcp.terms import Terms

async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = Server(host("memory://"), Terms(heartbeat=0.5, greeting=2.0, stall=0.4, outbox=1 << 20, held=1 << 36))
    print("tcp://%s:%d" % await server.start("127.0.0.1", 0), flush=True)
    await stopped.wait()
    await server.stop()

run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.asyncio(loop_factories=["asyncio"])  # the server has a loop of its own
async def test_the_memory_of_a_server_process_is_bounded() -> None:
    with process(_SMALL_SERVER) as (url, server):
        status = Path(f"/proc/{server.pid}/status")

        def peak() -> int:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            return int(lines["VmHWM"].split()[0]) // 1024

        place = Running(lambda job: pytest.fail("no job"))
        place.port = int(url.rpartition(":")[2])
        async with akv.connect(f"{url}/witness") as kv, asyncio.timeout(PATIENCE):
            await kv.init(["w", "small"], [np.zeros(MIB, np.uint8), np.zeros(SMALL, np.uint8)])
            before = peak()
            await harm_all(place)
            assert await kv.push("w", np.ones(MIB, np.uint8)) == 2
        # Each takes a receive buffer of 64 KiB and 0.5 MiB of a slice, or 1 MiB of answers and 1 MiB in the transport;
        # not the 1 GiB that it announced, nor the 15 MB that it asked for.
        assert peak() - before < 350, f"{peak() - before} MiB"
