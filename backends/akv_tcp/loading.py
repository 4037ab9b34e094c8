"""`load` by a client: it reads and checks the files, and sends what they hold; the server takes it in in one step."""

from __future__ import annotations

from akv import operations as ops
from akv.checkpoint import Reader, open_checkpoint

from . import wire as w
from .exchange import Exchange
from .saving import PIECE, Requester

__all__ = ["load"]


def load(task: Requester, op: ops.Load) -> None:
    """Load a checkpoint.

    Raises:
        AkvError: nothing has changed on the server.
    """
    stream = task.stream
    with open_checkpoint(op.verb, op.path, op.values, op.step) as reader:
        parcel = _parcel(stream, 0, memoryview(reader.contents.encode()))
        task.ask(lambda number: w.Announce(number, 0, None, *parcel)).wait()
        op.expect(reader.nbytes)
        _send(task, reader)
    task.ask(lambda number: w.Restore(number, 0, None, stream)).wait()


def _send(task: Requester, reader: Reader) -> None:
    offset = 0
    sent: Exchange | None = None
    for piece in reader.read_pieces(PIECE):
        if sent is not None:
            sent.wait()
        sent = _stage(task, offset, piece)  # while this one is sent, the next one is read
        offset += len(piece)
    if sent is not None:
        sent.wait()


def _stage(task: Requester, offset: int, piece: memoryview) -> Exchange:
    parcel = _parcel(task.stream, offset, piece)
    return task.ask(lambda number: w.Stage(number, 0, None, *parcel))


def _parcel(stream: int, offset: int, data: memoryview) -> tuple[tuple[w.Entry, ...], tuple[w.Payload, ...]]:
    entry = w.Entry(stream, w.Kind.DENSE, int(w.DType.UINT8), (len(data),), 0, len(data), offset)
    return (entry,), (data,)
