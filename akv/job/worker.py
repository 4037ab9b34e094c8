"""One worker of a job, as a backend: its handle, or what a server keeps of its client, has an engine of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from akv.backend.protocol import Report
from akv.compression import Scheme
from akv.errors import AkvError
from akv.job.effects import Effect
from akv.job.steps import Task
from akv.operations import Operation
from akv.scheduler import Budget
from akv.values.keys import Key

if TYPE_CHECKING:
    from akv.job.core import Job
    from akv.job.local import LocalJob
    from akv.job.staging import Contribution

__all__ = ["Worker"]

Event = Callable[["Job"], Callable[[Any, float], list[Effect]]]

# What is started here may wait for other workers; it must not keep back what they wait for.
_UNBOUNDED = 1 << 62


class Worker:
    """See akv.backend.protocol.Backend.

    Attributes:
        session: the id that the job knows it by.
        rank: -1 for a reader.
        moved: to be told which versions have moved.
        silence: the seconds since the worker was last heard of; asked from any thread.
        attached: whether it can be reached at the moment; asked from any thread.
        held: told, in any thread and without locks, which operation waits for other workers, once or more often.
        agreed: how it compresses, if it does.
    """

    remote = False
    inline_nbytes = -1
    calls_out = False

    def __init__(self, job: LocalJob, max_queued: int, session: bytes) -> None:
        self.job = job
        self.session = session
        self.rank = -1
        self.silence: Callable[[], float] = _no_silence
        self.attached: Callable[[], bool] = _always
        self.held: Callable[[Operation], object] = _nobody_asked
        self.agreed: Scheme | None = None
        self.kind = job.backend.kind
        self.on_nonfinite = job.on_nonfinite
        self.budget = Budget(_UNBOUNDED, _UNBOUNDED, max_queued)
        self.capabilities: Mapping[str, bool] = {**job.backend.capabilities, "collective": True}
        self.moved: Report = _nobody
        self._tasks: dict[Operation, Task] = {}

    # -- the backend ------------------------------------------------------------------------------------------

    @property
    def num_workers(self) -> int:
        return self.job.num_workers

    async def open(self) -> None:
        """Nothing to connect to."""

    def size(self, op: Operation) -> int:
        return self.job.backend.size(op)

    def run(self, op: Operation) -> None:
        self.job.backend.run(op)  # only a wait for a version, which has come

    def start(self, op: Operation, done: Callable[[Operation], None]) -> None:
        task = self._tasks[op] = Task(self, op, partial(self._ended, done))
        self.job.start(task)

    def _ended(self, done: Callable[[Operation], None], op: Operation) -> None:
        del self._tasks[op]
        done(op)

    def cancel(self, op: Operation) -> None:
        if (task := self._tasks.get(op)) is not None:
            self.job.cancel(task)

    def has_reached(self, op: Operation) -> bool:
        return self.job.backend.has_reached(op)

    def version(self, key: Key) -> int:
        return self.job.backend.version(key)

    def report(self, moved: Report) -> None:
        self.moved = moved

    def close(self) -> None:
        self.job.leave(self.session)

    def lose(self) -> None:
        """It will not be heard of again; or see akv.backend.protocol.Member."""
        self.job.lose(self.session)

    # -- what the flows ask -----------------------------------------------------------------------------------

    @property
    def is_reader(self) -> bool:
        """Whether it takes part in nothing."""
        return self.rank < 0

    @property
    def stages(self) -> bool:
        """Whether a push is over before it is applied, so that it has to be copied."""
        return self.job.settings.consistency == "sync"

    def ahead(self, keys: Sequence[Key]) -> list[tuple[Key, int]]:
        """The keys that this worker is a round ahead on, with the versions it has to wait for before it pushes."""
        return self.job.ahead(self.session, keys)

    def init(self, key: Key) -> Event:
        return lambda core: lambda ticket, now: core.init(ticket, self.session, key, now)

    def push(self, key: Key, contribution: Contribution) -> Event:
        return lambda core: lambda ticket, now: core.push(ticket, self.session, key, contribution, now)

    def pull(self, key: Key) -> Event:
        return lambda core: lambda ticket, now: core.pull(ticket, self.session, key, now)

    def wait(self, key: Key, version: int) -> Event:
        return lambda core: lambda ticket, now: core.wait(ticket, self.session, key, version, now)

    def barrier(self, name: str) -> Event:
        return lambda core: lambda ticket, now: core.barrier(ticket, self.session, name, now)


def _no_silence() -> float:
    """A handle of this process lives until it is closed, or nothing refers to it any more."""
    return 0.0


def _always() -> bool:
    """The same."""
    return True


def _nobody_asked(op: Operation) -> None:
    """Nobody counts what this worker's operations hold."""


def _nobody(keys: Iterable[Key], error: AkvError | None = None) -> None:
    """No engine has asked."""
