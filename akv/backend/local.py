"""Operations carried out on a Storage: small ones in the caller, large ones in slices by the store's threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from akv.backend.compressed import CompressionStorage
from akv.backend.saved import CheckpointStorage
from akv.backend.storage import Pass, RowStorage, SnapshotStorage, Storage, TableStorage, Transaction, Where, run_all
from akv.backend.thread_pool import Slices, ThreadPool
from akv.operations.base import Operation
from akv.scheduler import Budget
from akv.values.keys import Key

__all__ = ["LocalBackend"]

# Summing four float32 arrays of 64 MiB took one thread 11.9 ms in slices of 1 MiB, which stay in the cache between its
# passes, and 14.1 ms as a whole (measured on two cores). 512 KiB is as good, 16 KiB takes 1.8 times as long.
SLICE_NBYTES = 1 << 20
# With two threads the same sum takes 1.5 times as long at 1 MiB, and 0.7 times as long at 16 and 64 MiB.
SHARED_NBYTES = 8 << 20
# What one core sums or copies in about half a millisecond.
INLINE_NBYTES = 2 << 20
# More keys than that, with no more bytes, are dealt with in one go: a transaction for each takes three times as long.
WHOLE_KEYS = 64


class LocalBackend:
    """See akv.backend.protocol.Backend."""

    remote = False
    rank = 0
    num_workers = 1
    inline_nbytes = INLINE_NBYTES

    def __init__(self, kind: str, storage: Storage, max_queued: int = 1 << 16) -> None:
        self.kind = kind
        self.storage = storage
        self.capabilities: Mapping[str, bool] = {
            "optimizer": True,
            "rows": isinstance(storage, RowStorage),
            "tables": isinstance(storage, TableStorage),
            "snapshots": isinstance(storage, SnapshotStorage),
            "checkpoint": isinstance(storage, CheckpointStorage),
            "compression": isinstance(storage, CompressionStorage),
            "watch": True,
            "collective": False,
        }
        self._pool = ThreadPool(f"akv-{kind}")
        self.budget = Budget(self._pool.size, 256 << 20, max_queued)

    @property
    def calls_out(self) -> bool:
        return self.storage.calls_out

    def size(self, op: Operation) -> int:
        return op.size(self.storage)

    def run(self, op: Operation) -> None:
        try:
            op.result = op.perform(self.storage)
            if op.follow is not None:
                op.result = op.follow.perform(self.storage)
        except Exception as error:
            op.error = error

    def start(self, op: Operation, done: Callable[[Operation], None]) -> None:
        self._pool.submit(lambda: self._run_in_pool(op, done))

    async def open(self) -> None:
        """Nothing to connect to."""

    def cancel(self, op: Operation) -> None:
        """The pool looks at `op.cancelled` between slices."""

    def has_reached(self, op: Operation) -> bool:
        return all(self.storage.version(key) >= op.min_version for key in op.awaited)

    def version(self, key: Key) -> int:
        return self.storage.version(key)

    def close(self) -> None:
        self.storage.close()

    def _run_in_pool(self, op: Operation, done: Callable[[Operation], None]) -> None:
        step: Operation | None = op
        try:
            if len(op.keys) > WHOLE_KEYS and self.size(op) <= INLINE_NBYTES:
                self.run(op)
                step = None
            while step is not None:
                transactions = step.begin(self.storage)
                run = functools.partial(self._run_sliced, op, step is op)
                op.result = step.outcome(run_all(step.verb, step.keys, transactions, run))
                step = step.follow
        except BaseException as error:
            # Of any kind: whoever awaits the operation has to hear of it.
            op.error = error
        done(op)

    def _run_sliced(self, op: Operation, first_step: bool, transaction: Transaction, first: bool) -> Any:
        for number, run in enumerate(transaction.passes):
            # What has begun to change a value goes on to its end: half a value, or half of the keys, is nothing.
            undecided = first_step and first and number <= transaction.tentative
            if undecided and op.cancelled:
                raise op.cancelled
            stoppable = undecided and number < transaction.tentative
            if not self._share(op, transaction, run, stoppable) and op.cancelled:
                raise op.cancelled
        return transaction.commit()

    def _share(self, op: Operation, transaction: Transaction, run: Pass, stoppable: bool) -> bool:
        slices = Slices(run, _cut(transaction), lambda: stoppable and op.cancelled is not None)
        if transaction.nbytes >= SHARED_NBYTES:
            self._pool.submit(slices.work, self._pool.size - 1)
        slices.work()
        return slices.join()


def _cut(transaction: Transaction) -> Iterator[Where]:
    length = transaction.length
    if length <= 1:
        return iter((...,))
    step = max(1, SLICE_NBYTES * length // max(1, transaction.nbytes))
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
