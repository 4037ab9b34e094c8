"""Operations for the scheduler to order, and its four rules once more, written down as plainly as possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from akv.scheduler import DONE, HELD, NEW, READY, STARTED, WAITING, WITHDRAWN, Budget, Line, Scheduler, State

PLENTY = Budget(operations=1_000, nbytes=1 << 40, queued=100_000)
ONE_BY_ONE = PLENTY._replace(operations=1)


class Op:
    """What the scheduler reads and keeps of an operation, and nothing else."""

    __slots__ = ("blocked", "fence", "keys", "line", "nbytes", "priority", "sequence", "state", "writes")

    def __init__(
        self, line: Line, *keys: str, writes: bool = True, fence: bool = False, priority: int = 0, nbytes: int = 1
    ) -> None:
        self.line, self.writes, self.fence = line, writes, fence
        self.keys: Sequence[str] = keys
        self.priority, self.nbytes = priority, nbytes
        self.state: State = NEW
        self.sequence = self.blocked = -1

    def __repr__(self) -> str:
        kind = "fence" if self.fence else "write" if self.writes else "read"
        where = f"on {','.join(self.keys)} of line {self.line.number}"
        return f"<{kind} {where} priority={self.priority} nbytes={self.nbytes} {self.state.value}>"


def submit_all(scheduler: Scheduler[Op], ops: Iterable[Op]) -> list[Op]:
    """Submit each; return what was started, in order."""
    return [started for op in ops for started in scheduler.submit(op)]


def run_to_the_end(scheduler: Scheduler[Op], started: Iterable[Op]) -> list[Op]:
    """Finish the oldest started operation again and again; return all in the order in which they were started."""
    order = list(started)
    for op in order:  # grows while it is gone through
        order += scheduler.finish(op)
        scheduler.validate()
    return order


def charge(budget: Budget, *ops: Op) -> int:
    """The bytes that count to the budget."""
    return sum(op.nbytes for op in ops if op.nbytes > budget.free)


def is_empty(line: Line) -> bool:
    """Whether nothing of a handle is left with the scheduler."""
    return not (line.open or line.held or line.fence)


class Model:
    """What the rules say, found by going through everything that is alive; without lanes, counts or a heap."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.arrival: dict[Op, int] = {}
        self.held: list[Op] = []  # behind a fence, in order of arrival
        self.entered: list[Op] = []  # past the fences, in that order, until their end
        self.running: list[Op] = []
        self.charged: list[Op] = []  # those of them that the budget counts

    # -- the rules -----------------------------------------------------------------------------------------

    def waits_for_fence(self, op: Op) -> bool:
        before = [other for other in self.entered if other.line is op.line]
        return any(other.fence for other in before) or (op.fence and bool(before))

    def has_its_turn(self, op: Op, before: list[Op]) -> bool:
        return not any(set(op.keys) & set(other.keys) and (op.writes or other.writes) for other in before)

    def ready(self) -> list[Op]:
        """Those whose turn has come, in the order in which they may go."""
        found = [
            op
            for place, op in enumerate(self.entered)
            if op not in self.running and self.has_its_turn(op, self.entered[:place])
        ]
        return sorted(found, key=lambda op: (-op.priority, self.arrival[op]))

    def affords(self, op: Op) -> bool:
        if not self.charged:
            return True
        fits = charge(self.budget, op) == 0 or charge(self.budget, *self.charged, op) <= self.budget.nbytes
        return fits and len(self.charged) < self.budget.operations

    def admits(self, op: Op) -> bool:
        if any(other.line is op.line for other in self.held) or self.waits_for_fence(op):
            return False
        return self.has_its_turn(op, self.entered) and all(other.priority < op.priority for other in self.ready())

    @property
    def queued(self) -> list[Op]:
        return [*self.held, *(op for op in self.entered if op not in self.running)]

    # -- events --------------------------------------------------------------------------------------------

    def submit(self, op: Op) -> list[Op]:
        self.arrival[op] = len(self.arrival)
        self.held.append(op)
        return self._go_on()

    def start(self, op: Op) -> None:
        self.arrival[op] = len(self.arrival)
        self.entered.append(op)
        self.running.append(op)

    def remove(self, *ops: Op) -> list[Op]:
        """They have ended, or were withdrawn."""
        for those in (self.held, self.entered, self.running, self.charged):
            those[:] = [op for op in those if op not in ops]
        return self._go_on()

    def proceed(self, op: Op) -> list[Op]:
        """It has gone to the back of the queues of other keys."""
        for those in (self.entered, self.running, self.charged):
            those[:] = [other for other in those if other is not op]
        self.entered.append(op)
        return self._go_on()

    def _go_on(self) -> list[Op]:
        for op in list(self.held):
            first = next(other for other in self.held if other.line is op.line)
            if op is first and not self.waits_for_fence(op):
                self.held.remove(op)
                self.entered.append(op)
        chosen: list[Op] = []
        while (ready := self.ready()) and self.affords(ready[0]):
            chosen.append(ready[0])
            self.running.append(ready[0])
            self.charged.append(ready[0])
        return chosen

    def state(self, op: Op) -> State:
        if op in self.held:
            return HELD
        if op in self.running:
            return STARTED
        return READY if op in self.ready() else WAITING if op in self.entered else op.state

    def check(self, ops: Iterable[Op]) -> None:
        """Each operation is in the state that the rules give it; what is over, stays so."""
        alive = {*self.held, *self.entered}
        for op in ops:
            assert op.state is self.state(op), op
            assert op in alive or op.state in (DONE, WITHDRAWN), op
