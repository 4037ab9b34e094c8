"""The short way of small updates against the long one: the same values and versions, whatever happens in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import akv
from akv import optim, sync
from akv.optim.updaters import ADD

UPDATERS: dict[str, Any] = {
    "add": "add",
    "assign": "assign",
    "sgd": optim.SGD(learning_rate=0.1, momentum=0.9),
    "plain": optim.SGD(learning_rate=0.1),
    "adam": optim.Adam(lr_scheduler=optim.FactorScheduler(step=2, factor=0.5)),
    "lamb": optim.LAMB(),
    "function": lambda key, pushed, stored: np.subtract(stored, pushed, out=stored),
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 5)),
        st.tuples(st.just("push"), st.integers(1, 5)),
        st.tuples(st.just("donate"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["snapshot", "forget", "strided", "several", "again", "rate"]), st.none()),
        st.tuples(st.just("updater"), st.sampled_from(sorted(UPDATERS))),
    ),
    max_size=25,
)


class Store:
    """One of the two, and the snapshots that are out on it, with what they have to show."""

    def __init__(self, url: str, dtype: str) -> None:
        self.kv = sync.connect(url)
        self.value = np.linspace(-1, 1, 6).astype(dtype).reshape(2, 3)
        self.kv.init("w", self.value)
        self.lent: list[tuple[np.ndarray, np.ndarray]] = []

    def take(self, step: str, number: Any) -> None:
        kv = self.kv
        match step:
            case "push" | "donate":
                kv.push("w", self.value * number, donate=step == "donate")
            case "strided":
                kv.push("w", np.repeat(self.value, 2, axis=1)[:, ::2])
            case "several":
                kv.push("w", [self.value, self.value])
            case "snapshot":
                lent = kv.snapshot("w")
                self.lent.append((lent, lent.copy()))
            case "forget":
                self.lent.clear()
            case "again":
                kv.delete("w")
                kv.init("w", self.value)
            case "updater":
                self._update(UPDATERS[number])
            case "rate":
                self._rate()

    def _update(self, updater: Any) -> None:
        self.kv.set_updater("assign" if isinstance(updater, optim.Optimizer) else updater)
        if isinstance(updater, optim.Optimizer):
            self.kv.set_optimizer(updater)

    def _rate(self) -> None:
        try:
            self.kv.set_learning_rate(0.01)
        except akv.InvalidArgument:
            return  # no optimizer


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from(["float32", "float64", "float16"]))
def test_both_ways_give_the_same(steps: list[tuple[str, Any]], dtype: str) -> None:
    stores = [Store("memory://", dtype), Store("memory://?inline=no", dtype)]
    try:
        for step, number in steps:
            for store in stores:
                store.take(step, number)
        one, other = [(store.kv.pull("w"), store.kv.info("w").version) for store in stores]
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1] == other[1]
        for lent, before in [pair for store in stores for pair in store.lent]:
            np.testing.assert_array_equal(lent, before)
    finally:
        for store in stores:
            store.kv.close()


@pytest.mark.parametrize("policy", ["reject", "skip"])
def test_it_is_no_way_round_what_is_not_finite(policy: str) -> None:
    with sync.connect("memory://", on_nonfinite=policy) as kv:
        kv.init("w", np.ones(2, np.float32))
        kv.set_optimizer(optim.SGD(learning_rate=1.0))
        kv.push("w", np.ones(2, np.float32))
        try:
            kv.push("w", np.full(2, np.nan, np.float32))
        except akv.NonFinite:
            assert policy == "reject"
        assert kv.pull("w").tolist() == [0.0, 0.0]


def test_a_failed_push_changes_nothing() -> None:
    with sync.connect("memory://") as kv:
        kv.init("w", np.ones(2, np.float32))
        kv.set_optimizer(optim.Adam())
        kv.push("w", np.ones(2, np.float32))
        before = kv.pull("w")
        with pytest.raises(akv.ShapeMismatch):
            kv.push("w", np.ones(3, np.float32))
        with pytest.raises(akv.DTypeMismatch):
            kv.push("w", np.ones(2, np.complex64))
        assert kv.info("w").version == 2
        np.testing.assert_array_equal(kv.pull("w"), before)


def test_an_interrupt_in_an_update_moves_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes when numpy is done, and so is the change."""

    def struck(stored: np.ndarray, given: np.ndarray, state: Any) -> None:
        stored += given
        raise KeyboardInterrupt

    with sync.create() as kv:
        kv.init("w", np.zeros(4, np.float32))
        kv.set_updater("add")
        kv.push("w", np.ones(4, np.float32))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(type(ADD), "bind", lambda self, key, count: struck)
            kv.push("w", np.ones(4, np.float32))
        assert kv.pull("w")[0] == 2
        assert kv.info("w").version == 3
