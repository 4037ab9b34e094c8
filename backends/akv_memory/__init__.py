"""akv's embedded default: numpy arrays in this process; `memory://` is a store of its own, `memory://name` shared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from akv.backend.local import LocalBackend
from akv.backend.options import Option, choice
from akv.backend.protocol import Backend
from akv.errors import InvalidArgument
from akv.job.local import LocalJob
from akv.job.options import JOB_OPTIONS
from akv.job.settings import Settings, Wishes
from akv_memory.storage import MemoryStorage

__all__ = ["Provider", "backend"]


class Provider:
    """Opens stores in memory; see akv.backend.registry.Provider.

    With `workers`, each handle on a name is a worker of one job: `memory://name?workers=4`.
    """

    shared = True
    lasting = True
    options: Mapping[str, Option] = {
        "on_nonfinite": Option(choice("allow", "reject", "skip"), "allow"),
        # AKV_WORKERS and its kin are for the job on the network that this process is a worker of.
        **{name: option._replace(inherited=False) for name, option in JOB_OPTIONS.items()},
    }

    def __init__(self) -> None:
        self._plain: set[str] = set()
        self._jobs: dict[str, LocalJob] = {}

    def open(self, name: str, options: Mapping[str, Any]) -> Backend:
        """Open an empty store, or take a place in a job.

        Raises:
            InvalidArgument: the options do not fit each other, or those of the handles before.
        """
        wishes = Wishes.among(options)
        if wishes.workers is None:
            return self._open_plain(name, wishes, options)
        if name in self._plain:
            raise InvalidArgument(f"memory://{name} is open without workers; give the job another name")
        if not name and wishes.workers > 1:
            raise InvalidArgument(f"a job of {wishes.workers} workers needs a name, such as memory://name?workers=...")
        job = self._jobs.get(name)
        if job is None:
            on_nonfinite = options["on_nonfinite"]
            # Workers' pushes are looked at before they count: once is enough.
            store = _new(options, "allow" if on_nonfinite == "reject" else on_nonfinite)
            job = LocalJob(store, Settings.of(wishes), on_nonfinite, inline=options["inline"])
        worker = job.join(wishes, options["role"], options["rank"], options["max_queued"])
        if name:
            self._jobs[name] = job
        return worker

    def _open_plain(self, name: str, wishes: Wishes, options: Mapping[str, Any]) -> LocalBackend:
        if name in self._jobs:
            workers = self._jobs[name].settings.workers
            raise InvalidArgument(f"memory://{name} is a job; open it as memory://{name}?workers={workers}")
        if wishes != Wishes() or options["rank"] is not None or options["role"] != "worker":
            raise InvalidArgument(
                "consistency, staleness, on_worker_loss, worker_timeout, rank and role are for a store with workers=..."
            )
        if name:
            self._plain.add(name)
        return _new(options, options["on_nonfinite"])


def _new(options: Mapping[str, Any], on_nonfinite: str) -> LocalBackend:
    return LocalBackend("memory", MemoryStorage(on_nonfinite), options["max_queued"])


backend = Provider()

if hasattr(os, "register_at_fork"):
    # A child starts without stores.
    os.register_at_fork(after_in_child=backend.__init__)  # type: ignore[misc]
