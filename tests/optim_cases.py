"""For every optimizer: descriptions to test it with, and its formula once more, in plain float64."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from akv import optim
from akv.optim import blocks, compiled

Array = Any  # numpy's
State = dict[str, Any]
# step(weight, rescaled gradient, state, number of the update, rate, weight decay) -> the new weight
Step = Callable[[Array, Array, State, int, float, float], Array]


@dataclass(frozen=True)
class Case:
    """A description and the formula it stands for; `clip_after_decay` where MXNet clips grad + wd * weight."""

    optimizer: optim.Optimizer
    step: Step
    clip_after_decay: bool = False

    def __str__(self) -> str:
        changed = [f"{k}={v}" for k, v in self.optimizer.to_dict().items() if k in INTERESTING and v]
        return "-".join([self.optimizer.name, *changed])

    def changed(self, **numbers: Any) -> Case:
        return replace(self, optimizer=replace(self.optimizer, **numbers))


INTERESTING = ("momentum", "centered", "bias_correction", "correct_bias", "wd_lh", "clip_weights", "lamda1", "eps")


def sgd(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        s["m"] = o.momentum * s.get("m", 0.0) - lr * (g + wd * w)
        return w + s["m"]

    return step


def nag(o: Any) -> Step:
    # As torch writes it: the rate outside the momentum buffer, so only for a rate that does not change.
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        old = s.setdefault("lr", lr)
        g = g + wd * w
        s["buffer"] = o.momentum * s.get("buffer", 0.0) * (old / lr if lr else 1.0) + g
        s["lr"] = lr
        return w - lr * (g + o.momentum * s["buffer"])

    return step


def _moments(o: Any, g: Array, s: State) -> None:
    s["m"] = o.beta1 * s.get("m", 0.0) + (1 - o.beta1) * g
    s["v"] = o.beta2 * s.get("v", 0.0) + (1 - o.beta2) * g**2


def adam(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        _moments(o, g, s)
        return w - lr * np.sqrt(1 - o.beta2**t) / (1 - o.beta1**t) * s["m"] / (np.sqrt(s["v"]) + o.epsilon)

    return step


def adamw(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        _moments(o, g, s)
        correct = np.sqrt(1 - o.beta2**t) / (1 - o.beta1**t) if o.correct_bias else 1.0
        return w - lr * (correct * s["m"] / (np.sqrt(s["v"]) + o.epsilon) + wd * w)

    return step


def adagrad(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        s["h"] = s.get("h", 0.0) + g**2
        return w - lr * (g / np.sqrt(s["h"] + o.eps) + wd * w)

    return step


def adadelta(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        s["g"] = o.rho * s.get("g", 0.0) + (1 - o.rho) * g**2
        delta = np.sqrt(s.get("d", 0.0) + o.epsilon) / np.sqrt(s["g"] + o.epsilon) * g
        s["d"] = o.rho * s.get("d", 0.0) + (1 - o.rho) * delta**2
        return w - lr * (delta + wd * w)

    return step


def rmsprop(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        s["n"] = o.gamma1 * s.get("n", 0.0) + (1 - o.gamma1) * g**2
        if o.centered:
            s["g"] = o.gamma1 * s.get("g", 0.0) + (1 - o.gamma1) * g
            s["d"] = o.gamma2 * s.get("d", 0.0) - lr * g / np.sqrt(s["n"] - s["g"] ** 2 + o.epsilon)
            w = w + s["d"]
        else:
            w = w - lr * g / np.sqrt(s["n"] + o.epsilon)
        limit = o.clip_weights or np.inf
        return np.clip(w, -limit, limit)

    return step


def ftrl(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        if lr == 0:
            return w
        n = s.get("n", np.zeros_like(w))
        s["n"] = n + g**2
        s["z"] = s.get("z", 0.0) + g - (np.sqrt(s["n"]) - np.sqrt(n)) / lr * w
        z = s["z"]
        dual = (np.sign(z) * o.lamda1 - z) / ((o.beta + np.sqrt(s["n"])) / lr + wd)
        return np.where(np.abs(z) > o.lamda1, dual, 0.0)

    return step


def signum(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        if not o.momentum:
            return (1 - lr * (wd + o.wd_lh)) * w - lr * np.sign(g)
        s["m"] = o.momentum * s.get("m", 0.0) + (1 - o.momentum) * (g + wd * w)
        return (1 - lr * o.wd_lh) * w - lr * np.sign(s["m"])

    return step


def lamb(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        _moments(o, g, s)
        first, second = (1 - o.beta1**t, 1 - o.beta2**t) if o.bias_correction else (1.0, 1.0)
        update = s["m"] / first / (np.sqrt(s["v"] / second) + o.epsilon) + wd * w
        norm = np.clip(np.linalg.norm(w), o.lower_bound or 0.0, o.upper_bound or np.inf)
        length = np.linalg.norm(update)
        return w - lr * (norm / length if norm and length else 1.0) * update

    return step


def lars(o: Any) -> Step:
    def step(w: Array, g: Array, s: State, t: int, lr: float, wd: float) -> Array:
        norm, length = np.linalg.norm(w), np.linalg.norm(s["unclipped"])
        ratio = o.eta * norm / (length + wd * norm + o.eps) if norm and length else 1.0
        correct = lr / s["lr"] if s.get("lr") else 1.0
        s["lr"] = lr
        s["m"] = o.momentum * correct * s.get("m", 0.0) - ratio * lr * (g + wd * w)
        return w + s["m"]

    return step


def _case(optimizer: optim.Optimizer, formula: Callable[[Any], Step], clip_after_decay: bool = False) -> Case:
    return Case(optimizer, formula(optimizer), clip_after_decay)


CASES = [
    _case(optim.SGD(learning_rate=0.1), sgd),
    _case(optim.SGD(learning_rate=0.1, momentum=0.9), sgd),
    _case(optim.NAG(learning_rate=0.1), nag),
    _case(optim.NAG(learning_rate=0.1, momentum=0.9), nag),
    _case(optim.DiLoCo(), nag),
    _case(optim.Adam(learning_rate=0.05), adam, clip_after_decay=True),
    _case(optim.AdamW(learning_rate=0.05), adamw),
    _case(optim.AdamW(learning_rate=0.05, correct_bias=False), adamw),
    _case(optim.AdaGrad(learning_rate=0.1), adagrad),
    _case(optim.AdaDelta(), adadelta),
    _case(optim.RMSProp(learning_rate=0.05), rmsprop, clip_after_decay=True),
    _case(optim.RMSProp(learning_rate=0.05, clip_weights=0.7), rmsprop, clip_after_decay=True),
    _case(optim.RMSProp(learning_rate=0.05, centered=True, epsilon=1e-4), rmsprop, clip_after_decay=True),
    _case(optim.Ftrl(), ftrl),
    _case(optim.Ftrl(learning_rate=0.3, lamda1=0.5, beta=0.5), ftrl),
    _case(optim.Signum(), signum),
    _case(optim.Signum(momentum=0.0, wd_lh=0.1), signum),
    _case(optim.LAMB(learning_rate=0.05), lamb),
    _case(optim.LAMB(learning_rate=0.05, bias_correction=False, lower_bound=9.0, upper_bound=9.5), lamb),
    _case(optim.LARS(learning_rate=0.5, eta=0.1), lars),
    _case(optim.LARS(learning_rate=0.5, eta=0.1, momentum=0.9, eps=0.1), lars),
]


def run(case: Case, weight: Array, grads: list[Array], key: str | int = "w") -> Array:
    """The weight in float64 after one update by each of `grads`."""
    o: Any = case.optimizer
    weight = weight.astype(np.float64)
    state: State = {}
    base = o.lr_scheduler.rate if o.lr_scheduler else lambda t, lr: lr
    wd = o.wd * o.wd_mult.get(key, 1.0)
    for t, grad in enumerate(grads, 1):
        lr = base(t, o.learning_rate) * o.lr_mult.get(key, 1.0)
        g = state["unclipped"] = o.rescale_grad * grad.astype(np.float64)
        weight = case.step(weight, _clipped(case, g, weight, wd), state, t, lr, 0.0 if case.clip_after_decay else wd)
    return weight


def _clipped(case: Case, g: Array, weight: Array, wd: float) -> Array:
    bound = case.optimizer.clip_gradient or np.inf
    return np.asarray(np.clip(g + wd * weight if case.clip_after_decay else g, -bound, bound))


def push(case: Case, weight: Array, grads: list[Array], key: str | int = "w") -> tuple[Array, ...]:
    """Update `weight` in place by each of `grads`, as a store does; returns the state."""
    state, settings = case.optimizer.create_state(weight), optim.Settings()
    for count, grad in enumerate(grads, 1):
        case.optimizer.bind(key, count, settings)(weight, grad, state)
    return state


def normal(shape: Any, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


@contextmanager
def arithmetic(kind: str) -> Iterator[None]:
    """Calculate with "numpy" or with "numba" alone."""
    if kind == "numba":
        pytest.importorskip("numba")
    before = os.environ.get("AKV_NUMBA")
    _switch("1" if kind == "numba" else "0")
    try:
        yield
    finally:
        _switch(before)


def _switch(value: str | None) -> None:
    if value is None:
        os.environ.pop("AKV_NUMBA", None)
    else:
        os.environ["AKV_NUMBA"] = value
    for cached in (compiled.compiled, compiled.numba_module, blocks.fastest):
        cached.cache_clear()


@pytest.fixture(scope="module", params=["numpy", "numba"], autouse=True)
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module that imports this runs all its tests twice."""
    with arithmetic(request.param):
        yield
