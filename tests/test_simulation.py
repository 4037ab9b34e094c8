"""A server and its clients on a simulated network: whatever happens, they see what they may.

A failure names its seed, and `AKV_SEED=17 python -m pytest tests/test_simulation.py` runs that one again,
always the same way. `AKV_SEEDS=5000` runs so many of each kind.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from simulation.history import Call
from simulation.plan import Plan
from simulation.world import World, run

SEED, NUMBER = os.environ.get("AKV_SEED"), int(os.environ.get("AKV_SEEDS", "80"))
SEEDS = [int(SEED)] if SEED else range(NUMBER)


@pytest.mark.parametrize("seed", SEEDS)
def test_clients_whose_pushes_are_applied_one_by_one(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_workers_of_a_job(seed: int) -> None:
    run(seed, job=True)


def calm(plan: Plan) -> None:
    plan.faults, plan.timeouts = (), (None,)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_fails_where_no_harm_is_done(seed: int) -> None:
    """But who reads a key that was deleted is told so, and who waits for a version waits until the handle is closed."""
    for call in run(seed, calm).history.calls:
        by_itself = call.cancelled or call.min_version or call.verb in ("init", "watch") or Plan.passing in call.keys
        assert call.error is None or by_itself, f"{call}: {call.error!r}"


# -- that the simulation is one -------------------------------------------------------------------------------

_DIGESTS = """
import sys
sys.path[:0] = sys.argv[1:]
from simulation.world import run
print(*[run(seed, job=job).trace.digest for seed in range(4) for job in (False, True)])
"""


def test_a_seed_is_one_course_of_events() -> None:
    """Also in another process, where hashes and addresses differ."""
    here = [run(seed, job=job).trace.digest for seed in range(4) for job in (False, True)]
    assert len(set(here)) == 8
    command = [sys.executable, "-c", _DIGESTS, *sys.path]
    environment = {**os.environ, "PYTHONHASHSEED": "1234"}
    there = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert there.stdout.split() == here


def calls_of(worlds: list[World]) -> list[Call]:
    return [call for world in worlds for call in world.history.calls]


def errors_in(calls: list[Call]) -> set[str]:
    return {type(call.error).__name__ for call in calls if call.error is not None}


def test_harm_is_done_and_survived() -> None:
    worlds = [run(seed) for seed in range(15)]
    calls = calls_of(worlds)
    assert {"ConnectionLost", "SessionExpired", "AkvTimeout", "CancelledError", "KeyNotFound"} <= errors_in(calls)
    assert sum(call.fine for call in calls) > 0.6 * len(calls)
    assert sum(world.network.connections for world in worlds) > 5 * len(worlds)


def test_workers_are_lost_and_work_goes_on() -> None:
    calls = calls_of([run(seed, job=True) for seed in range(15)])
    assert {"WorkerLost", "AkvTimeout", "CancelledError"} <= errors_in(calls)
    assert sum(call.fine for call in calls) > 0.8 * len(calls)
