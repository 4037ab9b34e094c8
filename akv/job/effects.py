"""What a job tells its driver to do, in this order. A ticket is whatever the driver named the call by."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

from akv.errors import AkvError
from akv.job.settings import Settings
from akv.values.keys import Key

__all__ = ["Answer", "Create", "Discard", "Effect", "Fail", "Fold", "Lost", "Read", "Ticket", "Welcome"]

Ticket: TypeAlias = Hashable


@dataclass(frozen=True, slots=True)
class Welcome:
    """The session is a member now; a reader's `rank` is None. `resumed`: its session was known."""

    ticket: Ticket
    rank: int | None
    num_workers: int
    settings: Settings
    resumed: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The call has succeeded: a push with the version it is (or will be) part of, a wait with the version reached, a
    barrier with how often it has been passed."""

    ticket: Ticket
    version: int


@dataclass(frozen=True, slots=True)
class Fail:
    """The call has failed. `key`, missing `ranks` and seconds `waited` as far as they apply; the text has them too."""

    ticket: Ticket
    error: AkvError
    key: Key | None = None
    ranks: tuple[int, ...] = ()
    waited: float | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """Carry this init out: create the key, or check against the one that exists; report `created` if it is new."""

    ticket: Ticket
    key: Key


@dataclass(frozen=True, slots=True)
class Read:
    """Read the current version for this pull now, and answer it."""

    ticket: Ticket
    key: Key


@dataclass(frozen=True, slots=True)
class Fold:
    """Apply the sum of these contributions, in this order, as the next version; report `committed` or `broken`.

    The contributions are the driver's again after that. There is one fold per key at a time.
    """

    key: Key
    ranks: tuple[int, ...]
    contributions: tuple[Any, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Discard:
    """This contribution will not be applied; it is the driver's again."""

    key: Key
    contribution: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is lost; nobody has sat in the seat if `session` is None."""

    rank: int
    session: bytes | None


Effect: TypeAlias = Welcome | Answer | Fail | Create | Read | Fold | Discard | Lost
