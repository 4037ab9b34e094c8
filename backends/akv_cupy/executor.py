"""Operations carried out on devices: started by a thread of the store's, ended by whoever sees their event fire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from akv.backend.local import LocalBackend
from akv.backend.storage import Transaction, run_all
from akv.backend.thread_pool import ThreadPool
from akv.operations import Delete, Describe, Operation
from akv.scheduler import Budget
from akv_cupy.lane import Lane
from akv_cupy.storage import DeviceStorage
from akv_cupy.transaction import DeviceTransaction
from akv_cupy.waiter import fires_soon

__all__ = ["DeviceBackend"]

Done = Callable[[Operation], None]

# Operations that are started at a time. As many threads: an operation needs one to be issued, perhaps one to end, and
# none between; so none waits for a thread, or for a slot of host memory, that only another could give back.
_STARTED = 8
_STARTED_NBYTES = 1 << 30

# More than this is not copied by a thread that others wait for.
_QUICK_NBYTES = 256 << 10


class DeviceBackend(LocalBackend):
    """A LocalBackend but for how operations are started and ended; and see DeviceArrays in akv.backend.protocol."""

    # What needs a device never runs in its caller, however little it is: see `size`.
    inline_nbytes = 0
    storage: DeviceStorage

    def __init__(self, kind: str, storage: DeviceStorage, max_queued: int = 1 << 16) -> None:
        super().__init__(kind, storage, max_queued)
        self.budget = Budget(_STARTED, _STARTED_NBYTES, max_queued)
        self._pool = ThreadPool(f"akv-{kind}", _STARTED)

    def size(self, op: Operation) -> int:
        nbytes = super().size(op)
        return nbytes or (1 if op.keys and not isinstance(op, Describe | Delete) else 0)

    def borrow(self, op: Operation) -> None:
        for value in op.on_device:
            value.adopted = self.storage.rig.machine.adopt(value)

    def start(self, op: Operation, done: Done) -> None:
        self._pool.submit(lambda: _Work(self, op, op, done).issue())

    def lane(self, op: Operation, stop: Callable[[], None]) -> Lane:
        """What an operation puts its work on."""
        return self.storage.rig.lane((op.priority > 0) - (op.priority < 0), stop)

    def again(self, work: _Work) -> None:
        """Have a thread issue it."""
        self._pool.submit(work.issue)

    def end_aside(self, work: _Work, error: BaseException | None) -> None:
        """Have a thread end it."""
        self._pool.submit(lambda: work.end(error))


class _Work:
    """One step of an operation: issued, waited for, ended."""

    def __init__(self, backend: DeviceBackend, op: Operation, step: Operation, done: Done) -> None:
        self._backend, self._op, self._step, self._done = backend, op, step, done
        self._transactions: Sequence[Transaction] = ()
        self._issued = 0
        self._error: BaseException | None = None
        self._lane = backend.lane(op, self._stop)

    def issue(self) -> None:
        """Check it, and put it on streams."""
        self._put_all()
        # No variable of this frame may keep a transaction, and with it the caller's arrays, until the end is told.
        self._wait()

    def _put_all(self) -> None:
        try:
            self._transactions = self._step.begin(self._backend.storage)
            for transaction in self._transactions:
                self._stop()
                if isinstance(transaction, DeviceTransaction):
                    transaction.prepare(self._lane)
            # Only when all are prepared: what is wrong with one changes nothing, and what they do goes together.
            self._stop()
            for transaction in self._transactions:
                self._apply(transaction)
                if transaction.tentative > 1:
                    self._stop()
                self._issued += 1
        except BaseException as error:
            # Of any kind: whoever awaits the operation has to hear of it.
            self._error = error

    def _apply(self, transaction: Transaction) -> None:
        if isinstance(transaction, DeviceTransaction):
            transaction.apply(self._lane)
            return
        for run in transaction.passes:
            run(...)

    def _stop(self) -> None:
        # What has begun to change a value goes on to its end: half of the keys is nothing.
        if self._op.cancelled and not self._issued and self._step is self._op:
            raise self._op.cancelled

    def _wait(self) -> None:
        try:
            last = self._lane.close()
            if last is not None and not fires_soon(last[0]):
                last[1].waiter.add(last[0], self._fired)
                return
        except BaseException as error:
            self.end(error)
        else:
            self.end(None)

    def _fired(self, error: BaseException | None) -> None:
        if self._lane.undelivered > _QUICK_NBYTES or not self._is_simple:
            self._backend.end_aside(self, error)
        else:
            self.end(error)

    @property
    def _is_simple(self) -> bool:
        """Whether the commits take no time."""
        return all(isinstance(transaction, DeviceTransaction) for transaction in self._transactions)

    def end(self, error: BaseException | None) -> None:
        """The devices are done with it; or have failed, and nothing counts."""
        op, step, sound = self._op, self._step, error is None
        if error is not None:
            self._issued, self._error = 0, self._error or error
        del error  # whose traceback will lead here
        try:
            self._lane.finish(deliver=sound)
            results = run_all(step.verb, step.keys, self._transactions, self._conclude)
            if self._error is not None:  # it has no transactions
                raise self._error
            op.result = step.outcome(results)
        except BaseException as failure:
            op.error = failure
        else:
            if step.follow is not None:
                self._backend.again(_Work(self._backend, op, step.follow, self._done))
                return
        self._forget()
        self._done(op)

    def _conclude(self, transaction: Transaction, first: bool) -> Any:
        if self._error is not None and transaction is self._transactions[self._issued]:
            raise self._error
        return transaction.commit()

    def _forget(self) -> None:
        # An error's traceback leads here, and from here everything to the caller's arrays.
        self._transactions, self._error = (), None
        del self._lane
