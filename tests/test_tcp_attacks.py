"""What attackers tried with success, once: each of these has crashed, leaked or shown memory before it was mended."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from tcp_cases import Running, Stranger, serving, until
from test_tcp_checkpoint import parcel, told
from test_wire_memo import sent

import akv
from akv.backend.saved import Record
from akv.init import Normal, Uniform
from akv.init.counters import starts, units
from akv.operations import PullRows
from akv.values.buffers import POOL
from akv.values.keys import Key
from akv_memory.storage import MemoryStorage
from akv_tcp import wire as w
from akv_tcp.payloads import pack
from akv_tcp.terms import Terms
from akv_tcp.wire.head import pack_head
from akv_tcp.wire.header import new_pack
from akv_tcp.wire.memo import MEMO

MIB = 1 << 20
SECRET = 77
PACK = new_pack()


async def answers(client: Stranger, *messages: w.Message) -> dict[int, w.Event | None]:
    """Send the messages in this order, without waiting between them, and return the answers by request."""
    for message in messages:
        await client.send(message)
    found = [await client.event() for message in messages if not isinstance(message, w.Release)]
    return {getattr(event, "request", 0): event for event in found}


def text_of(event: object) -> str:
    assert isinstance(event, w.Error), event
    return event.text


def versions_in(found: dict[int, w.Event | None]) -> list[int]:
    """Those of the one answer that there is."""
    [result] = found.values()
    assert isinstance(result, w.Result), result
    return [entry.version for entry in result.entries]


# -- what is reserved for a message is given back -------------------------------------------------------------


async def after_bye(client: Stranger) -> None:
    await client.send(w.Bye(1), w.Pull(2, entries=tuple(map(w.Entry, "abcdefgh"))))


async def more_bytes_than_entries(client: Stranger) -> None:
    """In one piece: three bytes ride, of which the entries announce two."""
    header = PACK((0, None, 2, 3, (w.Entry("a", 1, 6, (1,), 0, 1), w.Entry("b", 1, 6, (1,), 0, 1))))
    await client.send_bytes(pack_head(17, 2, len(header), 3) + header + bytes(3))


async def a_large_one_hidden_in_few_bytes(client: Stranger) -> None:
    header = PACK((0, None, 1, 0, (w.Entry("a", 1, 6, (MIB,), 0, MIB),)))
    await client.send_bytes(pack_head(17, 2, len(header), 0) + header)


@pytest.mark.parametrize("harm", [after_bye, more_bytes_than_entries, a_large_one_hidden_in_few_bytes])
async def test_a_connection_that_ends_in_an_error_holds_nothing(harm: Callable[[Stranger], object]) -> None:
    async with serving() as server:
        async with Stranger(server) as client:
            await client.greet()
            await harm(client)  # type: ignore[misc]
            while (event := await client.event()) is not None:
                assert isinstance(event, w.Result | w.Goodbye)
        await until(lambda: server.connections == 0)
        assert server.budget.held == 0


# -- nobody gets memory that another has used -----------------------------------------------------------------


def fill_pool() -> None:
    """Have memory of 1 MiB lie idle, in which something stands that is nobody's business."""
    arrays = [POOL.take(MIB) for _ in range(8)]
    for array in arrays:
        array[:] = SECRET


async def seen(server: Running, job: str) -> set[int]:
    """All bytes that are stored there."""
    async with akv.connect(f"{server.url}/{job}") as kv:
        keys = await kv.keys()
        return {int(byte) for key in keys for byte in np.unique((await kv.pull(key)).view(np.uint8))}


async def test_a_stream_takes_effect_once() -> None:
    """A second Restore, sent before the first was answered, found the arrays gone and took memory as it was."""
    async with serving() as server, Stranger(server) as client:
        await client.greet("j")
        await answers(client, w.Announce(1, 0, None, *parcel(5, 0, told(Record("w", (MIB,), np.dtype("u1"), 3)))))
        await answers(client, w.Stage(2, 0, None, *parcel(5, 0, b"\1" * MIB)))
        fill_pool()
        found = await answers(client, w.Restore(3, 0, None, 5), w.Restore(4, 0, None, 5))
        assert isinstance(found[3], w.Result)
        assert "nothing was loaded" in text_of(found[4]) or "no stream 5" in text_of(found[4])
        assert await seen(server, "j") == {1}
        assert (server.budget.stream_budget.streams, server.budget.stream_budget.held) == (0, 0)


async def test_what_was_refused_in_part_is_not_taken_in() -> None:
    """A Restore that was sent before its stream had ended took memory as it was for what was not in its place."""
    records = [Record("b", (MIB,), np.dtype(bool), 5), Record("x", (MIB,), np.dtype("u1"), 5)]
    async with serving() as server, Stranger(server) as client:
        await client.greet("j")
        for start in range(10, 60, 10):  # which of the two is first, is for the threads to say
            await answers(client, w.Announce(start, 0, None, *parcel(start, 0, told(*records))))
            fill_pool()
            stage = w.Stage(start + 1, 0, None, *parcel(start, 0, b"\2" * (2 * MIB)))
            found = await answers(client, stage, w.Restore(start + 2, 0, None, start))
            assert "neither 0 nor 1" in text_of(found[start + 1])
            assert isinstance(found[start + 2], w.Error)
        assert await seen(server, "j") == set()


