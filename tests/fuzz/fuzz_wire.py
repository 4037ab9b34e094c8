"""Fuzz the wire: any bytes, in any state, end in messages or in one ProtocolError, within the budget.

    python tests/fuzz/fuzz_wire.py tests/fuzz/wire_corpus -max_total_time=600    (needs atheris)
    python tests/fuzz/fuzz_wire.py --seeds tests/fuzz/wire_corpus                (writes the seeds anew)

The ordinary tests replay the corpus (tests/test_wire_fuzz.py). The first byte of a case says in which state the decoder
is; see `Case`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack

from akv.errors import ProtocolError, QueueFull, ShapeMismatch
from akv_tcp import wire as w
from akv_tcp.wire.head import pack_head
from akv_tcp.wire.table import DATA, TABLE

BUDGET = 4 << 20
STEPS = (1 << 20, 1, 17, 4096)


class Case:
    """A decoder in the state that a byte describes: side, phase, how bytes come, what the application answers."""

    def __init__(self, state: int) -> None:
        self.link = w.Link(w.Side.SERVER if state & 1 else w.Side.CLIENT)
        self.link.phase = (w.Phase.OPEN, w.Phase.NEW, w.Phase.GREETED, w.Phase.CHALLENGED)[state >> 1 & 3]
        self.step = STEPS[state >> 3 & 3]
        self.full = bool(state & 32)
        self.shy = bool(state & 64)
        self.decoder = w.Decoder(self.link, self.landing, self.reserve)
        self.free = BUDGET

    def reserve(self, nbytes: int) -> bool:
        assert nbytes > 0
        if self.full and nbytes > 5000:
            raise QueueFull("full")
        if nbytes > self.free:
            return False
        self.free -= nbytes
        return True

    def landing(self, message: w.Message, entry: int, nbytes: int) -> memoryview:
        assert w.INLINE <= nbytes <= self.decoder.reserved <= BUDGET - self.free
        if self.shy:
            raise ShapeMismatch("another shape")
        return memoryview(bytearray(nbytes))

    def events(self, stream: bytes) -> Iterator[w.Event]:
        """What comes of a stream; it ends where the decoder is blocked, as a transport would."""
        while stream and not self.decoder.blocked:
            buffer = self.decoder.get_buffer(-1)
            size = min(len(buffer), self.step, len(stream))
            buffer[:size] = stream[:size]
            self.decoder.buffer_updated(size)
            stream = stream[size:]
            while (event := self.decoder.next_event()) is not None:
                yield event


def check(data: bytes) -> list[w.Event]:
    """Run one case; raises what must not happen. Returns the events."""
    case = Case(data[0] if data else 0)
    found: list[w.Event] = []
    try:
        for event in case.events(data[1:]):
            found.append(event)
            case.free += _released(event)
    except ProtocolError:
        assert case.decoder.next_event() is None
        assert not list(case.events(bytes(100)))
    assert case.free + case.decoder.reserved == BUDGET
    for event in found:
        if isinstance(event, w.Message):
            _send_again(event)
    return found


def _released(event: w.Event) -> int:
    if isinstance(event, (w.Aborted, w.Refused)):
        return event.reserved
    return w.cost_of(event) if isinstance(event, w.Keyed) else 0


def _send_again(message: w.Message) -> None:
    """What was received can be sent, and is then the same."""
    row = next(row for row in TABLE if row.make is type(message))
    ends = [w.Link(side) for side in w.Side if row.sender in (side, None)]
    link = ends[0]
    other = Case(0 if link.side is w.Side.SERVER else 1)
    link.phase = other.link.phase = row.when[0]
    sender = w.Sender(link)
    sender.put(message)
    stream = b""
    while batch := sender.next_batch():
        stream += b"".join(batch)
    [*_, again] = other.events(stream)
    assert _fields(again) == _fields(message)


def _fields(message: object) -> list[object]:
    names = [name for kind in type(message).__mro__ for name in getattr(kind, "__slots__", ())]
    values: list[object] = [getattr(message, name) for name in names]
    return [list(value) if isinstance(value, tuple) else value for value in values]


# Seeds.


def seeds() -> dict[str, bytes]:
    """Cases to start from, by name: every message, what a stream is made of, and known bombs."""
    found = {f"message-{row.name.lower()}": _seed(row.sender, row.when[0], _sample(row.make)) for row in TABLE}
    found["abort"] = _open(_cut_short())
    found["large"] = _open(_stream(w.Side.CLIENT, _large()))
    found["large-refused"] = _open(_stream(w.Side.CLIENT, _large(), w.Keys(2)), 64)
    found["batch"] = _open(_stream(w.Side.CLIENT, _batch()))
    found["batch-refused"] = _open(_stream(w.Side.CLIENT, _batch(), w.Keys(2)), 32)
    found["http"] = b"\x03GET / HTTP/1.1\r\nHost: akv\r\n\r\n"
    for name, header in _bombs().items():
        found[f"bomb-{name}"] = _open(pack_head(17, 1, len(header), 0) + header)
    found["bomb-payload"] = _open(pack_head(17, 1, 10, 2**64 - 1) + msgpack.packb([0, None, 1, 2**40, []]))
    found["bomb-slice"] = _open(_stream(w.Side.CLIENT, _large())[:80] + pack_head(DATA, 9, 3, 2**63) + b"\x92\x00\x00")
    return found


def _open(stream: bytes, state: int = 0) -> bytes:
    return bytes([1 | state]) + stream


def _seed(sender: w.Side | None, phase: w.Phase, message: w.Message) -> bytes:
    side = sender or w.Side.CLIENT
    phases = (w.Phase.OPEN, w.Phase.NEW, w.Phase.GREETED, w.Phase.CHALLENGED)
    return bytes([(side is w.Side.CLIENT) | phases.index(phase) << 1]) + _stream(side, message, phase=phase)


def _stream(side: w.Side, *messages: w.Message, phase: w.Phase = w.Phase.OPEN) -> bytes:
    link = w.Link(side)
    link.phase = phase
    sender = w.Sender(link)
    stream = b""
    for message in messages:
        sender.put(message)
        while batch := sender.next_batch():
            stream += b"".join(batch)
    return stream


def _cut_short() -> bytes:
    link = w.Link(w.Side.CLIENT)
    link.phase = w.Phase.OPEN
    sender = w.Sender(link, 1024)
    sender.put(_large())
    begun = [*sender.next_batch(1), *sender.next_batch(1)]
    assert sender.withdraw(9) is w.Withdrawn.CUT
    return b"".join([*begun, *sender.next_batch()])


def _large() -> w.Message:
    entries = (w.Entry("b", 1, 6, (4,), 0, 4), w.Entry("w", 1, 6, (140_032,), 0, 140_032, 1))
    return w.Push(9, entries=entries, data=(bytes(4), bytes(140_032)))


def _batch() -> w.Message:
    entries = tuple(w.Entry(f"layer{index}", 1, 11, (2,), 0, 8, index) for index in range(900))
    return w.Push(9, entries=entries, data=[bytes(8)] * 900)


def _bombs() -> dict[str, bytes]:
    return {
        "depth": b"\x91" * 1000 + b"\x90",
        "deep-field": b"\x95" + b"\x91" * 900 + b"\x90" + b"\xc0\x00\x00\x90",
        "array": b"\xdd\xff\xff\xff\xff",
        "text": b"\xdb\xff\xff\xff\xff",
        "map": b"\xdf\x7f\xff\xff\xff",
        "extension": b"\x91\xc7\x00\x05",
        "timestamp": b"\x91\xd6\xff\0\0\0\0",
        "empty-lists": b"\xdc" + struct.pack(">H", 16_000) + b"\x90" * 16_000,
        "entries": msgpack.packb([0, None, 16_384, 2**40, [["w", 1, 6, [2**40], 0, 2**40, 0, 0, 0]]]),
        "product": msgpack.packb([0, None, 1, 0, [["w", 1, 6, [2**32, 2**32], 0, 0, 0, 0, 0]]]),
    }


def _sample(make: Callable[..., w.Message]) -> w.Message:
    """One of each message that is not made of defaults."""
    named = (w.Entry("w", version=3), w.Entry(-5))
    dense = w.Entry("w", 1, 11, (2, 3), 0, 24, 7, 1, 3)
    sparse = w.Entry("t", 2, 12, (9, 2), 2, 48, 8)
    coded = w.Entry(5, 3, 11, (100,), 0, 7, 9)
    ids = w.Entry("t", 1, 5, (3,), 0, 24)
    both = {"entries": (dense, sparse), "data": (bytes(24), (bytes(16), bytes(32)))}
    rules = w.Settings(w.Consistency.SYNC, 0, 4, w.OnLoss.ABORT, 30.0)
    samples: dict[object, w.Message] = {
        w.Hello: w.Hello((1,), bytes(16), "job", w.Role.READER, 3, True, rules, b"nonce"),
        w.Challenge: w.Challenge(b"nonce"),
        w.Proof: w.Proof(b"proof"),
        w.Welcome: w.Welcome(1, bytes(16), 2, 0, 4, w.Limits(), 2.0, rules, True, b"proof"),
        w.Refuse: w.Refuse(22, "no token"),
        w.Init: w.Init(1, 0, 5.0, **both),
        w.Push: w.Push(2, -3, None, (dense, sparse, coded), (bytes(24), bytes(48), bytes(7))),
        w.Pull: w.Pull(3, 1, 2.5, True, named),
        w.PushPull: w.PushPull(4, **both),
        w.Rows: w.Rows(5, 0, None, False, (ids,), (bytes(24),)),
        w.SetOptimizer: w.SetOptimizer(6, 0, None, '{"name":"sgd","momentum":0.9}'),
        w.SetLearningRate: w.SetLearningRate(7, 0, None, 0.5),
        w.SetMultipliers: w.SetMultipliers(15, 0, None, "lr_mult", (("a", 0.5), (7, 2.0))),
        w.SetCompression: w.SetCompression(8, 0, None, "2bit", (("threshold", 0.5),)),
        w.Barrier: w.Barrier(9, 0, 1.0, "epoch", 4),
        w.Capture: w.Capture(10, 0, None, 7, True),
        w.Fetch: w.Fetch(11, 0, None, 7, 2**40, 8 << 20),
        w.Announce: w.Announce(12, 0, None, (w.Entry(7, 1, 6, (5,), 0, 5),), (b'{"a"}',)),
        w.Stage: w.Stage(13, 0, None, (w.Entry(7, 1, 6, (9,), 0, 9, 2**40),), (bytes(9),)),
        w.Release: w.Release(7),
        w.Result: w.Result(1, (dense, w.Entry(None, version=9)), (bytes(24), None)),
        w.Error: w.Error(1, 19, "lost", "w", (1, 2), 30.0, named),
        w.Heartbeat: w.Heartbeat(5, 4),
        w.Goodbye: w.Goodbye(0, "done"),
    }
    if make in samples:
        return samples[make]
    return make(1, entries=named) if make in (w.Wait, w.Delete, w.Info) else make(1)


def main(arguments: list[str]) -> None:
    """See the module's own text."""
    if arguments[1:2] == ["--seeds"]:
        for name, data in seeds().items():
            Path(arguments[2], name).write_bytes(data)
        return
    import atheris

    atheris.instrument_all()
    atheris.Setup(arguments, lambda data: check(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
