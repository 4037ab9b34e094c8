"""Which store a server makes for a job."""

from __future__ import annotations

import os
from typing import Any

from akv.backend.local import LocalBackend
from akv.backend.options import parse_url
from akv.backend.registry import Location, resolve
from akv.engine import Engine
from akv.errors import InvalidArgument
from akv.job import Settings
from akv.job.local import LocalJob

from .jobs import MakeEngine, MakeRounds

__all__ = ["host", "host_rounds"]


def host(url: str) -> MakeEngine:
    """A function that makes a store for each job, of the kind that `url` names.

    Where the URL does not say otherwise (nor AKV_ON_NONFINITE), the store refuses what is not finite.

    Raises:
        UnknownStore, InvalidArgument, BackendUnavailable: at once, not when the first client comes.
    """
    location = _locate(url)

    def make(job: str) -> Engine:
        backend = location.provider.open(location.name, location.options)
        return Engine(backend, inline=location.options["inline"])

    return make


def host_rounds(url: str) -> MakeRounds:
    """The same, for jobs whose pushes make rounds; they look for themselves at what is pushed.

    Raises:
        UnknownStore, InvalidArgument, BackendUnavailable: at once, not when the first client comes.
    """
    location = _locate(url)

    def make(job: str, settings: Settings) -> LocalJob:
        on_nonfinite: str = location.options.get("on_nonfinite", "reject")
        screened = {"on_nonfinite": "allow"} if on_nonfinite == "reject" and "on_nonfinite" in location.options else {}
        backend = location.provider.open(location.name, {**location.options, **screened})
        if not isinstance(backend, LocalBackend):
            raise InvalidArgument(f"workers={settings.workers}: this server hosts {location.text}, which has no rounds")
        return LocalJob(backend, settings, on_nonfinite, inline=location.options["inline"], winds=False)

    return make


def _locate(url: str) -> Location:
    location = resolve(url, {})
    backend = location.provider.open(location.name, location.options)  # what is missing is to be known at once
    if backend.remote:
        raise InvalidArgument(f"{url} is a store on a network already; a server hosts one of its own machine")
    backend.close()
    _, _, said = parse_url(url)
    if "workers" in said:
        raise InvalidArgument(
            f"{url}: how many workers a job has is for its clients to say: tcp://host:port/job?workers="
        )
    given: dict[str, Any] = {}
    if "on_nonfinite" in location.options and "on_nonfinite" not in said:
        given["on_nonfinite"] = os.environ.get("AKV_ON_NONFINITE", "reject")
    return resolve(url, given)
