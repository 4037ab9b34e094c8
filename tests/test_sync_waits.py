"""How the waits of the blocking face end: by a time-out, with room in the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from store_cases import PATIENCE, ones
from sync_cases import begin, jammed, parked, queued, until

import akv
from akv import blocking, sync

VERBS: dict[str, Callable[[sync.KVStore, float], object]] = {
    "init": lambda kv, timeout: kv.init("new", ones(), timeout=timeout),
    "push": lambda kv, timeout: kv.push("a", ones(), timeout=timeout),
    "pull": lambda kv, timeout: kv.pull("a", timeout=timeout),
    "pushpull": lambda kv, timeout: kv.pushpull("a", ones(), timeout=timeout),
    "broadcast": lambda kv, timeout: kv.broadcast("new", ones(), timeout=timeout),
    "row_sparse_pull": lambda kv, timeout: kv.row_sparse_pull("a", row_ids=[0], timeout=timeout),
    "snapshot": lambda kv, timeout: kv.snapshot("a", timeout=timeout),
    "wait_version": lambda kv, timeout: kv.wait_version("a", 9, timeout=timeout),
    "watch": lambda kv, timeout: next(kv.watch("new", timeout=timeout)),
    "info": lambda kv, timeout: kv.info("a", timeout=timeout),
    "delete": lambda kv, timeout: kv.delete("a", timeout=timeout),
    "set_updater": lambda kv, timeout: kv.set_updater("add", timeout=timeout),
    "set_optimizer": lambda kv, timeout: kv.set_optimizer(akv.optim.SGD(), timeout=timeout),
    "set_learning_rate": lambda kv, timeout: kv.set_learning_rate(0.1, timeout=timeout),
    "keys": lambda kv, timeout: kv.keys(timeout=timeout),
    "barrier": lambda kv, timeout: kv.barrier(timeout=timeout),
    "flush": lambda kv, timeout: kv.flush(timeout=timeout),
}
STORE_WIDE = ("set_updater", "set_optimizer", "set_learning_rate", "keys", "barrier", "flush")


class TestTimeout:
    @pytest.mark.parametrize("verb", VERBS)
    def test_of_each_verb(self, verb: str) -> None:
        """It names the key and the seconds; and nothing has happened."""
        with jammed() as (kv, gate):
            with pytest.raises(akv.AkvTimeout, match=r"0\.003 s") as caught:
                VERBS[verb](kv, 0.003)
            name = {"watch": "wait_version"}.get(verb, verb)
            assert name in str(caught.value)
            assert verb in STORE_WIDE or "'a'" in str(caught.value) or "'new'" in str(caught.value)
            gate.open()
            kv.flush()
            assert set(kv.keys()) == {*gate.gates, "gate", *"abc"}
            assert kv.info("a").version == 1
            kv.push("a", ones())
            assert gate.seen[-1] == "a"

    def test_of_the_store(self) -> None:
        with jammed() as (_, gate), sync.connect("memory://", timeout=0.003) as kv:
            gate.open()
            kv.init("w", ones())
            with pytest.raises(akv.AkvTimeout, match=r"version 7, 'w' is at version 1"):
                kv.wait_version("w", 7)
            waiting = begin(kv.wait_version, "w", 2, timeout=PATIENCE)
            until(lambda: parked(kv))
            kv.push("w", ones())
            assert waiting.result(PATIENCE) == 2

    def test_what_has_started_is_waited_for(self) -> None:
        """It still uses the caller's arrays; so the call ends with its outcome, a little late."""
        with jammed() as (kv, gate):
            gate.open()
            kv.flush()
            pushing = begin(kv.push, "gate", ones(), timeout=0.5)
            until(lambda: "gate" in gate.arrived)
            until(lambda: any(op.cancelled for op in kv._line.open))
            assert not pushing.done()
            gate.open("gate")
            assert pushing.result(PATIENCE) == 2

    def test_none_at_all(self) -> None:
        with sync.create() as kv:
            kv.init("w", ones())
            assert kv.wait_version("w", 1, timeout=0) == 1
            with pytest.raises(akv.AkvTimeout, match="within 0 s"):
                kv.wait_version("w", 2, timeout=0)

    @pytest.mark.parametrize("timeout", [-1, float("nan"), "1", [], 1j])
    def test_what_is_no_timeout(self, timeout: Any) -> None:
        with sync.create() as kv:
            with pytest.raises(akv.InvalidArgument, match="seconds"):
                kv.wait_version("w", 1, timeout=timeout)
            assert not parked(kv)

    @pytest.mark.parametrize("timeout", [1e300, float("inf"), np.float32(50), 10**30])
    def test_any_number_of_seconds(self, timeout: Any) -> None:
        with sync.connect("memory://", timeout=1e300) as kv:
            kv.init("w", ones())
            waiting = begin(kv.wait_version, "w", 2, timeout=timeout)
            until(lambda: parked(kv))
            kv.push("w", ones())
            assert waiting.result(PATIENCE) == 2


class TestFullQueue:
    def test_the_call_waits_for_room(self) -> None:
        with jammed(max_queued=2) as (kv, gate):
            pushes = [begin(kv.push, "a", ones()) for _ in range(6)]
            until(lambda: queued(kv) == 2)
            until(lambda: kv._engine._crowd == 4)
            assert not any(push.done() for push in pushes)
            gate.open()
            assert sorted(push.result(PATIENCE) for push in pushes) == [2, 3, 4, 5, 6, 7]
            assert kv.pull("a").sum() == 4 * 6

    def test_but_no_longer_than_its_timeout(self) -> None:
        with jammed(max_queued=1) as (kv, gate):
            push = begin(kv.push, "a", ones())
            until(lambda: queued(kv) == 1)
            with pytest.raises(akv.AkvTimeout, match=r"push of key 'b'.*room.*0\.003 s"):
                kv.push("b", ones(), timeout=0.003)
            gate.open()
            assert push.result(PATIENCE) == 2
            assert kv.info("b").version == 1

    def test_the_time_counts_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was spent waiting for room is not there for the turn."""
        now = [100.0]
        monkeypatch.setattr(blocking, "monotonic", lambda: now[0])
        with jammed(max_queued=1) as (kv, gate):
            withdrawn = begin(kv.push, "a", ones(), timeout=PATIENCE)
            until(lambda: queued(kv) == 1)
            late = begin(kv.push, "b", ones(), timeout=5 * PATIENCE)
            until(lambda: kv._engine._crowd == 1)
            now[0] += 5 * PATIENCE - 0.001
            (op,) = (op for op in kv._line.open if "a" in op.keys)
            kv._engine.cancel(op, akv.StoreClosed("withdrawn by this test"))
            with pytest.raises(akv.StoreClosed):
                withdrawn.result(PATIENCE)
            with pytest.raises(akv.AkvTimeout, match=r"push of key 'b'.*50 s"):
                late.result(PATIENCE)
            gate.open()

    def test_waits_for_versions_are_bounded_as_well(self) -> None:
        with sync.connect("memory://", max_queued=2) as kv:
            kv.init("w", ones())
            waiting = [begin(kv.wait_version, "w", 2) for _ in range(4)]
            until(lambda: kv._engine._crowd == 2)
            assert parked(kv) == 2
            with pytest.raises(akv.AkvTimeout, match="room"):
                kv.wait_version("w", 2, timeout=0.003)
            kv.push("w", ones())
            assert [future.result(PATIENCE) for future in waiting] == [2] * 4
