"""Optimizers against the bandwidth floor, with numba and without, by one core; and what a small update costs beside it.

The floor is what np.copyto of the same run takes for the bytes that have to move: the gradient is read, weight and
state are read and written; LAMB and LARS read what their norms are of once more.
"""

from __future__ import annotations

import sys

import numpy as np

from akv import optim
from akv.optim import Optimizer, Settings
from akv.optim.blocks import fastest
from akv.optim.scratch import take
from benchmarks.measure import Row, best, engines

OPTIMIZERS: dict[str, Optimizer] = {
    "SGD": optim.SGD(),
    "SGD with momentum": optim.SGD(momentum=0.9),
    "NAG": optim.NAG(momentum=0.9),
    "Adam": optim.Adam(),
    "AdamW": optim.AdamW(wd=0.01),
    "AdaGrad": optim.AdaGrad(),
    "RMSProp": optim.RMSProp(),
    "RMSProp, centered": optim.RMSProp(centered=True),
    "AdaDelta": optim.AdaDelta(),
    "Ftrl": optim.Ftrl(),
    "signSGD": optim.Signum(momentum=0.0),
    "Signum": optim.Signum(),
    "LAMB": optim.LAMB(),
    "LARS": optim.LARS(momentum=0.9),
}
# Reads for norms, in arrays.
NORMS = {"LAMB": 4, "LARS": 2}
# How many times the floor, by engine; at most so many microseconds beside the loop at 4 KiB.
GOALS = {"numpy": 2.0, "numba": 1.25}
WATCHED = ("SGD with momentum", "Adam")
SMALL_GOAL = 3.0


def run(smoke: bool) -> list[Row]:
    """smoke: 1 MiB once instead of 64 MiB seven times."""
    size, repeats = (1 << 18, 1) if smoke else (1 << 24, 7)
    rows = []
    for engine in engines():
        rows += [_large(engine, name, size, repeats) for name in OPTIMIZERS]
        rows += [_small(engine, name, 10 if smoke else 2000) for name in WATCHED]
    return rows


def _large(engine: str, name: str, size: int, repeats: int) -> Row:
    optimizer = OPTIMIZERS[name]
    weight, grad, copy = _normal(size), _normal(size), _normal(size)
    state = optimizer.create_state(weight)
    kernel = optimizer.bind("w", 2, Settings())
    kernel(weight, grad, state)
    copied = updated = float("inf")
    for _ in range(repeats):
        copied = min(copied, best(lambda: np.copyto(copy, grad), 1))
        updated = min(updated, best(lambda: kernel(weight, grad, state), 1))
    floor = copied / 2 * (3 + 2 * len(state) + NORMS.get(name, 0))
    goal = f"<= {GOALS[engine]} x" if name in WATCHED else ""
    detail = f"{updated * 1e3:.1f} ms against {floor * 1e3:.1f} ms of copying"
    return Row(f"{name} on {size * 4 >> 20} MiB, {engine}", f"{updated / floor:.2f} x", goal, detail)


def _small(engine: str, name: str, calls: int) -> Row:
    optimizer, settings = OPTIMIZERS[name], Settings()
    weight, grad = _normal(1024), _normal(1024)
    state, scalars = optimizer.create_state(weight), optimizer.scalars("w", 2, settings)
    formula = fastest(optimizer.formula, weight.dtype)
    scratch = take(max(1, formula.scratch), weight.dtype, weight.size)

    def whole() -> None:
        for _ in range(calls):
            optimizer.bind("w", 2, settings)(weight, grad, state)

    def bare() -> None:
        for _ in range(calls):
            formula.apply(weight, grad, state, scratch, *scalars)

    took, alone = _microseconds(whole, calls), _microseconds(bare, calls)
    detail = f"{took:.1f} us against {alone:.1f} us for its loop alone"
    return Row(f"{name} on 4 KiB, {engine}", f"{took - alone:.1f} us", f"<= {SMALL_GOAL} us", detail)


def _microseconds(step: object, calls: int) -> float:
    return best(step, 9) / calls * 1e6  # type: ignore[arg-type]


def _normal(size: int) -> np.ndarray:
    return np.random.default_rng(size).standard_normal(size, np.float32)


if __name__ == "__main__":
    print(*run("--smoke" in sys.argv), sep="\n")
