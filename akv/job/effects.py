"""What a job tells its driver to do, in this order. A ticket is whatever the driver named the call by."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

from akv.errors import AkvError
from akv.values.keys import Key

__all__ = ["Answer", "Create", "Discard", "Effect", "Fail", "Fold", "Read", "Ticket", "Welcome"]

Ticket: TypeAlias = Hashable


@dataclass(frozen=True, slots=True)
class Welcome:
    """The session is a member now; a reader's `rank` is None."""

    ticket: Ticket
    rank: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The call has succeeded: a push with the version it is (or will be) part of, a wait with the version reached, all
    else with 0."""

    ticket: Ticket
    version: int


@dataclass(frozen=True, slots=True)
class Fail:
    """The call has failed. Missing `ranks` and seconds `waited` as far as they apply."""

    ticket: Ticket
    error: AkvError
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
    """Apply the sum of these contributions, in the order of their ranks, as the next version; report `committed` or
    `broken`.

    The contributions are the driver's again after that. There is one fold per key at a time.
    """

    key: Key
    contributions: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Discard:
    """This contribution will not be applied; it is the driver's again."""

    key: Key
    contribution: Any


Effect: TypeAlias = Welcome | Answer | Fail | Create | Read | Fold | Discard
