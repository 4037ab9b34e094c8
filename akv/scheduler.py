"""Which operation may go next: plain synchronous code, without I/O, threads, loops or a clock.

Feed it an event (an operation was submitted, has finished, was withdrawn) and get back the operations to start, in
order. Four rules decide:

- per key, first come first served: a write excludes, reads between two writes overlap (`akv.lane`);
- a fence (flush, barrier, set_optimizer, ...) waits for all that its own handle submitted before, and holds back all
  that it submits after (`Line`);
- among the operations whose turn has come, the highest priority goes first, then the oldest (`akv.ready`);
- only so many operations and bytes are started at a time, so that memory is bounded and priority means something
  (`akv.budget`).

An operation is HELD behind a fence, then WAITING for its keys, then READY for the budget, then STARTED, then DONE; up
to READY it can be WITHDRAWN in O(1) per key. Whoever owns the scheduler calls it under one lock.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from akv.budget import Budget, Started
from akv.errors import QueueFull
from akv.lane import Lanes
from akv.ready import Ready
from akv.values.keys import Key

__all__ = ["Budget", "Line", "Schedulable", "Scheduler", "State"]


class State(enum.Enum):
    NEW = "new"
    HELD = "held"
    WAITING = "waiting"
    READY = "ready"
    STARTED = "started"
    DONE = "done"
    WITHDRAWN = "withdrawn"


# Reading a member through its class costs 60 ns on 3.11, a global 10.
NEW, HELD, WAITING, READY = State.NEW, State.HELD, State.WAITING, State.READY
STARTED, DONE, WITHDRAWN = State.STARTED, State.DONE, State.WITHDRAWN


class Schedulable(Protocol):
    """What the scheduler reads of an operation, and the three fields that it keeps there."""

    keys: Sequence[Key]
    priority: int
    nbytes: int
    line: Line
    state: State
    sequence: int
    blocked: int

    writes: ClassVar[bool]
    fence: ClassVar[bool]


Op = TypeVar("Op", bound=Schedulable)


class Line:
    """The operations of one handle, so that a fence knows what came before it.

    Attributes:
        number: different for all handles of this process.
        closed: no operation is taken any more.
    """

    __slots__ = ("closed", "fence", "held", "number", "open")
    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.number = next(self._numbers)
        self.closed = False
        self.open: dict[Any, None] = {}  # in order: a simulation has to come to the same again
        self.fence: Any = None
        self.held: OrderedDict[Any, None] = OrderedDict()


class Scheduler(Generic[Op]):
    """Decides; see the module's text. Not thread-safe: its owner holds one lock."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._lanes: Lanes[Op] = Lanes()
        self._ready: Ready[Op] = Ready()
        self._started: Started[Op] = Started(budget)
        self._arrivals = itertools.count()
        self._queued = 0

    # -- events -----------------------------------------------------------------------------------------------

    def admits(self, op: Op) -> bool:
        """Whether nothing stands in the way of `op`: then it may be carried out at once, without being submitted."""
        line = op.line
        if line.fence is not None or line.held or (op.fence and line.open):
            return False
        if self._ready and -self._ready[0][0] >= op.priority:
            return False
        return not self._lanes.taken or all(self._lanes.is_free(key, op.writes) for key in op.keys)

    def start(self, op: Op) -> None:
        """Start an operation that is admitted, outside queue and budget; it has to be finished like any other."""
        op.sequence = next(self._arrivals)
        self._started.apart += 1
        self._join(op)
        op.state = STARTED

    def submit(self, op: Op) -> list[Op]:
        """Queue `op`; return what to start.

        Raises:
            QueueFull: the bound on waiting operations is reached; nothing has changed.
        """
        if self._queued >= self.budget.queued:
            raise QueueFull(f"{self._queued} operations are waiting for their turn, the most this store allows")
        return self.admit(op)

    def admit(self, op: Op) -> list[Op]:
        """Queue `op`, which has waited elsewhere, whatever the bound says; return what to start."""
        op.sequence = next(self._arrivals)
        line = op.line
        if line.held or line.fence is not None or (op.fence and line.open):
            op.state = HELD
            line.held[op] = None
            self._queued += 1
            return []  # which has set nothing free
        if (
            len(op.keys) == 1
            and op.keys[0] not in self._lanes.taken
            and not (self._ready or op.fence)
            and op.nbytes <= self.budget.free
            and len(self._started) < self.budget.operations
        ):
            # A small one that nothing is in the way of, as nearly all are.
            self._lanes.take_free(op.keys[0], op.writes)
            line.open[op] = None
            self._started[op] = op.blocked = 0
            op.state = STARTED
            return [op]
        op.state = WAITING
        self._join(op)
        if op.blocked == 0 and not self._ready and self._started.affords(op):
            op.state = STARTED
            self._started.add(op)
            return [op]
        self._queued += 1
        if op.blocked == 0:
            self._make_ready(op)
        return self._start()

    def finish(self, op: Op) -> list[Op]:
        """A started operation has ended; return what to start."""
        op.state = DONE
        self._started.remove(op)
        if len(op.keys) == 1 and not (self._ready or op.fence or op.line.held):
            lane = self._lanes.taken[op.keys[0]]
            if not lane.waiting and lane.readers <= 1:  # and so nobody's turn has come by that
                self._lanes.free(op.keys[0])
                del op.line.open[op]
                return []
        self._leave(op)
        return self._start()

    def proceed(self, op: Op, keys: Sequence[Key]) -> list[Op]:
        """A started operation gives up its keys, and will be started again with the turn of `keys`."""
        self._started.remove(op)
        self._queued += 1
        for unblocked in self._lanes.leave(op):
            self._make_ready(unblocked)
        op.keys = keys
        self._enter(op)
        return self._start()

    def withdraw(self, op: Op) -> list[Op] | None:
        """Take a queued operation back; return what to start, or None when it has started (or ended) already."""
        return self._start() if self._take_back(op) else None

    def withdraw_all(self, line: Line) -> tuple[list[Op], list[Op]]:
        """Take back all that is queued on `line`, before anything else moves up; return what was, and what to start."""
        withdrawn = [op for op in [*line.held, *line.open] if self._take_back(op)]
        return withdrawn, self._start()

    # -- the way to READY -------------------------------------------------------------------------------------

    def _enter(self, op: Op) -> None:
        op.state = WAITING
        self._join(op)
        if op.blocked == 0:
            self._make_ready(op)

    def _join(self, op: Op) -> None:
        op.line.open[op] = None
        if op.fence:
            op.line.fence = op
        self._lanes.enter(op)

    def _make_ready(self, op: Op) -> None:
        op.state = READY
        heapq.heappush(self._ready, (-op.priority, op.sequence, op))

    # -- the way out ------------------------------------------------------------------------------------------

    def _leave(self, op: Op) -> None:
        for unblocked in self._lanes.leave(op):
            self._make_ready(unblocked)
        op.line.open.pop(op, None)
        if op.line.fence is op:
            op.line.fence = None
        self._release(op.line)

    def _take_back(self, op: Op) -> bool:
        if op.state is HELD:
            del op.line.held[op]
        elif op.state is READY:
            self._ready.withdrawn.add(op)
        elif op.state is not WAITING:
            return False
        was_held, op.state = op.state is HELD, WITHDRAWN
        self._queued -= 1
        if was_held:
            self._release(op.line)
        else:
            self._leave(op)
        return True

    def _release(self, line: Line) -> None:
        """Let in what a fence held back, up to the next fence."""
        while line.held and line.fence is None:
            op = next(iter(line.held))
            if op.fence and line.open:
                return
            del line.held[op]
            self._enter(op)

    # -- READY to STARTED -------------------------------------------------------------------------------------

    def _start(self) -> list[Op]:
        chosen: list[Op] = []
        while self._ready and (op := self._ready.first()) is not None and self._started.affords(op):
            heapq.heappop(self._ready)
            self._queued -= 1
            op.state = STARTED
            self._started.add(op)
            chosen.append(op)
        return chosen

    # -- what there is ----------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """How many operations wait for their turn."""
        return self._queued

    @property
    def idle(self) -> bool:
        return not (self._lanes.taken or self._started or self._started.apart or self._queued)

    def validate(self) -> None:
        """Check the invariants; tests call it after every event."""
        for part in (self._lanes, self._ready, self._started):
            part.validate()
        ready = [entry[2] for entry in self._ready if entry[2].state is READY]
        assert len(self._ready) - len(ready) == len(self._ready.withdrawn)
        assert all(op.blocked == 0 for op in ready)
        assert self._queued >= len(ready) + len({op for lane in self._lanes.taken.values() for op in lane.waiting})
