"""The jobs of a server: each is a store, and with `workers` its clients make rounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from akv.backend.local import LocalBackend
from akv.backend.protocol import Backend
from akv.engine import Engine
from akv.errors import AkvError, BackendUnavailable, InvalidArgument
from akv.job import Settings, Wishes
from akv.job.local import LocalJob
from akv.job.sessions import Role
from akv.job.worker import Worker

from . import wire as w
from .agreed import wishes_of
from .terms import Terms

__all__ = ["Jobs", "MakeEngine", "MakeRounds"]

MakeEngine = Callable[[str], Engine]
MakeRounds = Callable[[str, Settings], LocalJob]

_ROLES: Mapping[w.Role, Role] = {w.Role.WORKER: "worker", w.Role.READER: "reader"}
# Operations that one worker may have queued; the connection lets it send fewer.
_QUEUED = 1 << 16
# Seconds: the heartbeats of a job's clients are a quarter of its time-out apart.
_LEAST_TIMEOUT = 0.1


class Jobs:
    """What clients open, by name: a store that all share as it is, or a job of which each client is a worker.

    The first client's choice holds, until the server ends. But what nobody uses and nothing is stored in makes way when
    there are too many, or for who says `workers` anew.

    Args:
        make_engine: makes a store; make_rounds: one whose pushes make rounds.
    """

    def __init__(self, make_engine: MakeEngine, make_rounds: MakeRounds, terms: Terms) -> None:
        self._make_engine, self._make_rounds = make_engine, make_rounds
        self._terms = terms
        self._plain: dict[str, Engine] = {}
        self._rounds: dict[str, LocalJob] = {}
        self._clocks: dict[str, _Clock] = {}
        self._clients: Counter[str] = Counter()

    # -- clients ----------------------------------------------------------------------------------------------

    def join(self, hello: w.Hello) -> Engine:
        """Take a client in; the engine is its own, or that which all share.

        Raises:
            InvalidArgument, QueueFull: its wishes are not what holds, or have no meaning.
            BackendUnavailable: there is nothing that it could join.
        """
        name, wishes = hello.job, wishes_of(hello.wishes)
        if wishes.workers is not None:
            self._drop_if_unused(name)
        if name not in self._rounds and (name in self._plain or wishes.workers is None):
            engine = self._join_plain(hello, wishes)
        else:
            engine = self._join_rounds(hello, wishes)
        self._clients[name] += 1
        return engine

    def part(self, name: str, engine: Engine, *, left: bool) -> None:
        """A client has left, or (not `left`) will not be heard of again."""
        self._clients[name] -= 1
        if isinstance(worker := engine.backend, Worker):
            if not left:
                worker.lose()
            engine.close()
        if not self._clients[name] and (clock := self._clocks.pop(name, None)) is not None:
            clock.stop()

    def store(self, name: str) -> LocalBackend:
        """What holds the values of a job, for those who look behind its back."""
        backend = self._rounds[name].backend if name in self._rounds else self._plain[name].backend
        assert isinstance(backend, LocalBackend)
        return backend

    def stop(self, error: AkvError) -> None:
        """End what waits for other workers."""
        for job in self._rounds.values():
            job.stop(error)

    def close(self) -> None:
        """Close the stores."""
        for clock in self._clocks.values():
            clock.stop()
        for engine in self._plain.values():
            engine.close()
        for job in self._rounds.values():
            job.close()

    # -- the one kind -----------------------------------------------------------------------------------------

    def _join_plain(self, hello: w.Hello, wishes: Wishes) -> Engine:
        name, reads = hello.job, hello.role is w.Role.READER
        if wishes.workers is not None:
            raise InvalidArgument(
                f"workers={wishes.workers}: job {name!r} was opened without, so that each push is applied by itself; "
                "leave the option out, or open another job"
            )
        if wishes not in (Wishes(), Wishes(consistency="async")) or hello.rank is not None:
            raise InvalidArgument(
                f"job {name!r} has no rounds; consistency, staleness, on_worker_loss, worker_timeout and rank are for "
                "one whose first client says how many workers make a round, such as workers=4 (or AKV_WORKERS=4)"
            )
        if name not in self._plain:
            if reads:
                unnamed = "" if name else " (the URL names none: tcp://host:port/job)"
                raise BackendUnavailable(
                    f"there is no job {name!r} here{unnamed}; its first worker makes it, or a reader with workers=n"
                )
            self._drop_unused_if_full()
            self._plain[name] = self._make_engine(name)
        return self._plain[name]

    # -- the other --------------------------------------------------------------------------------------------

    def _join_rounds(self, hello: w.Hello, wishes: Wishes) -> Engine:
        name, role = hello.job, _ROLES[hello.role]
        job = self._rounds.get(name) or self._new_rounds(name, wishes)
        try:
            worker = job.join(wishes, role, hello.rank, _QUEUED, hello.client)
        except AkvError:
            if name not in self._rounds:
                job.close()
            raise
        self._rounds[name] = job
        if name not in self._clocks:
            self._clocks[name] = _Clock(job)
        return Engine(worker)

    def _new_rounds(self, name: str, wishes: Wishes) -> LocalJob:
        self._drop_unused_if_full()
        return self._make_rounds(name, self._settings(wishes))

    def _settings(self, wishes: Wishes) -> Settings:
        settings, most = Settings.of(wishes), self._terms.connections
        if settings.workers is not None and settings.workers > most:
            raise InvalidArgument(f"workers={settings.workers}: this server takes {most} connections")
        if settings.worker_timeout < _LEAST_TIMEOUT:
            least = f"at least {_LEAST_TIMEOUT} s over a network"
            raise InvalidArgument(f"worker_timeout={settings.worker_timeout}: {least}")
        return settings

    # -- their number -----------------------------------------------------------------------------------------

    def _drop_unused_if_full(self) -> None:
        if len(self._plain) + len(self._rounds) >= self._terms.jobs:
            for name in [*self._plain, *self._rounds]:
                self._drop_if_unused(name)
        if (number := len(self._plain) + len(self._rounds)) >= self._terms.jobs:
            raise BackendUnavailable(f"the server has {number} jobs, all that it takes")

    def _drop_if_unused(self, name: str) -> None:
        if self._clients[name]:
            return
        for stores in (self._plain, self._rounds):
            if name in stores and _is_empty(stores[name].backend):
                stores.pop(name).close()
                del self._clients[name]


def _is_empty(backend: Backend) -> bool:
    return isinstance(backend, LocalBackend) and not backend.storage.keys()


class _Clock:
    """Has one job look, every now and then, who is there."""

    def __init__(self, job: LocalJob) -> None:
        self._job = job
        self._loop = asyncio.get_running_loop()
        self._wind(job.interval)

    def stop(self) -> None:
        """Tick no more."""
        self._timer.cancel()

    def _wind(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        interval = self._job.interval
        if self._loop.time() - self._due > interval:
            # It was this loop that stood still, or the whole process: what clients sent meanwhile is still unread.
            self._wind(interval / 4)
        else:
            self._job.tick()
            self._wind(interval)
