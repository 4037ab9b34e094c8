"""Learning-rate schedules: MXNet 1.9.1's numbers, their shape, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akv import optim
from akv.errors import InvalidArgument
from akv.optim.schedules import as_schedule

# The rates for updates 1..12, printed by mx.lr_scheduler of MXNet 1.9.1.
RUNS: list[tuple[optim.LRScheduler, list[float]]] = [
    (
        optim.FactorScheduler(step=3, factor=0.5, base_lr=0.4),
        [0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05],
    ),
    (
        optim.FactorScheduler(
            step=2, factor=0.1, base_lr=0.4, stop_factor_lr=0.001, warmup_steps=5, warmup_begin_lr=0.1
        ),
        [0.16, 0.22, 0.28, 0.34, 0.004, 0.004, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001],
    ),
    (
        optim.MultiFactorScheduler(
            step=[3, 7, 8], factor=0.5, base_lr=0.4, warmup_steps=4, warmup_mode="constant", warmup_begin_lr=0.02
        ),
        [0.02, 0.02, 0.02, 0.2, 0.2, 0.2, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05],
    ),
    (
        optim.PolyScheduler(max_update=10, base_lr=0.4, pwr=3, final_lr=0.01, warmup_steps=3),
        [0.133333, 0.266667, 0.4, 0.255598, 0.152128, 0.0827697, 0.0406997, 0.0190962, 0.011137, 0.01, 0.01, 0.01],
    ),
    (
        optim.CosineScheduler(max_update=10, base_lr=0.4, final_lr=0.01, warmup_steps=3, warmup_begin_lr=0.1),
        [0.2, 0.3, 0.4, 0.380689, 0.326581, 0.248392, 0.161608, 0.0834195, 0.0293111, 0.01, 0.01, 0.01],
    ),
    (
        optim.CosineScheduler(max_update=9),
        [0.00969846, 0.00883022, 0.0075, 0.00586824, 0.00413176, 0.0025, 0.00116978, 0.000301537, 0.0, 0.0, 0.0, 0.0],
    ),
]
SCHEDULES = [run[0] for run in RUNS]


@pytest.mark.parametrize(("schedule", "rates"), RUNS, ids=[f"{run[0].name}-{i}" for i, run in enumerate(RUNS)])
def test_it_gives_mxnets_rates(schedule: optim.LRScheduler, rates: list[float]) -> None:
    assert [schedule.rate(update) for update in range(1, 13)] == pytest.approx(rates, rel=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@given(updates=st.lists(st.integers(1, 10**7), min_size=2, max_size=2))
def test_the_rate_depends_on_nothing_but_the_update_and_does_not_rise(
    schedule: optim.LRScheduler, updates: list[int]
) -> None:
    early, late = sorted(max(update, schedule.warmup_steps) for update in updates)
    assert schedule.rate(late) <= schedule.rate(early) * (1 + 1e-12)
    assert schedule.rate(early) == schedule.rate(early)
    assert schedule.rate(late) >= 0


@given(steps=st.integers(1, 1000), begin=st.floats(0, 0.5), base=st.floats(0.5, 2))
def test_a_linear_warm_up_ends_at_the_base_rate(steps: int, begin: float, base: float) -> None:
    schedule = optim.FactorScheduler(step=10**9, base_lr=base, warmup_steps=steps, warmup_begin_lr=begin)
    rates = [schedule.rate(update) for update in range(steps + 1)]
    assert rates == sorted(rates)
    assert rates[0] == begin
    assert rates[-1] == base


def test_another_base_takes_the_place_of_base_lr() -> None:
    schedule = optim.PolyScheduler(max_update=10, base_lr=0.1)
    assert schedule.rate(5, base=1.0) == pytest.approx(10 * schedule.rate(5))


def test_a_decay_stays_at_its_end() -> None:
    assert optim.CosineScheduler(max_update=10, final_lr=0.001).rate(10**9) == pytest.approx(0.001)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_a_description_travels(schedule: optim.LRScheduler) -> None:
    assert as_schedule("SGD", "lr_scheduler", schedule.to_dict()) == schedule


@pytest.mark.parametrize(
    ("description", "text"),
    [
        ({}, "no schedule None; known are factor, multifactor, poly, cosine"),
        ({"name": "factor"}, "schedule 'factor': .*'step'"),
        ({"name": "factor", "step": 0}, r"FactorScheduler: step=0 is outside \[1, inf\)"),
        ({"name": "factor", "step": 2.0}, "FactorScheduler: step=2.0 is not a whole number"),
        ({"name": "factor", "step": True}, "FactorScheduler: step=True is not a whole number"),
        ({"name": "factor", "step": 2, "factor": 1.5}, r"FactorScheduler: factor=1.5 is outside \(0, 1\]"),
        ({"name": "factor", "steps": 2}, "schedule 'factor' has no parameter steps; it has base_lr, .*step"),
        ({"name": "factor", "step": 2, "warmup_mode": "cubic"}, "'cubic' is neither 'linear' nor 'constant'"),
        ({"name": "factor", "step": 2, "warmup_steps": -1}, r"warmup_steps=-1 is outside \[0, inf\)"),
        ({"name": "factor", "step": 2, "warmup_begin_lr": 1}, "warmup_begin_lr=1.0 exceeds base_lr=0.01"),
        ({"name": "multifactor", "step": 3}, "step=3 is not a list of update counts"),
        ({"name": "multifactor", "step": []}, r"step=\[\] is not a list of update counts"),
        ({"name": "multifactor", "step": [3, 3]}, r"step=\[3, 3\] does not increase"),
        ({"name": "poly", "max_update": 5, "warmup_steps": 5}, "max_update=5 must exceed warmup_steps=5"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused(description: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        as_schedule("SGD", "lr_scheduler", description)
