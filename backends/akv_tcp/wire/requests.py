"""What a client asks. A request's `timeout` is in seconds, None for no end of its own.

In messages with `entries`, `data` holds the bytes that each entry brings, in the same order. To send: buffers that
`array_bytes` made, which nobody may change until `Sender.drained` names the message. On arrival: read-only memory
below `INLINE`, else the memory that the application supplied through `landing`; None for an entry that brings nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .buffers import Payload
from .entries import Entry
from .message import Message

__all__ = [
    "Barrier",
    "Batch",
    "Bye",
    "Cancel",
    "Delete",
    "Info",
    "Init",
    "Keys",
    "Number",
    "Pull",
    "Push",
    "PushPull",
    "Read",
    "Request",
    "Rows",
    "SetCompression",
    "SetLearningRate",
    "SetMultipliers",
    "SetOptimizer",
    "SetUpdater",
    "Wait",
]

Number: TypeAlias = float | int | bool | None
"""A parameter of an optimizer or a codec."""


@dataclass(slots=True)
class Request(Message):
    """What a client asks, under a number of its own choice that no request still open has."""

    request: int
    priority: int = 0
    timeout: float | None = None


@dataclass(slots=True)
class Batch(Request):
    """A request about keys."""

    entries: Sequence[Entry] = ()
    data: Sequence[Payload] = ()


@dataclass(slots=True)
class Read(Request):
    """A request for values at the entries' versions or later ones; with `exact` at those very versions."""

    exact: bool = False
    entries: Sequence[Entry] = ()
    data: Sequence[Payload] = ()


@dataclass(slots=True)
class Init(Batch):
    """Make version 1 of keys."""


@dataclass(slots=True)
class Push(Batch):
    """Contribute to keys."""


@dataclass(slots=True)
class Pull(Read):
    """Read keys. A snapshot is a pull, too."""


@dataclass(slots=True)
class PushPull(Batch):
    """Contribute, then read what came of it."""


@dataclass(slots=True)
class Rows(Read):
    """Read rows of tables; each entry brings a dense int64 vector of row ids."""


@dataclass(slots=True)
class Wait(Batch):
    """Answer when the keys have reached their `version`."""


@dataclass(slots=True)
class Delete(Batch):
    """Remove keys."""


@dataclass(slots=True)
class Info(Batch):
    """Shape, dtype and version of keys, without their bytes."""


@dataclass(slots=True)
class Keys(Request):
    """The names of all keys."""


@dataclass(slots=True)
class SetUpdater(Request):
    """Set a registered updater."""

    name: str = "assign"


@dataclass(slots=True)
class SetOptimizer(Request):
    """Set a registered optimizer. `description`: a JSON object of its name and numbers, never code."""

    description: str = ""


@dataclass(slots=True)
class SetLearningRate(Request):
    """Set the optimizer's learning rate."""

    learning_rate: float = 0.0


@dataclass(slots=True)
class SetMultipliers(Request):
    """Set factors by key. `name`: lr_mult or wd_mult."""

    name: str = ""
    factors: tuple[tuple[str | int, float], ...] = ()


@dataclass(slots=True)
class SetCompression(Request):
    """Agree on the codec of CODED entries."""

    name: str = ""
    numbers: tuple[tuple[str, Number], ...] = ()


@dataclass(slots=True)
class Barrier(Request):
    """Wait for all workers. `number` counts this session's passes through `name`, so that a repeat passes once."""

    name: str = ""
    number: int = 0


@dataclass(slots=True)
class Bye(Request):
    """The session ends by intention: this worker leaves its job."""


@dataclass(slots=True)
class Cancel(Message):
    """Nobody waits for this request any more. It is still answered once: with a result, an error, or an abort."""

    request: int
