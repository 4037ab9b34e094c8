"""Optimizers in checkpoints: whoever goes on from one gets what uninterrupted training gets, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import FACES, FLOATS, URLS, contents, exactly, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import akv
from akv import optim, sync

SCHEDULE = optim.CosineScheduler(max_update=6, base_lr=0.3, final_lr=0.01)
OPTIMIZERS = [
    optim.SGD(learning_rate=0.1),
    optim.SGD(learning_rate=0.1, momentum=0.9, wd=0.01, lr_mult={"w": 0.5}),
    optim.SGD(momentum=0.9, multi_precision=True, lr_scheduler=SCHEDULE),
    optim.NAG(momentum=0.9),
    optim.Adam(),
    optim.Adam(multi_precision=True, lr_scheduler=SCHEDULE, wd_mult={"w": 2.0, "b": 0.0}),
    optim.AdamW(wd=0.1),
    optim.AdaGrad(),
    optim.RMSProp(centered=True),
    optim.AdaDelta(),
    optim.Ftrl(),
    optim.Signum(momentum=0.9),
    optim.LAMB(),
    optim.LARS(momentum=0.9),
]
ids = [f"{number}-{each.name}" for number, each in enumerate(OPTIMIZERS)]


def weights(dtype: Any) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    return {"w": generator.standard_normal((3, 4)).astype(dtype), "b": generator.standard_normal(4).astype(dtype)}


def train(kv: sync.KVStore, dtype: Any, steps: range) -> None:
    for step in steps:
        generator = np.random.default_rng(step)
        for key, shape in (("w", (3, 4)), ("b", (4,))):
            kv.push(key, generator.standard_normal(shape).astype(dtype))
        rows = akv.RowSparse([step % 3], generator.standard_normal((1, 4)).astype(dtype), (3, 4))
        kv.push("w", rows)
        if step == 3:
            kv.set_learning_rate(0.05)


# How a simple storage keeps states has nothing to do with their dtype.
@pytest.mark.parametrize(
    ("dtype", "url"), [*((dtype, URLS[0]) for dtype in FLOATS), (np.dtype(np.float16), URLS[1])], ids=str
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=ids)
def test_training_goes_on_where_it_was(url: str, dtype: Any, optimizer: optim.Optimizer, tmp_path: Path) -> None:
    for before in (0, 2, 5):
        with sync.connect(url) as first, sync.connect(url) as second:
            first.init(list(weights(dtype)), list(weights(dtype).values()))
            first.set_optimizer(optimizer)
            train(first, dtype, range(before))
            first.save(tmp_path / "ck")
            second.load(tmp_path / "ck")
            for kv in (first, second):
                train(kv, dtype, range(before, 8))
            assert contents(first) == contents(second)


@pytest.mark.parametrize("url", URLS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.integers(0, 6),
    optimizer=st.sampled_from(OPTIMIZERS),
    dtype=st.sampled_from(FLOATS),
    shape=st.sampled_from([(), (0,), (1,), (2, 3)]),
    states_only=st.booleans(),
)
def test_values_and_states_may_be_kept_apart(
    url: str,
    tmp_path: Path,
    steps: int,
    optimizer: optim.Optimizer,
    dtype: Any,
    shape: tuple[int, ...],
    states_only: bool,
) -> None:
    gradients = [np.full(shape, step / 8).astype(dtype) for step in range(steps + 3)]
    with sync.connect(url) as first, sync.connect(url) as second:
        first.init(7, np.ones(shape).astype(dtype))
        first.set_optimizer(optimizer)
        for gradient in gradients[:steps]:
            first.push(7, gradient)
        second.init(7, first.pull(7))
        (first.save_optimizer_states if states_only else first.save)(tmp_path / "ck")
        second.load_optimizer_states(tmp_path / "ck")
        assert second.info(7).version == 1
        for gradient in gradients[steps:]:
            exactly(
                first.pushpull(7, gradient, np.empty_like(gradient)),
                second.pushpull(7, gradient, np.empty_like(gradient)),
            )


@pytest.mark.parametrize("face", FACES)
async def test_the_verbs_of_optimizer_states_through_both_faces(face: str, tmp_path: Path) -> None:
    async with opened(face) as kv, opened(face) as other:
        await kv.init("w", np.ones(3))
        await kv.set_optimizer(optim.Adam())
        await kv.push("w", np.ones(3))
        assert await kv.save_optimizer_states(tmp_path / "ck") is None
        await other.init("w", await kv.pull("w"))
        assert await other.load_optimizer_states(tmp_path / "ck") is None
        for each in (kv, other):
            await each.push("w", np.ones(3))
        exactly(await kv.pull("w"), await other.pull("w"))


@pytest.mark.parametrize("url", URLS)
def test_a_live_rate_is_kept(url: str, tmp_path: Path) -> None:
    with sync.connect(url) as first, sync.connect(url) as second:
        first.init("w", np.ones(3))
        first.set_optimizer(optim.SGD(learning_rate=0.5))
        first.set_learning_rate(0.25)
        first.save(tmp_path / "ck")
        second.load(tmp_path / "ck")
        second.push("w", np.ones(3))
        exactly(second.pull("w"), np.full(3, 0.75))


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("verb", ["load", "load_optimizer_states"])
@pytest.mark.parametrize("current", [optim.SGD(learning_rate=0.2), "add", lambda key, pushed, stored: None], ids=str)
def test_another_updater_is_a_conflict_and_nothing_changes(url: str, verb: str, current: Any, tmp_path: Path) -> None:
    with sync.connect(url) as first, sync.connect(url) as second:
        first.init("w", np.ones(3))
        first.set_optimizer(optim.SGD(learning_rate=0.1))
        first.save(tmp_path / "ck")
        second.init("w", np.zeros(3))
        (second.set_optimizer if isinstance(current, optim.Optimizer) else second.set_updater)(current)
        before = contents(second)
        with pytest.raises(akv.UpdaterConflict, match="set_updater"):
            getattr(second, verb)(tmp_path / "ck")
        assert contents(second) == before
        second.set_updater("assign")
        second.load(tmp_path / "ck")
        second.set_optimizer(optim.SGD(learning_rate=0.1))


@pytest.mark.parametrize("url", URLS)
def test_values_without_states_begin_anew(url: str, tmp_path: Path) -> None:
    optimizer = optim.SGD(momentum=0.9, multi_precision=True)
    start, gradient = np.ones(3, np.float16), np.full(3, 0.5, np.float16)
    with sync.connect(url) as plain, sync.connect(url) as trained, sync.connect(url) as fresh:
        plain.init("w", start)
        plain.save(tmp_path / "ck")
        for kv in (trained, fresh):
            kv.init("w", start)
            kv.set_optimizer(optimizer)
        trained.push("w", gradient)
        trained.load(tmp_path / "ck")
        # Neither the momentum nor the float32 copy of other weights may be at work.
        for kv in (trained, fresh):
            kv.push("w", gradient)
        exactly(trained.pull("w"), fresh.pull("w"))


@pytest.mark.parametrize("url", URLS)
def test_updaters_by_name_are_kept_and_functions_are_the_users(url: str, tmp_path: Path) -> None:
    def double(key: Any, pushed: Any, stored: np.ndarray) -> None:
        stored *= 2

    for updater, pushed in (("add", 3.0), ("assign", 2.0), (double, 2.0)):
        with sync.connect(url) as first, sync.connect(url) as second:
            first.init("w", np.ones(2))
            first.set_updater(updater)
            first.save(tmp_path / "ck")
            second.load(tmp_path / "ck")
            second.push("w", np.full(2, 2.0))
            exactly(second.pull("w"), np.full(2, pushed))


@pytest.mark.parametrize("url", URLS)
def test_there_have_to_be_states_and_values_for_them(url: str, tmp_path: Path) -> None:
    with sync.connect(url) as first, sync.connect(url) as second:
        first.init("w", np.ones(2))
        with pytest.raises(akv.InvalidArgument, match="set_optimizer"):
            first.save_optimizer_states(tmp_path / "ck")
        assert not (tmp_path / "ck").exists()
        first.save(tmp_path / "values")
        with pytest.raises(akv.InvalidArgument, match="no optimizer"):
            second.load_optimizer_states(tmp_path / "values")
        first.set_optimizer(optim.SGD(momentum=0.9))
        first.push("w", np.ones(2))
        first.save_optimizer_states(tmp_path / "ck")
        with pytest.raises(akv.KeyNotFound, match="'w'"):
            second.load_optimizer_states(tmp_path / "ck")
        with pytest.raises(akv.InvalidArgument, match="load_optimizer_states"):
            second.load(tmp_path / "ck")
        second.init("w", np.ones(3))
        with pytest.raises(akv.ShapeMismatch):
            second.load_optimizer_states(tmp_path / "ck")
        second.set_optimizer(optim.Adam())  # no trace of the other one