async def test_streams_are_numbered_from_1_on() -> None:
    """0 stands for none: a stream of that number lived on after its release, and was not counted."""
    async with serving() as server, Stranger(server) as client, akv.connect(f"{server.url}/j") as kv:
        await kv.init("w", np.ones(3))
        await client.greet("j")
        found = await answers(client, w.Capture(1), w.Release(0), w.Fetch(2, 0, None, 0, 0, 8))
        assert "from 1 on" in text_of(found[1])
        assert "no stream 0" in text_of(found[2])


# -- few bytes do not ask for many ----------------------------------------------------------------------------


async def test_what_is_asked_for_has_bounds() -> None:
    ids = np.zeros(1, np.int64)
    table = akv.init.Table((1, 2**40), np.dtype(np.float32), Normal())
    async with serving(Terms(held=4 * MIB)) as server, Stranger(server) as client:
        await client.greet()
        many = [pack("w", ids) for _ in range(10)]
        found = await answers(
            client,
            w.Init(1, 0, None, *[(part,) for part in pack("t", table)]),  # type: ignore[arg-type]
            w.Rows(2, 0, None, False, *[(part,) for part in pack("t", ids)]),  # type: ignore[arg-type]
            w.Init(3, 0, None, *[(part,) for part in pack("w", np.ones((1, MIB), np.uint8))]),  # type: ignore[arg-type]
            w.Rows(4, 0, None, False, tuple(entry for entry, _ in many), [data for _, data in many]),
            w.Rows(5, 0, None, False, tuple(entry for entry, _ in many[:4]), [data for _, data in many[:4]]),
            w.Init(6, 0, None, (w.Entry("r", 2, 6, (2**31,), 0, 0),), (b"",)),
        )
        for number, nbytes in ((2, 2**42), (4, 10 * MIB), (6, 2**31)):
            assert f"would be {nbytes} bytes" in text_of(found[number])
        for number in (1, 3, 5):
            assert isinstance(found[number], w.Result), found[number]


def test_the_size_of_rows_of_a_key_that_goes_away() -> None:
    """The server's loop asks for it while a thread may be deleting the key."""

    class Fleeting(MemoryStorage):
        def version(self, key: Key) -> int:
            return 1

    assert PullRows("w", None, 0, np.zeros(3, np.int64)).size(Fleeting("allow")) == 0


def test_plans_of_long_messages_are_not_remembered() -> None:
    MEMO.clear()
    sent(w.Info(1, entries=tuple(map(w.Entry, range(1000)))))
    assert len(MEMO.plans) == 1
    sent(w.Info(1, entries=tuple(map(w.Entry, range(16_000)))))
    assert len(MEMO.plans) == 1


@pytest.mark.parametrize("initialiser", [Normal(seed=3), Uniform(seed=4)])
def test_wide_rows_are_made_in_pieces(initialiser: Normal | Uniform) -> None:
    """One at a time they took ten times their bytes; their numbers are what they were."""
    columns = 1_000_001
    rows = np.array([2, 10**9])
    out = np.empty((2, columns), np.float32)
    tracemalloc.start()
    initialiser.fill(rows, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < out.nbytes
    assert (out == initialiser.spread(units(starts(initialiser.seed, rows), columns)).astype(np.float32)).all()


async def test_the_answers_of_long_pushes_take_little_memory() -> None:
    """A session keeps up to 1,023 of them."""
    count = 4_000
    entries = tuple([w.Entry(key, 1, 6, (1,), 0, 1) for key in range(count)])
    async with serving() as server:
        async with Stranger(server) as client:
            await client.greet()
            await answers(client, w.Init(1, entries=entries, data=[b"0"] * count))
            first = versions_in(await answers(client, w.Push(2, entries=entries, data=[b"1"] * count)))
            await answers(client, w.Push(3, entries=entries, data=[b"2"] * count))
        MEMO.clear()
        gc.collect()
        assert sum(type(one) is w.Entry and one.key is None for one in gc.get_objects()) < count
        async with Stranger(server) as client:
            await client.greet(resume=True)
            again = versions_in(await answers(client, w.Push(2, entries=entries, data=[b"1"] * count)))
            assert again == first == [2] * count
            assert versions_in(await answers(client, w.Info(4, entries=(w.Entry(0),)))) == [3]


# -- numbers that do not fit ----------------------------------------------------------------------------------


async def test_versions_beyond_all_bounds() -> None:
    """One of more than 64 bits ended the connection, again and again: a header that was known could not be packed."""
    async with serving() as server, akv.connect(f"{server.url}/j") as kv:
        await kv.init("w", np.ones(3))
        for version in (2**63, 2**64, 2**100):
            with pytest.raises(akv.InvalidArgument, match="version"):
                await kv.pull("w", min_version=version)
            with pytest.raises(akv.InvalidArgument, match="version"):
                await kv.wait_version("w", version)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await kv.wait_version("w", 2**63 - 1)
        assert len(await kv.pull("w")) == 3


@pytest.mark.parametrize("version", [-1, 2**64, 1.5, "1"])
def test_a_version_that_cannot_be_packed(version: object) -> None:
    sent(w.Wait(1, entries=(w.Entry("w"),)))  # from now on its header is known
    with pytest.raises(akv.InvalidArgument):
        sent(w.Wait(1, entries=(w.Entry("w", version=version),)))  # type: ignore[arg-type]


async def test_a_learning_rate_beyond_all_bounds() -> None:
    async with akv.connect("memory://") as kv:
        with pytest.raises(akv.InvalidArgument, match="finite"):
            await kv.set_learning_rate(10**400)
