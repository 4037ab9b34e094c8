"""What the tests of the wire share: two ends without a network, and strategies for every message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from math import prod
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st

from akv.errors import AkvError
from akv_tcp import wire as w
from akv_tcp.wire.dtypes import ITEMSIZE
from akv_tcp.wire.head import HEAD_SIZE, read_head
from akv_tcp.wire.row import Row
from akv_tcp.wire.table import TABLE

Keys: TypeAlias = st.SearchStrategy[str | int | None]
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
REQUESTS = st.integers(1, 2**32 - 1)
SECONDS = st.floats(0, 1e9)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KEYS = TEXTS | I64
NUMBERS = st.dictionaries(TEXTS, st.none() | st.booleans() | I64 | st.floats(-1e300, 1e300), max_size=5)


class End:
    """One end: a link with a decoder and a sender, a budget, and what became of everything."""

    def __init__(self, side: w.Side, *, limits: w.Limits | None = None, budget: int = 1 << 40) -> None:
        self.link = w.Link(side)
        self.link.phase = w.Phase.OPEN
        self.decoder = w.Decoder(self.link, self.landing, self.reserve, limits)
        self.sender = w.Sender(self.link)
        self.budget = budget
        self.landed: list[tuple[int, int, memoryview]] = []
        self.refuse: AkvError | None = None

    def landing(self, message: w.Message, entry: int, nbytes: int) -> memoryview:
        if self.refuse is not None:
            raise self.refuse
        memory = memoryview(bytearray(nbytes))
        assert isinstance(message, w.Keyed)
        self.landed.append((message.request, entry, memory))
        return memory

    def reserve(self, nbytes: int) -> bool:
        if nbytes > self.budget:
            return False
        self.budget -= nbytes
        return True

    def events(self) -> list[w.Event]:
        found: list[w.Event] = []
        while (event := self.decoder.next_event()) is not None:
            found.append(event)
        return found

    def feed(self, data: bytes, step: int = 1 << 62) -> list[w.Event]:
        """What comes of these bytes, given in steps of at most that many; without the Parts."""
        return list(self.fed(data, step))

    def fed(self, data: bytes, step: int = 1 << 62) -> Iterator[w.Event]:
        """The same one by one, as it comes, up to an error."""
        position = 0
        while position < len(data):
            buffer = self.decoder.get_buffer(-1)
            size = min(len(buffer), step, len(data) - position)
            buffer[:size] = data[position : position + size]
            self.decoder.buffer_updated(size)
            position += size
            while (event := self.decoder.next_event()) is not None:
                if not isinstance(event, w.Part):
                    yield event


def pair(**options: w.Limits | int | None) -> tuple[End, End]:
    """A client and a server after the handshake; the options are those of the server."""
    return End(w.Side.CLIENT), End(w.Side.SERVER, **options)  # type: ignore[arg-type]


def sent(end: End, *messages: w.Message) -> bytes:
    """The bytes of messages, one after the other."""
    data = b""
    for message in messages:
        end.sender.put(message)
        while batch := end.sender.next_batch():
            data += b"".join(batch)
    return data


def frames_in(stream: bytes) -> list[tuple[int, int]]:
    """Whose frames these are, and how many bytes of tensors each brings."""
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(stream):
        _, request, header, payload = read_head(memoryview(stream), start)
        start += HEAD_SIZE + header + payload
        found.append((request, payload))
    return found


def dense(key: str | int | None, nbytes: int, **fields: int) -> w.Entry:
    """An entry of that many uint8 elements."""
    return w.Entry(key, int(w.Kind.DENSE), int(w.DType.UINT8), (nbytes,), nbytes=nbytes, **fields)


def pattern(nbytes: int, seed: int = 0) -> memoryview:
    """Bytes of which no two slices look alike."""
    return memoryview(np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8).tobytes())


def plain(message: w.Message) -> tuple[object, ...]:
    """A message as something to compare: its type, its fields, and its payloads as bytes."""
    names = [field.name for field in fields(message) if field.name != "data"]
    payloads = [joined(payload) for payload in getattr(message, "data", ())]
    return type(message), [(name, getattr(message, name)) for name in names], payloads


def joined(payload: w.Payload) -> bytes | None:
    """All bytes of a payload."""
    if payload is None:
        return None
    return b"".join(payload) if isinstance(payload, tuple) else bytes(payload)


SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)
DTYPES = st.sampled_from([int(dtype) for dtype in w.DType if dtype])


@st.composite
def payloads(draw: st.DrawFn, kinds: Iterable[int], keys: Keys) -> tuple[w.Entry, w.Payload]:
    """An entry of one of these kinds, with its bytes."""
    kind = draw(st.sampled_from(sorted(kinds)))
    dtype, shape = draw(DTYPES), draw(SHAPES)
    rows = nbytes = 0
    if kind == w.Kind.DENSE:
        nbytes = ITEMSIZE[dtype] * prod(shape)
    elif kind == w.Kind.ROWS:
        shape = (draw(st.integers(0, 9)), *shape[:3])
        rows = draw(st.integers(0, shape[0]))
        nbytes = w.rows_nbytes(dtype, shape, rows)
    elif kind == w.Kind.CODED:
        nbytes = draw(st.integers(0, 100))
    elif kind == w.Kind.INITIALISER:
        shape, nbytes = (draw(st.integers(0, 9)), *shape[:3]), draw(st.integers(0, 100))
    entry = w.Entry(draw(keys), kind, dtype, shape, rows, nbytes, draw(U64), draw(U32), draw(U64))
    if kind == w.Kind.NONE:
        return entry, None
    data = pattern(nbytes, draw(st.integers(0, 99)))
    cut = draw(st.integers(0, nbytes))
    return entry, draw(st.sampled_from([data, (data[:cut], data[cut:])]))


def _settings() -> st.SearchStrategy[w.Settings]:
    optional = st.none() | U32
    return st.builds(
        w.Settings,
        st.none() | st.sampled_from(w.Consistency),
        optional,
        optional,
        st.none() | st.sampled_from(w.OnLoss),
        st.none() | SECONDS,
    )


_FIELDS: dict[str, st.SearchStrategy[object]] = {
    "versions": st.lists(st.integers(1, 255), min_size=1, max_size=16).map(tuple),
    "version": st.integers(1, 255),
    "client": st.binary(min_size=16, max_size=16),
    "store": st.binary(min_size=16, max_size=16),
    "job": TEXTS,
    "name": TEXTS,
    "description": TEXTS,
    "text": TEXTS,
    "role": st.sampled_from(w.Role),
    "rank": st.none() | U32,
    "num_workers": U32,
    "epoch": U64,
    "number": U64,
    "ping": U64,
    "pong": U64,
    "resume": st.booleans(),
    "resumed": st.booleans(),
    "exact": st.booleans(),
    "values": st.booleans(),
    "stream": U64,
    "offset": U64,
    "nbytes": U64,
    "wishes": _settings(),
    "settled": _settings(),
    "limits": st.builds(w.Limits, *[st.integers(1, 2**63 - 1)] * 3),
    "nonce": st.binary(max_size=256),
    "proof": st.binary(max_size=256),
    "heartbeat": SECONDS,
    "waited": st.none() | SECONDS,
    "timeout": st.none() | SECONDS,
    "priority": I64,
    "request": REQUESTS,
    "code": st.integers(0, 255),
    "key": st.none() | KEYS,
    "ranks": st.lists(U32, max_size=9).map(tuple),
    "learning_rate": st.floats(-1e300, 1e300),
    "numbers": NUMBERS.map(lambda numbers: tuple(numbers.items())),
    "factors": st.lists(st.tuples(KEYS, st.floats(-1e300, 1e300)), max_size=5).map(tuple),
}


def _names(row: Row) -> list[str]:
    return [field.name for field in fields(row.make) if field.name not in ("entries", "data")]


@st.composite
def messages_of(draw: st.DrawFn, row: Row) -> w.Message:
    """Any message of one row of the table."""
    drawn = {name: draw(_FIELDS[name]) for name in _names(row)}
    if row.kinds is None:
        return row.make(**drawn)
    keys: Keys = KEYS if row.keyed else st.none() | KEYS
    pairs = draw(st.lists(payloads(row.kinds, keys), max_size=5))
    return row.make(**drawn, entries=tuple(entry for entry, _ in pairs), data=[payload for _, payload in pairs])


def rows_of(side: w.Side) -> list[Row]:
    """The rows that this side may send when the connection is open, other than those that end something."""
    ends = ("Abort", "Goodbye")
    return [row for row in TABLE if row.sender in (side, None) and w.Phase.OPEN in row.when and row.name not in ends]
