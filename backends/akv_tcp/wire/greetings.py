"""The messages of the handshake, and the rules of a job that they settle."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from .limits import Limits
from .message import Message

__all__ = [
    "Challenge",
    "Consistency",
    "Hello",
    "OnLoss",
    "Proof",
    "Refuse",
    "Role",
    "Settings",
    "Welcome",
]


class Role(IntEnum):
    """What a client is: a reader takes part in no round and no barrier, and changes nothing."""

    WORKER = 1
    READER = 2


class Consistency(IntEnum):
    """When pushes take effect."""

    SYNC = 1
    ASYNC = 2
    SSP = 3


class OnLoss(IntEnum):
    """What becomes of a round when a worker is lost."""

    ABORT = 1
    DROP = 2
    WAIT = 3


class Settings(NamedTuple):
    """The rules of a job: in HELLO what the client wishes (None: no wish), in WELCOME what holds.

    `staleness`: pushes that a worker may be ahead. `workers`: how many make a round. `worker_timeout`: seconds.
    """

    consistency: Consistency | None = None
    staleness: int | None = None
    workers: int | None = None
    on_worker_loss: OnLoss | None = None
    worker_timeout: float | None = None


NO_WISHES: Final = Settings()


@dataclass(slots=True)
class Hello(Message):
    """The first message of a client. `client`: its 128-bit id, kept for as long as its session is to live.

    `versions`: those it speaks. `resume`: the session existed before. `nonce`: its part of an authentication.
    """

    versions: tuple[int, ...]
    client: bytes
    job: str
    role: Role = Role.WORKER
    rank: int | None = None
    resume: bool = False
    wishes: Settings = NO_WISHES
    nonce: bytes = b""


@dataclass(slots=True)
class Challenge(Message):
    """The server wants proof of the credentials."""

    nonce: bytes


@dataclass(slots=True)
class Proof(Message):
    """The client's proof, over both nonces."""

    proof: bytes


@dataclass(slots=True)
class Welcome(Message):
    """The handshake is done. `store` (128 bits) and `epoch` tell a recovered server from an empty one.

    `heartbeat`: seconds between two heartbeats, both ways. `resumed`: the session was still known. `proof`: the
    server's own.
    """

    version: int
    store: bytes
    epoch: int
    rank: int | None
    num_workers: int
    limits: Limits
    heartbeat: float
    settled: Settings
    resumed: bool = False
    proof: bytes = b""


@dataclass(slots=True)
class Refuse(Message):
    """No welcome; `code` is that of the error (see `codes`)."""

    code: int
    text: str
