"""Which operation may go next: plain synchronous code, without I/O, threads, loops or a clock.

Feed it an event (an operation was submitted, has finished, was withdrawn) and get back the operations to start, in
order. Four rules decide:

- per key, first come first served: a write excludes, reads between two writes overlap (`akv.lane`);
- a fence (flush, barrier, set_optimizer, ...) waits for all that its own handle submitted before, and holds back all
  that it submits after (`Line`);
- among the operations whose turn has come, the highest priority goes first, then the oldest;
- only so many operations and bytes are started at a time, so that memory is bounded and priority means something.

An operation is HELD behind a fence, then WAITING for its keys, then READY for the budget, then STARTED, then DONE; up
to READY it can be WITHDRAWN in O(1) per key. Whoever owns the scheduler calls it under one lock.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from akv.errors import QueueFull
from akv.lane import Lane
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


_MOST_SPARE = 1024


class Budget(NamedTuple):
    """How many operations and bytes may be started at a time, and how many operations may wait.

    Operations of at most `free` bytes do not count to the bytes; they still wait behind what is more urgent.
    """

    operations: int
    nbytes: int
    queued: int
    free: int = 0


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
        self._lanes: dict[Key, Lane[Op]] = {}
        self._spare: list[Lane[Op]] = []  # empty ones: to make one takes half as long as all the rest of a start
        self._ready: list[tuple[int, int, Op]] = []
        self._stale = 0  # withdrawn operations still in the heap
        self._arrivals = itertools.count()
        self._queued = 0
        self._started: dict[Op, int] = {}  # what is charged to the budget, and with how many bytes
        self._charged = 0
        self._apart = 0  # started outside the budget

    # -- events -----------------------------------------------------------------------------------------------

    def admits(self, op: Op) -> bool:
        """Whether nothing stands in the way of `op`: then it may be carried out at once, without being submitted."""
        line = op.line
        if line.fence is not None or line.held or (op.fence and line.open):
            return False
        if self._ready and -self._ready[0][0] >= op.priority:
            return False
        return not self._lanes or all(self._is_free(key, op.writes) for key in op.keys)

    def start(self, op: Op) -> None:
        """Start an operation that is admitted, outside queue and budget; it has to be finished like any other."""
        op.sequence = next(self._arrivals)
        self._apart += 1
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
            and op.keys[0] not in self._lanes
            and not (self._ready or op.fence)
            and op.nbytes <= self.budget.free
            and len(self._started) < self.budget.operations
        ):
            # A small one that nothing is in the way of, as nearly all are.
            self._take_free(op.keys[0], op.writes)
            line.open[op] = None
            self._started[op] = op.blocked = 0
            op.state = STARTED
            return [op]
        op.state = WAITING
        self._join(op)
        if op.blocked == 0 and not self._ready and self._affordable(op):
            self._take_up(op)
            return [op]
        self._queued += 1
        if op.blocked == 0:
            self._make_ready(op)
        return self._start()

    def finish(self, op: Op) -> list[Op]:
        """A started operation has ended; return what to start."""
        op.state = DONE
        self._discharge(op)
        if len(op.keys) == 1 and not (self._ready or op.fence or op.line.held):
            lane = self._lanes[op.keys[0]]
            if not lane.waiting and lane.readers <= 1:  # and so nobody's turn has come by that
                self._free(op.keys[0])
                del op.line.open[op]
                return []
        self._leave(op)
        return self._start()

    def proceed(self, op: Op, keys: Sequence[Key]) -> list[Op]:
        """A started operation gives up its keys, and will be started again with the turn of `keys`."""
        self._discharge(op)
        self._queued += 1
        self._leave_lanes(op)
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

    def _is_free(self, key: Key, writes: bool) -> bool:
        lane = self._lanes.get(key)
        return lane is None or (not lane.waiting and lane.admits(writes))

    def _enter(self, op: Op) -> None:
        op.state = WAITING
        self._join(op)
        if op.blocked == 0:
            self._make_ready(op)

    def _join(self, op: Op) -> None:
        op.line.open[op] = None
        if op.fence:
            op.line.fence = op
        lanes, blocked = self._lanes, 0
        for key in op.keys:
            lane = lanes.get(key)
            if lane is None:
                self._take_free(key, op.writes)
            elif not lane.enter(op):
                blocked += 1
        op.blocked = blocked

    def _take_free(self, key: Key, writes: bool) -> None:
        lane = self._lanes[key] = self._spare.pop() if self._spare else Lane()
        if writes:
            lane.writing = True
        else:
            lane.readers = 1

    def _free(self, key: Key) -> None:
        """Only one had the turn, who gives it up, and nobody waits."""
        lane = self._lanes.pop(key)
        lane.writing, lane.readers = False, 0
        if len(self._spare) < _MOST_SPARE:
            self._spare.append(lane)

    def _make_ready(self, op: Op) -> None:
        op.state = READY
        heapq.heappush(self._ready, (-op.priority, op.sequence, op))

    # -- the way out ------------------------------------------------------------------------------------------

    def _leave(self, op: Op) -> None:
        self._leave_lanes(op)
        op.line.open.pop(op, None)
        if op.line.fence is op:
            op.line.fence = None
        self._release(op.line)

    def _leave_lanes(self, op: Op) -> None:
        for key in op.keys:
            lane = self._lanes[key]
            if not lane.waiting and lane.readers <= 1:
                self._free(key)
                continue
            for admitted in lane.leave(op):
                admitted.blocked -= 1
                if admitted.blocked == 0:
                    self._make_ready(admitted)
            if lane.idle:
                self._free(key)

    def _take_back(self, op: Op) -> bool:
        if op.state is HELD:
            del op.line.held[op]
        elif op.state is READY:
            self._stale += 1
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
        while self._ready and self._skip_stale() and self._affordable(self._ready[0][2]):
            self._queued -= 1
            chosen.append(self._take_up(heapq.heappop(self._ready)[2]))
        return chosen

    def _take_up(self, op: Op) -> Op:
        op.state = STARTED
        self._started[op] = charge = self._charge(op)
        self._charged += charge
        return op

    def _affordable(self, op: Op) -> bool:
        # One operation may always run, however large; a smaller one never overtakes it, or it might wait for ever.
        if not self._started:
            return True
        if len(self._started) >= self.budget.operations:
            return False
        charge = self._charge(op)
        return not charge or self._charged + charge <= self.budget.nbytes

    def _discharge(self, op: Op) -> None:
        charge = self._started.pop(op, None)
        if charge is None:
            self._apart -= 1
        else:
            self._charged -= charge

    def _charge(self, op: Op) -> int:
        return op.nbytes if op.nbytes > self.budget.free else 0

    def _skip_stale(self) -> bool:
        """Drop withdrawn operations from the front (and all, when they are most of the heap); is anything ready?"""
        ready = self._ready
        if self._stale > 16 and self._stale > len(ready) // 2:
            ready[:] = [entry for entry in ready if entry[2].state is READY]
            heapq.heapify(ready)
            self._stale = 0
        while ready and ready[0][2].state is not READY:
            heapq.heappop(ready)
            self._stale -= 1
        return bool(ready)

    # -- for tests --------------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """How many operations wait for their turn."""
        return self._queued

    @property
    def idle(self) -> bool:
        return not (self._lanes or self._started or self._apart or self._queued)

    def validate(self) -> None:
        """Check the invariants; tests call it after every event."""
        ready = [entry[2] for entry in self._ready if entry[2].state is READY]
        assert len(self._ready) - len(ready) == self._stale
        assert all(op.blocked == 0 for op in ready)
        assert self._queued >= len(ready) + len({op for lane in self._lanes.values() for op in lane.waiting})
        for lane in self._lanes.values():
            assert not lane.idle
            assert not (lane.writing and lane.readers)
            assert not lane.waiting or not lane.admits(next(iter(lane.waiting)).writes)
        assert self._charged == sum(self._started.values())
        assert len([charge for charge in self._started.values() if charge]) <= 1 or self._charged <= self.budget.nbytes
        assert len(self._started) <= self.budget.operations
