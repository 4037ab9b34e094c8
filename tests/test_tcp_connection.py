"""A connection by itself: while a tensor comes straight into its memory, it can be held and ended all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from wire_cases import End, dense, pattern, sent

from akv.errors import StoreClosed
from akv_tcp import connection as module
from akv_tcp import wire as w
from akv_tcp.connection import Connection

NBYTES = 4 << 20


class Transport:
    """Takes what it is given, and knows whether it should read."""

    reads = True
    written = 0

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        return

    def write(self, data: w.Buffer) -> None:
        self.written += len(data)

    def writelines(self, buffers: list[w.Buffer]) -> None:
        self.written += sum(map(len, buffers))

    def close(self) -> None:
        return

    def abort(self) -> None:
        return


class Owner:
    """Whose connection it is."""

    def __init__(self, transport: Transport | None = None) -> None:
        self.memory = memoryview(bytearray(NBYTES))
        self.events: list[w.Event] = []
        self.transport = transport or Transport()
        self.connection = Connection(w.Side.SERVER, self, lambda *_: self.memory, lambda nbytes: True)
        self.connection.link.phase = w.Phase.OPEN
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def connected(self, connection: Connection) -> None:
        return

    def received(self, connection: Connection, event: w.Event) -> None:
        self.events.append(event)

    def released(self, connection: Connection, messages: list[w.Message]) -> None:
        return

    def lost(self, connection: Connection, error: Any) -> None:
        return

    def feed(self, data: bytes) -> None:
        """Have bytes come, for as long as they are read."""
        while data and self.transport.reads:
            buffer = self.connection.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.connection.buffer_updated(size)
            data = data[size:]


@pytest.fixture
def stream() -> bytes:
    return sent(End(w.Side.CLIENT), w.Push(1, entries=(dense("w", NBYTES),), data=(pattern(NBYTES),)))


async def test_a_tensor_is_handed_out_when_it_is_whole(stream: bytes) -> None:
    owner = Owner()
    owner.feed(stream[:-1])
    assert owner.events == []
    owner.feed(stream[-1:])
    assert [type(event) for event in owner.events] == [w.Push]
    assert owner.memory == pattern(NBYTES)


async def test_reading_is_held_while_a_tensor_comes(stream: bytes) -> None:
    owner = Owner()
    owner.feed(stream[: NBYTES // 2])
    owner.connection.hold()
    owner.feed(stream[NBYTES // 2 :])
    count = owner.connection.count
    assert not owner.transport.reads
    assert count < NBYTES // 2 + (2 << 20)
    owner.connection.go_on()
    await asyncio.sleep(0)
    owner.feed(stream[count:])
    assert [type(event) for event in owner.events] == [w.Push]


async def test_after_the_good_bye_nothing_is_written(stream: bytes) -> None:
    owner = Owner()
    owner.feed(stream[: NBYTES // 2])
    kept = bytes(owner.memory)
    owner.connection.say_goodbye(StoreClosed("closed"))
    owner.feed(stream[NBYTES // 2 :])
    assert owner.memory == kept
    assert owner.events == []
    assert owner.connection.decoder.reserved == w.cost(1, NBYTES)  # to be given back when the connection ends
    await asyncio.sleep(0)


async def test_others_have_a_turn_while_a_peer_takes_much_as_fast_as_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RUN", -1.0)
    owner = Owner()
    value = pattern(NBYTES)
    owner.connection.send(w.Result(1, (dense(None, NBYTES),), [value]))
    seen = {0}
    async with asyncio.timeout(10):
        while owner.connection.sender.backlog:
            seen.add(owner.transport.written)
            await asyncio.sleep(0)
    assert NBYTES < owner.transport.written < NBYTES + 1024
    assert len(seen) >= NBYTES >> 20


class OfAsyncio(Transport):
    """Its `writelines` joins what it gets, on 3.11, or forgets to say that it is full (cpython gh-127655)."""

    __module__ = "asyncio.selector_events"

    def writelines(self, buffers: list[w.Buffer]) -> None:
        raise AssertionError("large buffers are written one by one")


async def test_asyncios_own_writelines_is_not_used() -> None:
    owner = Owner(OfAsyncio())
    owner.connection.send(w.Result(1, (dense(None, NBYTES),), [pattern(NBYTES)]))
    async with asyncio.timeout(10):
        while owner.connection.sender.backlog:
            await asyncio.sleep(0)
    assert owner.transport.written > NBYTES
