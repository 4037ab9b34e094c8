"""The storage protocol: where values live. Writes and reads are transactions, made of passes over memory.

A backend that holds values on this machine implements `Storage`; akv runs it, in the caller or in the store's threads,
and a server can put it on the network. The caller of every method holds the key's turn (see akv.scheduler): a write is
alone on its key, reads may overlap, and different keys are worked on by different threads at the same time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from akv.errors import AkvError
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse

if TYPE_CHECKING:
    from akv.init import Table
    from akv.optim import Optimizer
    from akv.optim.updaters import Updater

__all__ = ["Info", "Pass", "Storage", "Transaction", "Where", "run_all", "run_one", "run_whole"]

# A part of a transaction's work: a slice along `Transaction.length`, or `...` for all of it.
Where = slice | EllipsisType
Pass = Callable[[Where], None]


@dataclass(frozen=True, slots=True)
class Info:
    """What a store knows of a key: shape, dtype, version (1 after init), size in bytes, and where the value lives.

    The size of a table made by `akv.init` is what the rows that it holds take, with their index.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    version: int
    nbytes: int
    where: str


class Transaction(ABC):
    """One write, or one read, of one key: checked when made, then its passes are run, then it is committed or aborted.

    Attributes:
        passes: run one after the other. Each may be cut into slices of `range(length)`, taken by several threads.
        tentative: so many of the passes, from the front, leave the stored value as it was; `abort` may follow them.
        nbytes: the bytes of one array that a pass goes over, for choosing the slices.
    """

    __slots__ = ("nbytes", "passes", "tentative")

    def __init__(self, nbytes: int, passes: Sequence[Pass] = (), tentative: int = 0) -> None:
        self.nbytes = nbytes
        self.passes = passes
        self.tentative = tentative

    @property
    def length(self) -> int:
        """What slices cut; by default nothing can be cut. Asked once, before the first slice."""
        return 1

    @abstractmethod
    def commit(self) -> Any:
        """Make the work visible in one step; return the new version of a write, the result of a read."""

    def abort(self) -> None:
        """Forget the work; the stored value is as it was."""

    def run(self) -> Any:
        """All passes at once, then commit: the one-slice case. After an error it is for the caller to abort."""
        for run in self.passes:
            run(...)
        return self.commit()

    def end(self) -> None:
        """Let go: the passes are its own methods, so it would keep the caller's arrays until a garbage collection."""
        self.passes = ()


def run_whole(verb: str, keys: Sequence[Key], transactions: Sequence[Transaction]) -> list[Any]:
    """Run transactions whole, one after the other; an error names the keys that were done before it."""
    return run_all(verb, keys, transactions, lambda transaction, first: transaction.run())


def run_one(transaction: Transaction) -> Any:
    """Run a single transaction whole."""
    try:
        return transaction.run()
    except BaseException:
        transaction.abort()
        raise
    finally:
        transaction.end()


def run_all(
    verb: str, keys: Sequence[Key], transactions: Sequence[Transaction], run: Callable[[Transaction, bool], Any]
) -> list[Any]:
    """Have `run(transaction, is_first)` run each. An error names the keys that were done, and the rest is aborted."""
    results: list[Any] = []
    try:
        for transaction in transactions:
            results.append(run(transaction, not results))
    except BaseException as error:
        for transaction in transactions[len(results) :]:
            transaction.abort()
        if results:
            if isinstance(error, AkvError):
                error.applied = keys[: len(results)]
            error.add_note(f"akv: {verb} was done for these keys before the error: {list(keys[: len(results)])!r:.500}")
        raise
    finally:
        for transaction in transactions:
            transaction.end()
    return results


