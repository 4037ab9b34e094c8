"""The async face: one handle on a store. Verbs check their arguments, make an operation, and hand it to the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from akv.backend.registry import resolve
from akv.handle import Handle
from akv.loop import Pending
from akv.operations import (
    Barrier,
    Broadcast,
    Delete,
    Describe,
    Init,
    ListKeys,
    Load,
    LoadOptimizerStates,
    Progress,
    Pull,
    PullRows,
    Push,
    PushPull,
    Save,
    SaveOptimizerStates,
    SetCompression,
    SetLearningRate,
    SetMultipliers,
    SetOptimizer,
    SetUpdater,
    Snapshot,
    Wait,
)
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse
from akv.watch import Watch

if TYPE_CHECKING:
    from akv.optim import Optimizer

__all__ = ["KVStore", "connect"]

Keys = Key | list[Any] | tuple[Any, ...]
Path = str | os.PathLike[str]


class KVStore(Handle):
    """A handle on a store; made by `akv.connect`, used on the event loop it was opened on.

    All verbs take one key or a list of keys and return an awaitable at once: an `asyncio.Future` of an operation that
    is scheduled already. Wrong arguments raise at the call; what concerns stored values comes from the awaitable.

    An array that is pushed belongs to the store until the awaitable is done, and is never written to; an `out` belongs
    to it as long.
    """

    # -- values -----------------------------------------------------------------------------------------------

    def init(self, key: Keys, value: Any) -> Pending[None]:
        """Create `key` as version 1 with a copy of `value`, unless it exists with the same shape and dtype.

        Args:
            key: one key, or a list of keys.
            value: an array, a RowSparse, or a table by its initialiser (see akv.init); for a list of keys a list.

        Raises:
            KeyExists: this handle has initialised it before, or shape, dtype or initialiser differ.
            KeyTypeError, NotAnArray, DTypeMismatch, InvalidArgument: the arguments are wrong.
        """
        return self._submit(Init(self._line.number, key, value))

    def push(self, key: Keys, value: Any, priority: int = 0, *, donate: bool = False) -> Pending[Any]:
        """Send `value` (an array, a RowSparse, or a list of them, one per device, which are summed) to the updater.

        Args:
            key: one key, or a list of keys with a list of values.
            priority: higher goes first among what waits.
            donate: the array is handed over for good, whatever happens, so that a plain assign costs nothing.

        Returns:
            the version that contains the push, or a list of versions for a list of keys.

        Raises:
            KeyNotFound, ShapeMismatch, DTypeMismatch, RowOutOfRange, NonFinite: nothing has changed.
            KeyTypeError, NotAnArray, InvalidArgument: the arguments are wrong.
            QueueFull: too much waits already.
        """
        return self._submit(Push(key, value, priority, donate))

    def pull(self, key: Keys, out: Any = None, priority: int = 0, *, min_version: int | None = None) -> Pending[Any]:
        """Read a value, as it is after all that this handle has pushed to the key before.

        Args:
            key: one key, or a list of keys.
            out: where to write it, casting to its dtype: an array, or a list of arrays, one per device; for a list of
                keys a list of such. Without, the result is a fresh array that the caller owns.
            priority: higher goes first among what waits.
            min_version: wait until the key has this version, also for a key that does not exist yet.

        Raises:
            KeyNotFound, ShapeMismatch, DTypeMismatch: no `out` has been written to.
            KeyTypeError, NotAnArray, InvalidArgument: the arguments are wrong.
            QueueFull: too much waits already. AkvTimeout: `min_version` was not reached in time.
        """
        return self._submit(Pull(key, out, priority, min_version))

    def pushpull(self, key: Keys, value: Any, out: Any = None, priority: int = 0) -> Pending[Any]:
        """Push, then pull what it led to; nothing comes between. Arguments and errors are those of the two."""
        return self._submit(PushPull(key, value, out, priority))

    def broadcast(self, key: Keys, value: Any, out: Any = None, priority: int = 0) -> Pending[Any]:
        """Init, then pull: every handle gets the value of the first. Arguments and errors are those of the two."""
        return self._submit(Broadcast(self._line.number, key, value, out, priority))

    def row_sparse_pull(
        self, key: Keys, out: RowSparse | list[Any] | None = None, priority: int = 0, row_ids: Any = None
    ) -> Pending[Any]:
        """Read some rows of a value.

        Args:
            row_ids: integers of any shape and in any order, repeats and none at all allowed; one array, or a list of
                arrays, one per `out`; for a list of keys a list of such.
            out: a RowSparse, or a list of them, whose indices and values are replaced.

        Returns:
            `out`, or a RowSparse whose indices are the sorted unique ids.

        Raises:
            RowOutOfRange, KeyNotFound, DTypeMismatch, ShapeMismatch: no `out` has been written to.
            InvalidArgument, KeyTypeError, NotAnArray: the arguments are wrong.
        """
        return self._submit(PullRows(key, out, priority, row_ids))

    def snapshot(self, key: Keys) -> Pending[Any]:
        """The current value as a read-only array, without a copy at any size; later pushes never change it.

        Raises:
            KeyNotFound, KeyTypeError. InvalidArgument: the backend has no snapshots.
        """
        return self._submit(Snapshot(key))

    # -- what is done with pushed values ----------------------------------------------------------------------

    def set_updater(self, updater: Callable[[Key, Any, np.ndarray], object] | str) -> Pending[None]:
        """Choose what a push does: "assign" (the default), "add", or a function.

        A function fn(key, pushed, stored) gets the sum of what was pushed, read-only, and a copy of the stored value
        that it changes in place; the copy takes effect when the function returns. Its exception reaches the pusher,
        and changes nothing.

        Raises:
            InvalidArgument: it is neither a function nor a name.
        """
        return self._submit(SetUpdater(updater))

    def set_optimizer(self, optimizer: Optimizer) -> Pending[None]:
        """Take what is pushed as gradients from now on. The same description again changes nothing.

        Raises:
            UpdaterConflict: another optimizer is set. InvalidArgument: it is no optimizer.
        """
        return self._submit(SetOptimizer(optimizer))

    def set_learning_rate(self, learning_rate: float) -> Pending[None]:
        """Change the learning rate from the next push on.

        Raises:
            InvalidArgument: there is no optimizer, or the rate is no number from 0 on.
        """
        return self._submit(SetLearningRate(learning_rate))

    def set_lr_mult(self, factors: Mapping[str, float] | Mapping[int, float]) -> Pending[None]:
        """Multiply the learning rate by a factor for some keys, from the next push on.

        Replaces what was set so before. A key that is not among them has the factor of the optimizer's own `lr_mult`.

        Raises:
            InvalidArgument: there is no optimizer, or a factor is no number from 0 on. KeyTypeError: a key is none.
        """
        return self._submit(SetMultipliers("lr_mult", factors))

    def set_wd_mult(self, factors: Mapping[str, float] | Mapping[int, float]) -> Pending[None]:
        """The same for the weight decay."""
        return self._submit(SetMultipliers("wd_mult", factors))

    def set_gradient_compression(self, spec: Mapping[str, object]) -> Pending[None]:
        """Compress what is pushed from now on, with error feedback: what one push leaves out, the next ones bring.

        In this process each value of a push, one per device, is packed with a residual of its own and restored before
        the values are summed. Over a network a client sums its values, packs the sum and sends the packed bytes; there
        all workers set the same before they push. What `init` brings is never compressed. Rows, integers and complex
        values are refused. The same spec again changes nothing; it cannot be unset.

        Args:
            spec: a codec with its parameters: {"type": "2bit", "threshold": 0.5}, or "1bit" (threshold), "fp16",
                "bf16", "int8" (block), "topk" (ratio); and "pull": "fp16", "bf16" or "int8", if values are to be
                packed on their way back over a network, too.

        Raises:
            CompressionConflict: another spec is set. InvalidArgument: the spec is none, or the store cannot compress.
        """
        return self._submit(SetCompression(spec))

    # -- versions ---------------------------------------------------------------------------------------------

    def wait_version(self, key: Key, version: int) -> Pending[int]:
        """Wait until `key` has reached `version`, also when it does not exist yet. Returns the version it has then.

        Raises:
            AkvTimeout: the store's `timeout` has passed. StoreClosed: this handle was closed meanwhile.
        """
        return self._submit(Wait(key, version))

    def watch(self, key: Key) -> Watch:
        """An async iterator of the versions of `key`, from the current one on. The newest wins: see Watch.skipped."""
        return Watch(self, key)

    # -- the store --------------------------------------------------------------------------------------------

    def keys(self) -> Pending[list[Key]]:
        """All keys, in the order of their init."""
        return self._submit(ListKeys())

    def info(self, key: Keys) -> Pending[Any]:
        """Shape, dtype, version, nbytes and place of a value (or a list of them).

        Raises:
            KeyNotFound, KeyTypeError.
        """
        return self._submit(Describe(key))

    def delete(self, key: Keys) -> Pending[None]:
        """Remove a value. Its versions go on where they were if the key is initialised again.

        Raises:
            KeyNotFound, KeyTypeError: nothing was deleted.
        """
        return self._submit(Delete(key))

    def save(self, f: Path, *, progress: Progress | None = None) -> Pending[None]:
        """Write a checkpoint to the folder `f`: all values and versions, the optimizer and its states, as they are now.

        The folder's parent has to exist. A checkpoint that is in it is replaced in one step when the new one is whole
        and on disk; whatever happens before leaves the old one. Values are written as they were when the save began
        (after all that this handle has done before), while other handles go on.

        Args:
            progress: called now and then, in another thread, with the bytes of arrays done and those in all. What it
                raises ends the save, and comes from the awaitable.

        Raises:
            DiskError: it could not be written. InvalidArgument: `f` is no path, or the store makes no checkpoints.
        """
        return self._submit(Save(f, progress))

    def load(self, f: Path, *, progress: Progress | None = None) -> Pending[None]:
        """Read a checkpoint: its keys are created or replaced, with states and versions; other keys stay as they are.

        Versions only go up: to the saved one, or by one. The saved optimizer is set where none is. For `progress` see
        `save`.

        Raises:
            BadCheckpoint: it is damaged, or not akv's. DiskError: it could not be read.
            ShapeMismatch, DTypeMismatch, KeyTypeError: it does not fit what is stored.
            UpdaterConflict: the store has another optimizer.
            InvalidArgument: it holds optimizer states only, or names an optimizer that is unknown here.
        With an error nothing has changed.
        """
        return self._submit(Load(f, progress))

    def save_optimizer_states(self, f: Path, *, progress: Progress | None = None) -> Pending[None]:
        """Like `save`, without the values: only the optimizer, with its states and counts."""
        return self._submit(SaveOptimizerStates(f, progress))

    def load_optimizer_states(self, f: Path, *, progress: Progress | None = None) -> Pending[None]:
        """Like `load`, without the values: the optimizer's states for keys that exist, from either kind of checkpoint.

        Raises:
            KeyNotFound: there is no value for a state. And what `load` raises.
        """
        return self._submit(LoadOptimizerStates(f, progress))

    def barrier(self, name: str = "") -> Pending[None]:
        """Wait until all workers have come here; any number of times. Everything scheduled before is done first."""
        return self._submit(Barrier(name))


class connect:
    """Open a store: `kv = await akv.connect(url)`, or `async with akv.connect(url) as kv`.

    Args:
        url: "memory://" (a store of its own), "memory://name" (one store per process and name), or the URL of another
            backend; options may follow as a query.
        options: `timeout` (seconds), `on_nonfinite`, ...; an argument wins over the URL, the URL over AKV_* variables.

    Raises (when awaited):
        UnknownStore: no backend claims the scheme. BackendUnavailable: it misses something.
        InvalidArgument: an option is unknown, or its value is.
    """

    def __init__(self, url: str, **options: object) -> None:
        self._url = url
        self._options: Mapping[str, object] = options

    if not TYPE_CHECKING:  # which would take any name as known

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"akv.connect(...) has no {name!r} before it is awaited: kv = await akv.connect(url), "
                "or async with akv.connect(url) as kv"
            )

    def __await__(self) -> Generator[Any, None, KVStore]:
        return self._open().__await__()

    async def __aenter__(self) -> KVStore:
        self._store = await self._open()
        return self._store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._store.__aexit__(kind, error, trace)

    async def _open(self) -> KVStore:
        location = resolve(self._url, self._options)
        store = KVStore(location)
        try:
            await store.engine.backend.open()
        except BaseException:
            store._close()
            raise
        return store
