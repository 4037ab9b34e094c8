"""What akv asks of a backend: to carry out operations. `LocalBackend` does it on a Storage, a client over a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, runtime_checkable

from akv.errors import AkvError
from akv.operations.base import Operation
from akv.scheduler import Budget
from akv.values.keys import Key

__all__ = ["Backend", "DeviceArrays", "Member", "Remote", "Report", "VersionSource"]


class Backend(Protocol):
    """Carries out operations that the scheduler has started. Methods may be called from any thread.

    Attributes:
        kind: the word of `KVStore.type`.
        remote: whether it lives on an event loop, which `open` is called on.
        rank: this handle's place among the workers of the job; 0 alone, -1 for a reader.
        budget: how much may be started at a time; what exceeds it waits by priority.
        inline_nbytes: an operation that goes over no more bytes than this is short enough to run in its caller.
        capabilities: the words `KVStore.is_capable` says yes to.
    """

    kind: str
    remote: bool
    rank: int
    budget: Budget
    inline_nbytes: int
    capabilities: Mapping[str, bool]

    @property
    def num_workers(self) -> int:
        """How many workers the job has; 1 alone."""
        ...

    @property
    def calls_out(self) -> bool:
        """Whether `run` may call a function of the user's."""
        ...

    async def open(self) -> None:
        """Called once, on the loop where a remote backend is to live, before anything is started.

        Raises:
            BackendUnavailable, AuthError, ...: the store cannot be reached.
        """
        ...

    def size(self, op: Operation) -> int:
        """The bytes that `op` goes over, as far as is known."""
        ...

    def run(self, op: Operation) -> None:
        """Carry `op` out now, in this thread: set its result or its error."""
        ...

    def start(self, op: Operation, done: Callable[[Operation], None]) -> None:
        """Carry `op` out elsewhere; then set its result or its error and call `done` once, from any thread.

        When `op.cancelled` is set, end soon: whole, or not at all and with that as its error.
        """
        ...

    def cancel(self, op: Operation) -> None:
        """`op.cancelled` was set for an operation that is started; from any thread, under the engine's lock."""
        ...

    def has_reached(self, op: Operation) -> bool:
        """Whether the keys that `op` awaits have its `min_version`, as far as is known; see Remote.look_out."""
        ...

    def version(self, key: Key) -> int | None:
        """The current version, 0 for a key that does not exist, None if that is not known here."""
        ...

    def close(self) -> None:
        """The last handle is gone, and nothing is started."""
        ...


@runtime_checkable
class DeviceArrays(Protocol):
    """A capability of a backend: values and outs may be arrays in GPU memory."""

    def borrow(self, op: Operation) -> None:
        """Look at `op.on_device` in the thread of the call, whose current streams order what it did to them before.

        Raises:
            InvalidArgument: one of them cannot be reached from here; nothing has been taken.
        """
        ...


@runtime_checkable
class Member(Protocol):
    """A capability of a backend whose handle is a worker of a job: others may wait for it."""

    def lose(self) -> None:
        """Its user has failed: to the others it is lost, as if its process had been killed. `close` follows.

        From any thread. Nothing for one that nobody waits for, such as a reader.
        """
        ...


class Report(Protocol):
    """What a VersionSource calls; from any thread, without locks."""

    def __call__(self, keys: Iterable[Key], error: AkvError | None = None) -> None:
        """The versions of `keys` have moved; with `error`, whoever waits for any version waits in vain."""
        ...


@runtime_checkable
class VersionSource(Protocol):
    """A capability of a backend whose versions move although no operation of its own engine ends."""

    def report(self, moved: Report) -> None:
        """Have `moved` called whenever that happens, after `has_reached` and `version` say so."""
        ...


@runtime_checkable
class Remote(VersionSource, Protocol):
    """What a backend that lives on an event loop offers besides; `remote` is true."""

    def look_out(self, op: Operation) -> None:
        """`op` waits for versions: report when they are there. From any thread, under the engine's lock."""
        ...

    def look_away(self, op: Operation) -> None:
        """It does not wait any more. From any thread, under the engine's lock."""
        ...

    def status(self) -> str:
        """Who is waited for when an operation takes its time, and when that one was heard of; from any thread."""
        ...

    async def wait_closed(self) -> None:
        """Wait until nothing is left of a backend whose last handle is closed; on its loop. For a second or two."""
        ...
