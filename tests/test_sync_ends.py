"""Waits of the blocking face that are cut short: inside an updater, by Ctrl-C, by a close."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from store_cases import PATIENCE, Gate, named, ones
from sync_cases import begin, jammed, parked, queued, until, waits

import akv
from akv import sync


class TestUpdater:
    """One that calls its own store would wait for itself."""

    @pytest.mark.parametrize("inline", [True, False])
    @pytest.mark.parametrize(
        "call",
        [
            lambda kv: kv.push("w", ones()),
            lambda kv: kv.pull("w"),
            lambda kv: kv.flush(),
            lambda kv: kv.set_updater("assign"),
            lambda kv: kv.wait_version("w", 99),
            lambda kv: kv.wait_version("w", 99, timeout=PATIENCE),
        ],
    )
    def test_it_gets_an_error(self, call: Callable[[sync.KVStore], object], inline: bool) -> None:
        def updater(key: Any, given: np.ndarray, stored: np.ndarray) -> None:
            stored[...] = 99
            call(kv)

        with sync.connect("memory://", inline=inline) as kv:
            kv.init("w", ones())
            kv.set_updater(updater)
            with pytest.raises(akv.InvalidArgument, match="updater") as caught:
                kv.push("w", ones())
            assert "the stored value is as it was" in caught.value.__notes__[0]
            assert (kv.pull("w") == 1).all()
            kv.set_updater("add")
            assert kv.push("w", ones()) == 2

    def test_a_full_queue_does_not_hang_it_either(self) -> None:
        def updater(key: Any, given: np.ndarray, stored: np.ndarray) -> None:
            kv.push("b", ones())

        with jammed(max_queued=1) as (kv, gate):
            gate.open()
            kv.flush()
            kv.set_updater(updater)
            with pytest.raises(akv.InvalidArgument, match="updater"):
                kv.push("a", ones())
            kv.set_updater("add")

    def test_another_key_at_once_is_fine(self) -> None:
        """Small, and nothing in its way: there is no wait."""
        with sync.create() as kv:
            kv.init(["w", "log"], [ones(), ones(0)])

            def updater(key: Any, given: np.ndarray, stored: np.ndarray) -> None:
                if key == "w":
                    stored += given
                    kv.push("log", stored)
                else:
                    stored[...] = given

            kv.set_updater(updater)
            kv.push("w", ones())
            assert (kv.pull("log") == 2).all()


def interrupt() -> None:
    """What Ctrl-C does."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class TestInterrupt:
    def test_a_wait_for_a_version(self) -> None:
        with sync.create() as kv:
            kv.init("w", ones())
            killer = begin(lambda: (until(lambda: waits(kv, "w")), interrupt()))
            with pytest.raises(KeyboardInterrupt):
                kv.wait_version("w", 2)
            killer.result(PATIENCE)
            assert not parked(kv)
            assert kv.push("w", ones()) == 2

    def test_a_push_that_is_queued_never_happens(self) -> None:
        with jammed() as (kv, gate):
            killer = begin(lambda: (until(lambda: waits(kv, "a")), interrupt()))
            with pytest.raises(KeyboardInterrupt):
                kv.push("a", ones())
            killer.result(PATIENCE)
            gate.open()
            assert kv.push("a", ones()) == 2

    def test_a_push_that_has_started_happens_wholly(self) -> None:
        with jammed() as (kv, gate):
            gate.open()
            kv.flush()
            gate.arrived.clear()
            killer = begin(lambda: (until(lambda: gate.arrived and waits(kv, "gate")), interrupt(), gate.open("gate")))
            with pytest.raises(KeyboardInterrupt):
                kv.push("gate", ones())
            killer.result(PATIENCE)
            kv.flush()
            assert kv.pull("gate").sum() == 4
            assert kv.push("gate", ones()) == 3

    def test_a_wait_for_room(self) -> None:
        with jammed(max_queued=1) as (kv, gate):
            push = begin(kv.push, "a", ones())
            until(lambda: queued(kv) == 1)
            killer = begin(lambda: (until(lambda: kv._engine._crowd), interrupt()))
            with pytest.raises(KeyboardInterrupt):
                kv.push("b", ones())
            killer.result(PATIENCE)
            gate.open()
            assert push.result(PATIENCE) == 2
            assert kv._engine._crowd == 0
            assert kv.push("b", ones()) == 2

    def test_an_updater_in_the_callers_thread(self) -> None:
        """The value is as it was, and the key is free."""
        with sync.create() as kv:
            kv.init("w", ones())
            kv.set_updater(lambda key, given, stored: (stored.fill(9), signal.raise_signal(signal.SIGINT)))
            with pytest.raises(KeyboardInterrupt):
                kv.push("w", ones())
            assert (kv.pull("w") == 1).all()
            kv.set_updater("add")
            assert kv.push("w", ones()) == 2

    def test_an_interrupt_that_an_updater_raises_itself(self) -> None:
        """In a thread of the store: it reaches the pusher, and the thread lives on."""

        def updater(key: Any, given: np.ndarray, stored: np.ndarray) -> None:
            raise KeyboardInterrupt("from the updater")

        with sync.connect("memory://", inline=False) as kv:
            kv.init("w", ones())
            kv.set_updater(updater)
            for _ in range(10):
                with pytest.raises(KeyboardInterrupt, match="from the updater"):
                    kv.push("w", ones())
            kv.set_updater("add")
            assert kv.push("w", ones()) == 2


class TestClose:
    def test_it_ends_the_waits_of_other_threads(self) -> None:
        with jammed(url := named()), sync.connect(url) as kv:
            waiting = [begin(kv.wait_version, "a", 9), begin(kv.push, "a", ones())]
            until(lambda: parked(kv) and queued(kv))
            kv.close()
            for future in waiting:
                with pytest.raises(akv.StoreClosed, match="'a'"):
                    future.result(PATIENCE)
            kv.close()
            with pytest.raises(akv.StoreClosed):
                kv.pull("a")

    def test_the_backend_is_closed_after_its_last_operation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with sync.connect("memory://", inline=False) as kv:
            gate, closed = Gate(), threading.Event()
            kv.init("gate", ones())
            kv.set_updater(gate)
            monkeypatch.setattr(kv._engine.backend, "close", closed.set)
            push = begin(kv.push, "gate", ones())
            until(lambda: gate.arrived)
        assert not closed.is_set()
        gate.open("gate")
        assert push.result(PATIENCE) == 2
        assert closed.wait(PATIENCE)
