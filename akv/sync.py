"""The blocking face: the same verbs for scripts, and MXNet's `create`.

    from akv import sync as kv

    store = kv.create("local")

Every verb returns when its operation is done, so nothing is lost when a script ends. On a store in this process the
operation is carried out in the calling thread, without an event loop; so it works inside a running loop (a notebook)
too. A handle may be used by several threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from akv import operations as ops
from akv.backend.registry import resolve
from akv.blocking import BlockingHandle, check_timeout
from akv.errors import BackendUnavailable, InvalidArgument, UnknownStore
from akv.operations import Progress
from akv.store import Keys, Path
from akv.values.keys import Key, check_key
from akv.values.rowsparse import RowSparse

if TYPE_CHECKING:
    from akv.optim import Optimizer

__all__ = ["KVStore", "Watch", "connect", "create"]

# MXNet's names. "device" reduces on the devices there; here the values say where they live.
_LOCAL = ("local", "local_update_cpu", "local_allreduce_cpu", "local_allreduce_device", "device")
_SYNC = ("dist", "dist_sync", "dist_device_sync", "dist_sync_device")
_ASYNC = ("dist_async", "dist_async_device", "dist_device_async")


class KVStore(BlockingHandle):
    """A handle on a store; made by `akv.sync.create` or `akv.sync.connect`.

    The verbs, their arguments, results and errors are those of `akv.KVStore`. In addition each takes a `timeout` in
    seconds: when it is over the operation is withdrawn and AkvTimeout raised; without, the store's `timeout` counts.
    """

    # -- values -----------------------------------------------------------------------------------------------

    def init(self, key: Keys, value: Any, *, timeout: float | None = None) -> None:
        """See akv.KVStore.init."""
        self._run(ops.Init(self._line.number, key, value), timeout)

    def push(
        self, key: Keys, value: Any, priority: int = 0, *, donate: bool = False, timeout: float | None = None
    ) -> Any:
        """See akv.KVStore.push."""
        return self._run(ops.Push(key, value, priority, donate), timeout)

    def pull(
        self,
        key: Keys,
        out: Any = None,
        priority: int = 0,
        *,
        min_version: int | None = None,
        timeout: float | None = None,
    ) -> Any:
        """See akv.KVStore.pull."""
        return self._run(ops.Pull(key, out, priority, min_version), timeout)

    def pushpull(
        self, key: Keys, value: Any, out: Any = None, priority: int = 0, *, timeout: float | None = None
    ) -> Any:
        """See akv.KVStore.pushpull; but as in MXNet the result is written into `value` where there is no `out`."""
        return self._run(ops.PushPull(key, value, value if out is None else out, priority), timeout)

    def broadcast(
        self, key: Keys, value: Any, out: Any = None, priority: int = 0, *, timeout: float | None = None
    ) -> Any:
        """See akv.KVStore.broadcast."""
        return self._run(ops.Broadcast(self._line.number, key, value, out, priority), timeout)

    def row_sparse_pull(
        self,
        key: Keys,
        out: RowSparse | list[Any] | None = None,
        priority: int = 0,
        row_ids: Any = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """See akv.KVStore.row_sparse_pull."""
        return self._run(ops.PullRows(key, out, priority, row_ids), timeout)

    def snapshot(self, key: Keys, *, timeout: float | None = None) -> Any:
        """See akv.KVStore.snapshot."""
        return self._run(ops.Snapshot(key), timeout)

    # -- what is done with pushed values ----------------------------------------------------------------------

    def set_updater(
        self, updater: Callable[[Key, Any, np.ndarray], object] | str, *, timeout: float | None = None
    ) -> None:
        """See akv.KVStore.set_updater."""
        self._run(ops.SetUpdater(updater), timeout)

    def _set_updater(self, updater: Callable[[Key, Any, np.ndarray], object]) -> None:
        """MXNet's name of set_updater."""
        self.set_updater(updater)

    def set_optimizer(self, optimizer: Optimizer, *, timeout: float | None = None) -> None:
        """See akv.KVStore.set_optimizer."""
        self._run(ops.SetOptimizer(optimizer), timeout)

    def set_learning_rate(self, learning_rate: float, *, timeout: float | None = None) -> None:
        """See akv.KVStore.set_learning_rate."""
        self._run(ops.SetLearningRate(learning_rate), timeout)

    def set_lr_mult(self, factors: Mapping[str, float] | Mapping[int, float], *, timeout: float | None = None) -> None:
        """See akv.KVStore.set_lr_mult."""
        self._run(ops.SetMultipliers("lr_mult", factors), timeout)

    def set_wd_mult(self, factors: Mapping[str, float] | Mapping[int, float], *, timeout: float | None = None) -> None:
        """See akv.KVStore.set_wd_mult."""
        self._run(ops.SetMultipliers("wd_mult", factors), timeout)

    def set_gradient_compression(self, spec: Mapping[str, object], *, timeout: float | None = None) -> None:
        """See akv.KVStore.set_gradient_compression."""
        self._run(ops.SetCompression(spec), timeout)

    # -- versions and keys ------------------------------------------------------------------------------------

    def wait_version(self, key: Key, version: int, *, timeout: float | None = None) -> int:
        """See akv.KVStore.wait_version."""
        reached: int = self._run(ops.Wait(key, version), timeout)
        return reached

    def watch(self, key: Key, *, timeout: float | None = None) -> Watch:
        """An iterator of the versions of `key`, from the current one on; `timeout` holds for each step."""
        return Watch(self, key, timeout)

    def keys(self, *, timeout: float | None = None) -> list[Key]:
        """See akv.KVStore.keys."""
        found: list[Key] = self._run(ops.ListKeys(), timeout)
        return found

    def info(self, key: Keys, *, timeout: float | None = None) -> Any:
        """See akv.KVStore.info."""
        return self._run(ops.Describe(key), timeout)

    def delete(self, key: Keys, *, timeout: float | None = None) -> None:
        """See akv.KVStore.delete."""
        self._run(ops.Delete(key), timeout)

    # -- the store --------------------------------------------------------------------------------------------

    def save(self, f: Path, *, progress: Progress | None = None, timeout: float | None = None) -> None:
        """See akv.KVStore.save."""
        self._run(ops.Save(f, progress), timeout)

    def load(self, f: Path, *, progress: Progress | None = None, timeout: float | None = None) -> None:
        """See akv.KVStore.load."""
        self._run(ops.Load(f, progress), timeout)

    def save_optimizer_states(self, f: Path, *, progress: Progress | None = None, timeout: float | None = None) -> None:
        """See akv.KVStore.save_optimizer_states."""
        self._run(ops.SaveOptimizerStates(f, progress), timeout)

    def load_optimizer_states(self, f: Path, *, progress: Progress | None = None, timeout: float | None = None) -> None:
        """See akv.KVStore.load_optimizer_states."""
        self._run(ops.LoadOptimizerStates(f, progress), timeout)

    def barrier(self, name: str = "", *, timeout: float | None = None) -> None:
        """See akv.KVStore.barrier."""
        self._run(ops.Barrier(name), timeout)

    def _barrier(self) -> None:
        """MXNet's name of barrier."""
        self.barrier()


