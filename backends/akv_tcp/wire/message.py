"""The root of all messages.

Every message is a class whose fields stand in the order of the wire. What travels as which number, who may send
it and when, stands in `table`; the fields are checked there too, on sending (InvalidArgument) and on arrival
(ProtocolError).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Message"]


@dataclass(slots=True)
class Message:
    """What one side has to say to the other."""
