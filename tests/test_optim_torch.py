"""The optimizers whose formula torch shares, against torch, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optim_cases import normal

from akv import optim

torch = pytest.importorskip("torch")

# Where torch adds epsilon to another place than MXNet, it is made too small to matter.
TINY = 1e-30
PAIRS: dict[str, tuple[optim.Optimizer, Callable[[Any], Any]]] = {
    "nag": (
        optim.NAG(learning_rate=0.1, momentum=0.9, wd=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    ),
    "diloco": (optim.DiLoCo(), lambda p: torch.optim.SGD(p, lr=0.7, momentum=0.9, nesterov=True)),
    "adam": (
        optim.Adam(learning_rate=0.01, wd=0.1, epsilon=TINY),
        lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, eps=TINY),
    ),
    "adamw": (
        optim.AdamW(learning_rate=0.01, wd=0.1, epsilon=TINY),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, eps=TINY),
    ),
    "adagrad": (
        optim.AdaGrad(learning_rate=0.1, eps=TINY),
        lambda p: torch.optim.Adagrad(p, lr=0.1, eps=TINY),
    ),
    "adadelta": (optim.AdaDelta(rho=0.8, epsilon=1e-6), lambda p: torch.optim.Adadelta(p, lr=1.0, rho=0.8, eps=1e-6)),
    "rmsprop": (
        optim.RMSProp(learning_rate=0.01, gamma1=0.8, wd=0.1, epsilon=TINY),
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.8, weight_decay=0.1, eps=TINY),
    ),
}


@pytest.mark.parametrize(("ours", "make"), PAIRS.values(), ids=PAIRS)
def test_it_agrees_with_torch(ours: optim.Optimizer, make: Callable[[Any], Any]) -> None:
    weight = normal((4, 5), dtype=np.float64)
    tensor = torch.tensor(weight.copy(), requires_grad=True)
    theirs, state = make([tensor]), ours.create_state(weight)
    for count in range(1, 8):
        grad = normal((4, 5), count, np.float64)
        tensor.grad = torch.tensor(grad)
        theirs.step()
        ours.bind("w", count, optim.Settings())(weight, grad, state)
    np.testing.assert_allclose(weight, tensor.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_diloco_averages_what_two_workers_moved() -> None:
    start, workers = normal(5, 0, np.float64), [normal(5, seed, np.float64) for seed in (1, 2)]
    weight = start.copy()
    outer = optim.DiLoCo(rescale_grad=1 / len(workers), momentum=0.0, learning_rate=1.0)
    outer.bind("w", 1, optim.Settings())(weight, sum(start - worker for worker in workers), ())
    np.testing.assert_allclose(weight, sum(workers) / 2)