class Watch:
    """An iterator of the versions of one key; `skipped` says how many lay between the last two that were given out."""

    def __init__(self, store: KVStore, key: Key, timeout: float | None) -> None:
        self.skipped = 0
        self._store, self._key = store, check_key(key)
        self._timeout = None if timeout is None else check_timeout(timeout)
        self._last = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        version = self._store.wait_version(self._key, self._last + 1, timeout=self._timeout)
        self.skipped = version - self._last - 1 if self._last else 0
        self._last = version
        return version


def connect(url: str, **options: object) -> KVStore:
    """Open a store by URL, blocking. Arguments and errors are those of akv.connect."""
    return KVStore(resolve(url, options))


def create(name: str = "local") -> KVStore:
    """Open a store by MXNet's name: "local" and its kin a new one in this process, "dist_sync" and its kin at AKV_URL.

    There, AKV_WORKERS says how many workers the job has, and AKV_RANK, where it is set, which one this is. "dist_sync"
    needs them; "dist_async" without is a store in which each push is applied by itself.

    Raises:
        UnknownStore: the name is none of MXNet's. BackendUnavailable: AKV_URL is needed and not set, or nobody answers
        there. InvalidArgument: the job runs by other rules, or the rank is taken.
    """
    if not isinstance(name, str):
        raise InvalidArgument(f"the name of a store is a str, not {name!r}")
    kind = name.lower()
    if kind in _LOCAL:
        return KVStore(resolve("memory://", {}), kind)
    if kind in _SYNC or kind in _ASYNC:
        consistency = "sync" if kind in _SYNC else "async"
        return KVStore(resolve(_cluster_url(kind), {"consistency": consistency}), kind)
    raise UnknownStore(
        f"unknown store {name!r}; known are {', '.join((*_LOCAL, *_SYNC, *_ASYNC))}; connect takes a URL"
    )


def _cluster_url(kind: str) -> str:
    url = os.environ.get("AKV_URL")
    if url is None:
        raise BackendUnavailable(f"{kind!r} needs the address of its servers: set AKV_URL, such as tcp://host:7070/job")
    return url
