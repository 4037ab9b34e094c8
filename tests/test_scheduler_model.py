"""Any sequence of events: the scheduler decides what the four rules say, and no operation is ever left behind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scheduler_cases import Model, Op, is_empty

from akv.errors import QueueFull
from akv.scheduler import DONE, NEW, WITHDRAWN, Budget, Line, Scheduler

KEYS = st.lists(st.sampled_from("ab"), max_size=2, unique=True)


@st.composite
def descriptions(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "line": draw(st.integers(0, 2)),
        "keys": draw(KEYS),
        "writes": draw(st.booleans()),
        "fence": draw(st.sampled_from([False, False, False, True])),
        "priority": draw(st.integers(-1, 1)),
        "nbytes": draw(st.integers(0, 14)),
    }


class Scheduling(RuleBasedStateMachine):
    """Events in any order; after each the scheduler and the model agree on what starts, and on all states."""

    @initialize(budget=st.builds(Budget, st.integers(1, 4), st.integers(1, 12), st.integers(1, 12), st.integers(0, 4)))
    def open(self, budget: Budget) -> None:
        self.lines = [Line() for _ in range(3)]
        self.scheduler = Scheduler[Op](budget)
        self.model = Model(self.scheduler.budget)
        self.all: list[Op] = []

    def make(self, line: int, keys: list[str], **settings: Any) -> Op:
        return Op(self.lines[line], *keys, **settings)

    @rule(description=descriptions())
    def submit(self, description: dict[str, Any]) -> None:
        op = self.make(**description)
        if len(self.model.queued) >= self.scheduler.budget.queued:
            with pytest.raises(QueueFull, match=str(len(self.model.queued))):
                self.scheduler.submit(op)
            assert op.state is NEW
        else:
            self.all.append(op)
            assert self.scheduler.submit(op) == self.model.submit(op)

    @rule(description=descriptions())
    def admit(self, description: dict[str, Any]) -> None:
        op = self.make(**description)
        self.all.append(op)
        assert self.scheduler.admit(op) == self.model.submit(op)

    @rule(description=descriptions())
    def start_at_once_where_nothing_is_in_the_way(self, description: dict[str, Any]) -> None:
        op = self.make(**description)
        admitted = self.model.admits(op)
        assert self.scheduler.admits(op) is admitted
        if admitted:
            self.all.append(op)
            self.scheduler.start(op)
            self.model.start(op)

    @precondition(lambda self: self.model.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        op = data.draw(st.sampled_from(self.model.running), "op")
        assert self.scheduler.finish(op) == self.model.remove(op)
        assert op.state is DONE

    @precondition(lambda self: self.model.running)
    @rule(data=st.data(), keys=KEYS)
    def proceed(self, data: st.DataObject, keys: list[str]) -> None:
        op = data.draw(st.sampled_from(self.model.running), "op")
        assert self.scheduler.proceed(op, keys) == self.model.proceed(op)
        assert op.keys == keys

    @precondition(lambda self: self.model.queued)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        op = data.draw(st.sampled_from(self.model.queued), "op")
        assert self.scheduler.withdraw(op) == self.model.remove(op)
        assert op.state is WITHDRAWN

    @rule(line=st.integers(0, 2))
    def withdraw_all(self, line: int) -> None:
        expected = [op for op in self.model.queued if op.line is self.lines[line]]
        withdrawn, started = self.scheduler.withdraw_all(self.lines[line])
        assert set(withdrawn) == set(expected)
        assert started == self.model.remove(*expected)
        assert all(op.state is WITHDRAWN for op in withdrawn)

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def withdraw_too_late(self, data: st.DataObject) -> None:
        op = data.draw(st.sampled_from(self.all), "op")
        if op not in self.model.queued:
            assert self.scheduler.withdraw(op) is None

    @invariant()
    def the_rules_hold(self) -> None:
        self.scheduler.validate()
        self.model.check(self.all)
        assert self.scheduler.queued == len(self.model.queued)

    @invariant()
    def something_runs_while_anything_waits(self) -> None:
        assert self.model.running or not self.model.queued

    def teardown(self) -> None:
        """Whatever state this ends in, finishing what runs brings everything to its end, and leaves nothing behind."""
        if not hasattr(self, "scheduler"):
            return
        while self.model.running:
            op = self.model.running[-1]
            assert self.scheduler.finish(op) == self.model.remove(op)
            self.scheduler.validate()
        assert self.scheduler.idle
        assert {op.state for op in self.all} <= {DONE, WITHDRAWN}
        assert all(map(is_empty, self.lines))


Scheduling.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, phases=[Phase.generate, Phase.shrink]
)
TestScheduling = Scheduling.TestCase
