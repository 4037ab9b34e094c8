"""One connection's phase: the same for both directions, and the same code for both roles."""

from __future__ import annotations

from typing import Final

from akv.errors import InvalidArgument, ProtocolError

from .message import Message
from .row import Phase, Row, Side
from .table import TABLE

__all__ = ["Link"]


def _sent_by(side: Side) -> tuple[Row, ...]:
    return tuple(row for row in TABLE if row.sender in (side, None))


_PEER: Final = {Side.CLIENT: Side.SERVER, Side.SERVER: Side.CLIENT}
_RECEIVES: Final = {side: {row.code: row for row in _sent_by(_PEER[side])} for side in Side}
_SENDS: Final = {side: {row.make: row for row in _sent_by(side)} for side in Side}


class Link:
    """What the decoder and the sender of one connection share: which side this is, and the phase.

    `side`: this end. `phase`: changes when a message that moves it is queued for sending or has arrived.
    """

    __slots__ = ("_receives", "_sends", "phase", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.phase = Phase.NEW
        self._receives = _RECEIVES[side]
        self._sends = _SENDS[side]

    def __repr__(self) -> str:
        return f"<Link {self.side.value} {self.phase.value}>"

    def receiving(self, code: int) -> Row:
        """The row of a message that arrives now. Raises ProtocolError if the peer may not send that now."""
        row = self._receives.get(code)
        if row is None or self.phase not in row.when:
            name = f"type {code}" if row is None else row.name
            raise ProtocolError(f"a frame of {name} arrived at this {self.side.value} in phase {self.phase.value}")
        return row

    def sending(self, message: Message) -> Row:
        """The row of a message to be sent now. Raises InvalidArgument if this side may not send that now."""
        row = self._sends.get(type(message))
        if row is None or self.phase not in row.when:
            raise InvalidArgument(
                f"a {self.side.value} in phase {self.phase.value} cannot send {type(message).__name__}"
            )
        return row

    def move(self, row: Row) -> None:
        """A message of this row was queued for sending, or has arrived."""
        if row.then is not None:
            self.phase = row.then
