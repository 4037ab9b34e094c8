"""The two things under way in a job of one process: the tasks of its workers, and the steps of the storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from akv.job.agenda import Action
from akv.job.effects import Effect
from akv.job.flows import flow_of, join_errors
from akv.operations import Operation
from akv.scheduler import NEW, Line, State

if TYPE_CHECKING:
    from akv.job.worker import Worker

__all__ = ["Step", "Task", "WriteStep"]


class Step:
    """An operation on its way to the storage; see akv.scheduler.Schedulable.

    Not the operation itself, which is in its own handle's scheduler at the same time.
    """

    writes: ClassVar[bool] = False
    fence: ClassVar[bool] = False  # of its handle, whose own scheduler knows
    __slots__ = ("after", "blocked", "keys", "line", "nbytes", "op", "priority", "sequence", "state", "then")

    def __init__(self, op: Operation, line: Line, then: Callable[[Step], list[Action]], after: Action) -> None:
        self.op, self.line, self.then, self.after = op, line, then, after
        self.keys, self.priority, self.nbytes = op.keys, op.priority, op.nbytes
        self.state: State = NEW
        self.sequence = self.blocked = 0

    def finished(self, call: Callable[[Step], None]) -> Callable[[Operation], None]:
        """What the backend is to call when the operation is done."""
        return lambda op: call(self)


class WriteStep(Step):
    """A step that excludes others on its keys."""

    writes = True
    __slots__ = ()


class Task:
    """One operation of a worker, and how far its flow is.

    Attributes:
        worker: whose it is.
        working: what the storage does for it now.
        waiting: the tickets of its events that are not answered yet.
    """

    __slots__ = ("_answers", "_done", "_flow", "op", "waiting", "worker", "working")

    def __init__(self, worker: Worker, op: Operation, done: Callable[[Operation], None]) -> None:
        self.op = op
        self.working: Operation | None = None
        self.waiting: set[TaskTicket] = set()
        self.worker = worker
        self._flow = flow_of(worker, op)
        self._done = done
        self._answers: list[Effect | None] | None = None

    # -- answers, under the job's lock ------------------------------------------------------------------------

    def expect(self, number: int) -> list[TaskTicket]:
        """The tickets for so many events."""
        self._answers = [None for _ in range(number)]
        tickets: list[TaskTicket] = [(self, place) for place in range(number)]
        self.waiting = set(tickets)
        return tickets

    def answered(self, place: int, effect: Effect) -> bool:
        """An event is answered; return whether it was the last."""
        assert self._answers is not None
        self._answers[place] = effect
        self.waiting.discard((self, place))
        return not self.waiting

    # -- the flow ---------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Take the next step of the flow."""
        try:
            wanted = self._next()
        except StopIteration as stop:
            self._end(stop.value, None)
        except BaseException as error:
            self._end(None, error)
        else:
            self._take(wanted)

    def _next(self) -> Any:
        """What the flow wants next, given what has come of the last."""
        error: BaseException | None = None
        answers, self._answers = self._answers, None
        if self.working is not None:
            error, self.working = self.working.error, None
        elif answers is not None:
            error = join_errors(self.op, answers)
        wanted = self._flow.send(answers) if error is None else self._flow.throw(error)
        # Not before: what has been done is done, and has a result.
        return wanted if self.op.cancelled is None else self._flow.throw(self.op.cancelled)

    def _take(self, wanted: Any) -> None:
        if isinstance(wanted, Operation):
            self.working = wanted
            self.worker.job.perform(wanted, self.worker.job.told, self.go_on)
        elif wanted:
            self.worker.job.ask(self, wanted)
        else:
            self._answers = []
            self.go_on()

    def _end(self, result: Any, error: BaseException | None) -> None:
        self.op.result, self.op.error = result, error
        self._done(self.op)


TaskTicket: TypeAlias = tuple[Task, int]
