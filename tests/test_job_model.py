"""The rules of a job against independent models; and planted bugs, each of which the models have to find."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from job_models import FreeMachine, Machine, SyncMachine

from akv.job import Job
from akv.job.clocks import FreeTrack
from akv.job.rounds import SyncTrack
from akv.job.track import Round, Track
from akv.job.waiting import Waiter
from akv.values.keys import Key

ORDINARY = settings(max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
# A planted bug is to be found, not to be made small.
HUNT = settings(ORDINARY, max_examples=400, derandomize=True, database=None, phases=[Phase.generate])


@pytest.mark.parametrize("machine", [SyncMachine, FreeMachine])
def test_the_job_does_what_the_model_does(machine: type[Machine]) -> None:
    run_state_machine_as_test(machine, settings=ORDINARY)


class _Requests(SyncTrack):
    """As in MXNet: as many requests as there are workers make a round, whoever sent them."""

    def push(self, waiter: Waiter, contribution: Any) -> bool:
        if self.rounds and not self.rounds[0].folding:
            head = self.rounds[0]
            head.contributions[next(rank for rank in range(99) if rank not in head.contributions)] = contribution
            self._waitlist.answer(waiter, self.version + 1)
            self.advance()
            return True
        return super().push(waiter, contribution)


class RoundCountsRequests(Job):
    def _new_track(self, key: Key) -> Track:
        return _Requests(key, self.settings, self._limits, self.members, self._waitlist)


class _Eager(SyncTrack):
    def joined(self, rank: int, fresh: bool, late: bool) -> None:
        super().joined(rank, fresh, late)
        if self.rounds and not self.rounds[0].folding and self.rounds[0].members is not None:
            self.rounds[0].members.add(rank)


class LateJoinerCounted(Job):
    def _new_track(self, key: Key) -> Track:
        return _Eager(key, self.settings, self._limits, self.members, self._waitlist)


class _Hasty(FreeTrack):
    def push(self, waiter: Waiter, contribution: Any) -> bool:
        taken = super().push(waiter, contribution)
        for round_ in self.rounds:
            if round_.push is waiter:
                self._waitlist.answer(waiter, self.version + 1)
                round_.push = None
        return taken

    def validate(self) -> None: ...


class AnswerBeforeApply(Job):
    def _new_track(self, key: Key) -> Track:
        return _Hasty(key, self.settings, self._limits, self.members, self._waitlist)


class _Revoking(FreeTrack):
    def _queue_of(self, round_: Round) -> deque[Round] | None:
        return super()._queue_of(round_) or (self.rounds if round_ in self.rounds and not round_.folding else None)


class AcceptedTakenBack(Job):
    def _new_track(self, key: Key) -> Track:
        return _Revoking(key, self.settings, self._limits, self.members, self._waitlist)


class PartCounts(Job):
    """What a lost worker has given is taken out of the round that goes on."""

    def _new_track(self, key: Key) -> Track:
        class Leaky(SyncTrack):
            def gone(self, rank: int) -> None:
                if self.rounds and not self.rounds[0].folding:
                    self.rounds[0].contributions.pop(rank, None)
                super().gone(rank)

        return Leaky(key, self.settings, self._limits, self.members, self._waitlist)


@pytest.mark.parametrize(
    ("machine", "mutant"),
    [
        (SyncMachine, RoundCountsRequests),
        (SyncMachine, LateJoinerCounted),
        (SyncMachine, PartCounts),
        (FreeMachine, AnswerBeforeApply),
        (FreeMachine, AcceptedTakenBack),
    ],
)
def test_planted_bugs_are_found(machine: type[Machine], mutant: type[Job]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(lambda: machine(mutant), settings=HUNT)