class Storage(ABC):
    """Values by key, and what is done with pushed ones. All errors are akv's; an error leaves everything as it was.

    Attributes:
        calls_out: whether a write calls a function of the user's.
        keeps_donations: whether a write of a donated array takes no time at any size.
    """

    calls_out: bool = False
    keeps_donations: bool = False

    @abstractmethod
    def begin_init(self, key: Key, value: Value, owner: int) -> Transaction:
        """Create `key` with a copy of `value` as version 1 (or one above its last version before a delete).

        An existing key of the same shape and dtype stays as it is. Commits to None.

        Raises:
            KeyExists: `owner` (a handle's number) has initialised it before, or shape or dtype differ.
            KeyTypeError: the store holds keys of the other kind.
        """

    @abstractmethod
    def begin_write(self, key: Key, values: Sequence[Value], donate: bool) -> Transaction:
        """Sum `values` and let the updater apply the sum. Commits to the new version.

        The arrays are only read, until commit or abort; with `donate` a single array may be kept instead of copied.

        Raises:
            KeyNotFound, KeyTypeError, ShapeMismatch, DTypeMismatch, RowOutOfRange, NonFinite.
        """

    def write(self, keys: Sequence[Key], groups: Sequence[Sequence[Value]], donate: bool) -> list[int]:
        """Small writes, whole and at once: all are checked before the first is applied. Errors are begin_write's.

        A storage may have a shorter way than a transaction for each, here and in the three below.
        """
        pairs = zip(keys, groups, strict=True)
        return run_whole("push", keys, [self.begin_write(key, group, donate) for key, group in pairs])

    def write_one(self, key: Key, values: Sequence[Value], donate: bool) -> int:
        """`write` of a single key."""
        version: int = run_one(self.begin_write(key, values, donate))
        return version

    @abstractmethod
    def begin_read(self, key: Key, outs: Sequence[Value] | None) -> Transaction:
        """Copy the value into each of `outs`, casting to its dtype; or, for None, into a fresh array, the result.

        Raises:
            KeyNotFound, KeyTypeError, ShapeMismatch, DTypeMismatch.
        """

    def read(self, keys: Sequence[Key], outs: Sequence[Sequence[Value]] | None) -> list[Any]:
        """Small reads, whole and at once, like `write`. Errors and results are begin_read's."""
        pairs = zip(keys, [None] * len(keys) if outs is None else outs, strict=True)
        return run_whole("pull", keys, [self.begin_read(key, out) for key, out in pairs])

    def read_one(self, key: Key, outs: Sequence[Value] | None) -> Any:
        """`read` of a single key."""
        return run_one(self.begin_read(key, outs))

    @abstractmethod
    def delete(self, key: Key) -> None:
        """Forget the value, its updater state and who initialised it, but not its version number.

        Raises:
            KeyNotFound, KeyTypeError.
        """

    @abstractmethod
    def version(self, key: Key) -> int:
        """The current version, 0 for a key that does not exist."""

    def renew(self, key: Key) -> int:
        """Make a version of the value as it is, for a round that brings nothing; return it.

        A storage that cannot stays at its version; then who waits for the next one waits for the next round.

        Raises:
            KeyNotFound, KeyTypeError.
        """
        return self.info(key).version

    @abstractmethod
    def nbytes(self, key: Key) -> int:
        """The size of the value in bytes, 0 for a key that does not exist."""

    @abstractmethod
    def info(self, key: Key) -> Info:
        """What is known of the key.

        Raises:
            KeyNotFound, KeyTypeError.
        """

    @abstractmethod
    def keys(self) -> list[Key]:
        """All keys, in the order of their init."""

    @abstractmethod
    def set_updater(self, updater: Updater) -> None:
        """From now on `updater` applies what is pushed; optimizer state of before is forgotten."""

    @abstractmethod
    def set_optimizer(self, optimizer: Optimizer) -> None:
        """Like set_updater; the same description again changes nothing.

        Raises:
            UpdaterConflict: another optimizer is set.
        """

    @abstractmethod
    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the optimizer's learning rate from the next push on.

        Raises:
            InvalidArgument: there is no optimizer, or the rate is no number.
        """

    @abstractmethod
    def set_multipliers(self, name: str, factors: Mapping[Key, float]) -> None:
        """Replace what was set before of `name`, "lr_mult" or "wd_mult", from the next push on.

        A key that is not among the factors has the optimizer's own.

        Raises:
            InvalidArgument: there is no optimizer.
        """

    def close(self) -> None:
        """The last handle is gone."""


class RowStorage(ABC):
    """A capability: reading single rows."""

    @abstractmethod
    def begin_rows(self, key: Key, requests: Sequence[tuple[Any, RowSparse | None]]) -> Transaction:
        """Read rows for each (ids, out): into `out`, or a fresh RowSparse. Commits to the list of RowSparse.

        Raises:
            KeyNotFound, KeyTypeError, RowOutOfRange, DTypeMismatch, ShapeMismatch.
        """


class TableStorage(ABC):
    """A capability: tables that hold only the rows that were pushed to."""

    @abstractmethod
    def begin_table(self, key: Key, table: Table, owner: int) -> Transaction:
        """Storage.begin_init of a table: an existing key stays as it is if it was made of an equal description.

        Raises:
            KeyExists: `owner` has initialised it before, or it is an array or another table. KeyTypeError.
        """


class SnapshotStorage(ABC):
    """A capability: handing out the current value without a copy."""

    @abstractmethod
    def snapshot(self, key: Key) -> np.ndarray:
        """A read-only array that later writes never change.

        Raises:
            KeyNotFound, KeyTypeError.
        """
