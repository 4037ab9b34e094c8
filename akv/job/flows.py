"""How each verb of a worker goes: what it asks of the job, and what it has the storage do, in turn.

A flow is a generator. It yields `Ask` (events of the job; it goes on when all are answered, with their effects) or an
operation (it goes on when that is done), and returns the result. An error is thrown into it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from akv import operations as ops
from akv.errors import AkvError, CompressionConflict, InvalidArgument
from akv.job.effects import Answer, Fail
from akv.job.staging import Check, Contribution, Inspect, Stage
from akv.operations import Operation

if TYPE_CHECKING:
    from akv.job.worker import Worker

__all__ = ["Ask", "Flow", "UpdaterFailed", "flow_of", "join_errors", "waiting_for"]

Ask: TypeAlias = list[Callable[[Any], Any]]
Flow: TypeAlias = Generator["Ask | Operation", Any, Any]


def flow_of(worker: Worker, op: Operation) -> Flow:
    """The flow of an operation."""
    match op:
        case ops.PushPull():
            # A snapshot of the value before would keep its memory from being written to.
            return _pushpull(worker, op, None if isinstance(op.read, ops.Snapshot) else op.read, op.read)
        case ops.CodedPushPull():
            read = ops.CodedPull(op.keys, op.priority)
            return _pushpull(worker, op, read, read)
        case ops.Push() | ops.CodedPush():
            return _push(worker, op, None)
        case ops.Pull() | ops.PullRows() | ops.Snapshot() | ops.CodedPull():
            return _read(worker, op, op)
        case ops.Init():
            return _init(worker, op)
        case ops.Barrier():
            return _barrier(worker, op)
        case ops.Flush():
            return _nothing()
        case ops.Delete() | ops.Restore() | ops.SetUpdater() | ops.SetOptimizer():
            return _change(worker, op)
        case ops.SetLearningRate() | ops.SetMultipliers():
            return _change(worker, op)
        case ops.SetCompression():
            return _agree(worker, op)
        case _:
            return _plain(op)


def _nothing() -> Flow:
    yield []
    return None


def _plain(op: Operation) -> Flow:
    yield op
    return op.result


def _change(worker: Worker, op: Operation) -> Flow:
    if worker.is_reader:
        raise InvalidArgument(f"{op.verb}: a handle with role=reader changes nothing")
    yield op
    return op.result


def _agree(worker: Worker, op: ops.SetCompression) -> Flow:
    yield from _together(worker, _change(worker, op))
    worker.agreed = op.scheme


def _together(worker: Worker, flow: Flow) -> Flow:
    """All who wait for this worker hear of it if it compresses in another way than they do."""
    try:
        return (yield from flow)
    except CompressionConflict as error:
        worker.job.disagree(worker, error)
        raise


def _init(worker: Worker, op: ops.Init) -> Flow:
    yield [worker.init(key) for key in op.keys]
    yield op
    return op.result


def _read(worker: Worker, op: Operation, read: Operation) -> Flow:
    yield [worker.pull(key) for key in op.keys]
    yield read
    return read.result


def _barrier(worker: Worker, op: ops.Barrier) -> Flow:
    yield [worker.barrier(op.name)]
    return None


def _pushpull(worker: Worker, op: ops.Push | ops.CodedPush, asked: Operation | None, read: Operation) -> Flow:
    yield from _push(worker, op, asked)
    return (yield from _read(worker, op, read))


def _push(worker: Worker, op: ops.Push | ops.CodedPush, read: Operation | None) -> Flow:
    yield from _together(worker, _plain(Check(op, read, worker.agreed)))
    yield [worker.wait(key, version) for key, version in worker.ahead(op.keys)]
    contributions: Sequence[Contribution] = op.groups
    look = _look(worker, op)
    if look is not None:
        yield look
        contributions = look.result
    pushes = [worker.push(key, contribution) for key, contribution in zip(op.keys, contributions, strict=True)]
    answers: list[Answer] = yield pushes
    return op.selection.spread([answer.version for answer in answers])


def _look(worker: Worker, op: ops.Push | ops.CodedPush) -> Operation | None:
    """What is done with what a push brings before it counts."""
    if isinstance(op, ops.CodedPush):
        return Inspect(op, worker.on_nonfinite)
    if worker.stages or worker.on_nonfinite == "reject":
        return Stage(op, worker.on_nonfinite, copies=worker.stages)
    return None


class UpdaterFailed(AkvError):
    """Carries what an updater of the user's raised through the core, which deals in akv's errors.

    Attributes:
        error: what it raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the updater raised {type(error).__name__}: {error}")
        self.error = error


def join_errors(op: Operation, outcomes: Sequence[Any]) -> BaseException | None:
    """The first error among the outcomes for an operation's keys, with a note on those that were done all the same."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Fail)]
    if not failures:
        return None
    error = _error_of(failures[0], op)
    done = [key for key, outcome in zip(op.keys, outcomes, strict=False) if not isinstance(outcome, Fail)]
    if done:
        if isinstance(error, AkvError):
            error.applied = done
        error.add_note(f"akv: {op.verb} was done for these keys all the same: {done!r:.500}")
    return error


def _error_of(failure: Fail, op: Operation) -> BaseException:
    if isinstance(failure.error, UpdaterFailed):
        return failure.error.error
    # Others may get the same error, and raise it in their threads.
    error = copy.copy(failure.error)
    error.__cause__ = failure.error.__cause__
    if failure.error is op.cancelled and failure.ranks:
        error = type(error)(f"{error}{waiting_for(failure.ranks, failure.waited)}")
    error.ranks, error.waited = failure.ranks, failure.waited
    return error


def waiting_for(ranks: Sequence[int], waited: float | None) -> str:
    """The words for what a call that is given up has waited for."""
    return f"; it has waited {waited or 0.0:.3g} s for ranks {list(ranks)!r:.200}" if ranks else ""
