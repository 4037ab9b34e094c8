"""memory://name?workers=n: several workers of one process, with real rounds, through both faces."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest
from worker_laws import WorkerLaws, names

import akv
from akv import sync
from akv.job import agenda, local
from akv.job.local import LocalJob


class TestMemoryWorkers(WorkerLaws):
    kind = "memory"
    worker_timeout = 0.02
    short = 0.05

    def url(self, options: str, on_nonfinite: str = "allow") -> str:
        return f"memory://{next(names)}?{options}&on_nonfinite={on_nonfinite}"


class TestHandedOver(TestMemoryWorkers):
    """Whatever a call would do for others, and with more than one key, a thread of the job does instead."""

    loops = ("asyncio",)

    @pytest.fixture(autouse=True)
    def _little_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(agenda, "_TURN", 0.0)
        monkeypatch.setattr(local, "_FEW", 1)


async def test_a_store_of_its_own_is_no_job() -> None:
    async with akv.connect("memory://") as kv:
        assert not kv.is_capable("collective")


def test_the_environment_is_for_jobs_on_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORKERS", "4"), ("RANK", "3"), ("CONSISTENCY", "ssp"), ("ROLE", "reader")):
        monkeypatch.setenv(f"AKV_{name}", value)
    with sync.connect("memory://") as kv, sync.create("local") as local:
        assert (kv.num_workers, local.num_workers, local.rank) == (1, 1, 0)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("memory://?workers=2", {}),
        ("memory://{name}", {}),
        ("memory://{name}?workers=3", {}),
        ("memory://{name}?workers=2&consistency=async", {}),
        ("memory://{name}?workers=2&consistency=bsp", {}),
        ("memory://{name}?workers=2&staleness=-1", {}),
        ("memory://{name}?workers=2&rank=7", {}),
        ("memory://{name}?workers=2", {"role": "reader", "rank": 1}),
        ("memory://{plain}?workers=2", {}),
        ("memory://?consistency=async", {}),
    ],
)
def test_options_that_do_not_fit(url: str, options: dict[str, Any]) -> None:
    job, plain = next(names), next(names)
    with (
        sync.connect(f"memory://{job}?workers=2&rank=0"),
        sync.connect(f"memory://{plain}"),
        pytest.raises(akv.InvalidArgument),
    ):
        sync.connect(url.format(name=job, plain=plain), **options)


async def test_an_updaters_exception_reaches_all_who_have_pushed() -> None:
    def fails(key: Any, pushed: Any, stored: np.ndarray) -> None:
        raise ZeroDivisionError("of the updater")

    url = f"memory://{next(names)}?workers=2&timeout=20"
    async with akv.connect(url) as first, akv.connect(url) as second:
        await first.init("w", np.zeros(2))
        await first.set_updater(fails)
        await first.push("w", np.ones(2))
        await second.push("w", np.ones(2))
        for kv in (first, second):
            with pytest.raises(ZeroDivisionError):
                await kv.pull("w")
            assert ((await kv.pull("w")) == 0).all()


@pytest.mark.parametrize(("policy", "lost"), [("abort", True), ("drop", False)])
async def test_a_handle_that_nothing_refers_to_any_more_is_lost(policy: str, lost: bool) -> None:
    url = f"memory://{next(names)}?workers=2&worker_timeout=0.05&timeout=20&on_worker_loss={policy}"
    async with akv.connect(url) as kv:
        other = await akv.connect(url)
        await kv.init("w", np.zeros(1))
        await kv.push("w", np.ones(1))
        pull = kv.pull("w")
        del other
        gc.collect()
        if lost:
            with pytest.raises(akv.WorkerLost):
                await pull
        else:
            assert (await pull)[0] == 1


@pytest.mark.parametrize("policy", ["abort", "drop"])
async def test_who_is_refused_takes_nobodys_place(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{next(names)}?workers=2&on_worker_loss={policy}&timeout=20"
    async with akv.connect(url, rank=0) as first, akv.connect(url, rank=1) as second:
        await first.init("w", np.zeros(2))
        await first.push("w", np.ones(2))
        pull = first.pull("w")
        monkeypatch.setattr(second.engine.backend, "attached", lambda: False)  # it may come back
        for wrong in ({"staleness": 2}, {"role": "reader"}):
            with pytest.raises(akv.InvalidArgument):
                await akv.connect(url, rank=1, **wrong)
        await second.push("w", np.ones(2))
        assert ((await pull) == 2).all()


async def test_a_refusal_keeps_nobody_from_hearing_of_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalJob, "tick", lambda job: None)  # only who joins looks at the time
    url = f"memory://{next(names)}?workers=2&worker_timeout=0.05&timeout=20"
    async with akv.connect(url, rank=0) as kv:
        other = await akv.connect(url, rank=1)
        await kv.init("w", np.zeros(1))
        await kv.push("w", np.ones(1))
        pull = kv.pull("w")
        del other
        gc.collect()
        async with asyncio.timeout(10):
            while not pull.done():
                with pytest.raises(akv.InvalidArgument, match="rank"):
                    await akv.connect(url, rank=0)
                await asyncio.sleep(0.01)
        with pytest.raises(akv.WorkerLost):
            await pull
