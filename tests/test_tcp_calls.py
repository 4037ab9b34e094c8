"""The calls by themselves: what becomes of a request whose last word comes late."""

from __future__ import annotations

import asyncio
from typing import cast

import numpy as np
import pytest
from tcp_cases import PATIENCE, QUICK, Stranger, serving, until

import akv
from akv.errors import AkvError, AkvTimeout, DTypeMismatch, InvalidArgument, KeyNotFound, WorkerLost
from akv.operations import Operation, Pull
from akv_tcp import wire as w
from akv_tcp.calls import Calls
from akv_tcp.channel import Channel
from akv_tcp.terms import Terms
from akv_tcp.wire.memo import MEMO


class Nowhere:
    """A channel whose connection is broken at the moment."""

    where = "tcp://nowhere:1"
    connection = None


def calls_with(op: Operation) -> tuple[Calls, list[Operation]]:
    calls = Calls(lambda calls: cast(Channel, Nowhere()), lambda op, error: None)
    ended: list[Operation] = []
    calls.ask(op, ended.append)
    return calls, ended


@pytest.mark.parametrize(
    ("error", "kind"), [(WorkerLost("rank 1 was lost"), WorkerLost), (KeyNotFound("no such key"), AkvTimeout)]
)
async def test_a_time_out_does_not_swallow_the_loss_of_a_worker(error: AkvError, kind: type[AkvError]) -> None:
    op = Pull("w", None, 0)
    calls, ended = calls_with(op)
    ((number, call),) = calls._by_number.items()
    op.cancelled, call.leaving = AkvTimeout("pull of key 'w' was not done within 1 s"), True
    calls.received(w.Error(number, w.code_of(error), str(error), None, (1,), 0.5))
    assert ended == [op]
    assert type(op.error) is kind
    assert cast(AkvError, op.error).ranks == (1,)


@pytest.mark.parametrize(("key", "priority"), [("k" * 2000, 0), ("w", 1 << 70)])
async def test_what_the_protocol_does_not_carry_is_an_error_of_that_call_alone(key: str, priority: int) -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(3))
        for refused in (kv.push(key, np.ones(3), priority), kv.pull(key, None, priority)):
            with pytest.raises(InvalidArgument):
                await refused
        assert await kv.push("w", np.ones(3)) == 2


@pytest.mark.parametrize("size", [8, 100_000])
async def test_an_out_that_was_made_read_only_fails_its_own_call_alone(size: int) -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.ones(size))
        for _ in range(2):  # the second time on the short way
            out = np.empty(size)
            pull = kv.pull("w", out)
            out.flags.writeable = False
            with pytest.raises(ValueError, match="read-only"):
                await pull
        assert (await kv.pull("w") == 1).all()
        assert server.connections == 1


async def test_a_dtype_that_is_unknown_here_fails_its_own_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bf16 = pytest.importorskip("ml_dtypes").bfloat16
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init(["b", "w"], [np.ones(8, bf16), np.ones(8)])
        await kv.pull("b")

        def unknown(small: object) -> None:
            raise DTypeMismatch("no ml_dtypes here")

        monkeypatch.setattr(w, "dtype_to_numpy", unknown)
        with pytest.raises(DTypeMismatch):
            await kv.pull("b")
        monkeypatch.undo()
        assert (await kv.pull("w") == 1).all()


async def test_what_the_budget_refused_asks_again_though_its_header_is_known_by_then() -> None:
    """Nothing that comes later may be held back by it for ever."""
    link = w.Link(w.Side.SERVER)
    link.phase = w.Phase.OPEN
    room = [False]
    decoder = w.Decoder(link, lambda *_: bytearray(0), lambda nbytes: room[0], small=True)
    other = w.Link(w.Side.CLIENT)
    other.phase = w.Phase.OPEN
    sender = w.Sender(other)
    for number in (1, 2):
        sender.put(w.Push(number, entries=(w.Entry("new", 1, 6, (4,), 0, 4),), data=(b"abcd",)))
    stream = b"".join(sender.next_batch())
    MEMO.clear()  # as in a server that has never seen such a header
    decoder.get_buffer()[: len(stream)] = stream
    decoder.buffer_updated(len(stream))
    assert decoder.next_event() is None
    assert decoder.blocked
    room[0] = True
    assert [decoder.next_event() is None for _ in range(3)] == [False, False, True]
    assert not decoder.blocked


async def test_who_stands_still_within_a_small_frame_is_cut() -> None:
    async with serving(QUICK) as server, Stranger(server) as client:
        await client.greet()
        frame = w.FrameTemplate(w.Push(1, entries=(w.Entry("w", 1, 6, (90_000,), 0, 90_000),))).fill(
            2, 0, bytes(90_000)
        )
        await client.send_bytes(frame[:40_000])
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ConnectionError):
                for position in range(40_000, 80_000):  # a byte now and then is no progress
                    await client.send_bytes(frame[position : position + 1])
                    await asyncio.sleep(0.02)
        assert not server.connections


async def test_small_requests_go_on_while_another_client_has_taken_all_the_room() -> None:
    terms = Terms(held=4 << 20, window=4 << 20, stall=60.0)
    async with serving(terms) as server, Stranger(server) as other, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(16))
        await other.greet(client=bytes(15) + b"1")
        large = w.Push(1, entries=(w.Entry("x", 1, 6, (4 << 20,), 0, 4 << 20),), data=(bytes(4 << 20),))
        other.sender.put(large)
        await other.send_bytes(b"".join(other.sender.next_batch(1)))  # announced, and no more
        await until(lambda: server.budget.held >= 4 << 20)
        async with asyncio.timeout(PATIENCE):
            versions = [await kv.push("w", np.ones(16)) for _ in range(20)]
        assert versions == list(range(2, 22))
        assert server.budget.held >= 4 << 20, "they had to wait until the other one was cut off"
