"""The rules of a job, and what a client may wish of them: the first client's choice holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from akv.errors import InvalidArgument

__all__ = ["Consistency", "Limits", "OnLoss", "Settings", "Wishes"]

Consistency = Literal["sync", "ssp", "async"]
OnLoss = Literal["abort", "drop", "wait"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The rules of one job.

    Attributes:
        consistency: "sync" applies the sum of a round once; "async" each push by itself; "ssp" too, but no worker's
            push count on a key may be more than `staleness` ahead of another's.
        staleness: pushes, from 0 on; for "ssp" only.
        workers: how many make a round from the start; None: those that are there.
        on_worker_loss: "abort": whoever waits for it gets WorkerLost; "drop": the others go on without; "wait".
        worker_timeout: seconds without a sign of life after which a worker is lost.

    Raises:
        InvalidArgument: a value has no meaning.
    """

    consistency: Consistency = "sync"
    staleness: int = 0
    workers: int | None = None
    on_worker_loss: OnLoss = "abort"
    worker_timeout: float = 30.0

    def __post_init__(self) -> None:
        _check(self.consistency in get_args(Consistency), "consistency", self.consistency, "sync, ssp or async")
        _check(self.staleness >= 0, "staleness", self.staleness, "an integer from 0 on")
        _check(
            self.staleness == 0 or self.consistency == "ssp",
            "staleness",
            self.staleness,
            "0 where consistency is not ssp",
        )
        _check(self.workers is None or self.workers >= 1, "workers", self.workers, "an integer from 1 on")
        _check(self.on_worker_loss in get_args(OnLoss), "on_worker_loss", self.on_worker_loss, "abort, drop or wait")
        seconds = self.worker_timeout
        _check(seconds > 0 and math.isfinite(seconds), "worker_timeout", seconds, "a positive number of seconds")

    @classmethod
    def of(cls, wishes: Wishes) -> Settings:
        """The rules of a job whose first client has these wishes.

        Raises:
            InvalidArgument: a wish has no meaning.
        """
        return cls(**{name: value for name, value in asdict(wishes).items() if value is not None})

    def check(self, wishes: Wishes) -> None:
        """Raise InvalidArgument when a later client wishes for something else."""
        for field in fields(wishes):
            wish, settled = getattr(wishes, field.name), getattr(self, field.name)
            if wish is not None and wish != settled:
                raise InvalidArgument(
                    f"{field.name}={wish} is not what this job runs with: its first client chose {settled}; "
                    "leave the option out, or open another job"
                )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one client asks of the settings; None: nothing."""

    consistency: Consistency | None = None
    staleness: int | None = None
    workers: int | None = None
    on_worker_loss: OnLoss | None = None
    worker_timeout: float | None = None

    @classmethod
    def among(cls, options: Mapping[str, Any]) -> Wishes:
        """The wishes that stand among a store's options."""
        return cls(**{field.name: options.get(field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one job.

    Attributes:
        sessions: remembered clients; the one unheard of for longest is forgotten first.
        waiting: operations that wait at a time.
        barriers: barriers that somebody waits at.
        ahead: pushes of one worker on one key that are not applied yet, outside sync (there it is two).
    """

    sessions: int = 4096
    waiting: int = 1 << 16
    barriers: int = 1 << 10
    ahead: int = 16


def _check(good: bool, name: str, value: object, wanted: str) -> None:
    if not good:
        raise InvalidArgument(f"{name}={value!r}: it has to be {wanted}")
