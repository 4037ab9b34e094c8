"""Every optimizer against the numbers that MXNet 1.9.1 itself gave (CPU wheel, mx.optimizer.get_updater, float32).

The weight [0.9, -0.5, 0.3] was updated with the gradients sin(t * [1, 2, 3]) for t = 1..4; recorded are the weight and
the optimizer's state after that, to seven digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optim_cases import both_ways

from akv import optim

COMMON = {"wd": 0.1, "clip_gradient": 0.5, "rescale_grad": 1.5}
RUNS: list[tuple[str, dict[str, Any], list[float], list[list[float]]]] = [
    ("sgd", {"learning_rate": 0.1}, [0.7864914, -0.5862437, 0.326275], []),
    (
        "sgd",
        {"learning_rate": 0.1, "momentum": 0.9, **COMMON},
        [0.5287217, -0.4600874, 0.2698625],
        [[-0.07194638, 0.009294864, 0.01389751]],
    ),
    (
        "nag",
        {"learning_rate": 0.1, "momentum": 0.9, "clip_gradient": 0.5, "rescale_grad": 1.5},
        [0.5609297, -0.5142226, 0.3169514],
        [[-0.04600119, -0.008228909, 0.02351751]],
    ),
    ("nag", {"learning_rate": 0.1, "wd": 0.1}, [0.7554777, -0.5656265, 0.3147291], []),
    (
        "adam",
        {},
        [0.8968701, -0.5012132, 0.2992483],
        [[0.07201688, 0.07877523, -0.02891164], [0.002123738, 0.002452742, 0.0005553473]],
    ),
    (
        "adam",
        {"learning_rate": 0.05, **COMMON},
        [0.7351558, -0.5288615, 0.2548571],
        [[0.0532012, 0.003302589, -0.01930552], [0.0008337324, 0.0009730574, 0.0007129976]],
    ),
    (
        "adagrad",
        {"learning_rate": 0.05, **COMMON},
        [0.8116525, -0.5049433, 0.2821642],
        [[0.7948084, 0.9256643, 0.7204727]],
    ),
    ("adagrad", {}, [0.8867173, -0.5076167, 0.2981606], [[2.12756, 2.456475, 0.5557401]]),
    (
        "adadelta",
        {**COMMON},
        [0.5807342, -0.3293634, 0.2014138],
        [[0.06750775, 0.07928479, 0.06499534], [2.957363e-05, 3.494693e-05, 5.845006e-05]],
    ),
    (
        "adadelta",
        {},
        [0.8868712, -0.5078437, 0.3051156],
        [[0.1776584, 0.2115776, 0.05185251], [2.60987e-05, 2.866011e-05, 7.240807e-05]],
    ),
    ("rmsprop", {}, [0.8958709, -0.5024415, 0.2994714], [[0.1776585, 0.2115776, 0.05185252]]),
    (
        "rmsprop",
        {"learning_rate": 0.05, "clip_weights": 0.8, **COMMON},
        [0.6603137, -0.5371094, 0.2589774],
        [[0.07025149, 0.08365014, 0.06503978]],
    ),
    (
        "rmsprop",
        {"learning_rate": 0.05, "centered": True, **COMMON},
        [-0.04898901, -0.6639845, -0.0265843],
        [
            [0.06943183, 0.08502374, 0.06509595],
            [0.05010413, 0.001911554, -0.02025051],
            [-0.1882854, -0.02715238, -0.01870926],
        ],
    ),
    (
        "ftrl",
        {},
        [0.3489093, -0.2764824, 0.04872086],
        [[-8.588339, 7.108173, -0.8604128], [2.12756, 2.456475, 0.5557401]],
    ),
    (
        "ftrl",
        {"learning_rate": 0.05, "beta": 0.5, "lamda1": 0.3, **COMMON},
        [0.3967225, -0.2393292, 0.07188828],
        [[-11.38062, 7.322466, -2.246457], [0.7948084, 0.9256643, 0.7204727]],
    ),
    (
        "signum",
        {"learning_rate": 0.05, "wd_lh": 0.2, **COMMON},
        [0.6675164, -0.3803079, 0.2891689],
        [[-0.07366526, 0.008583087, 0.0142632]],
    ),
    ("signum", {"learning_rate": 0.05, "momentum": 0.0, **COMMON}, [0.7836295, -0.4900772, 0.2945424], []),
    (
        "lamb",
        {},
        [0.8967313, -0.5011891, 0.2998638],
        [[0.07201688, 0.07877523, -0.02891164], [0.002123738, 0.002452742, 0.0005553473]],
    ),
    (
        "lamb",
        {"learning_rate": 0.05, **COMMON},
        [0.7267342, -0.5052266, 0.2868519],
        [[0.04600121, 0.008228913, -0.02351752], [0.0007935044, 0.0009242277, 0.000719728]],
    ),
    (
        "lamb",
        {"learning_rate": 0.05, "bias_correction": False, "lower_bound": 0.9, "upper_bound": 0.95, "wd": 0.1},
        [0.7529377, -0.5500755, 0.2929364],
        [[0.07201688, 0.07877523, -0.02891164], [0.002123738, 0.002452742, 0.0005553473]],
    ),
    (
        "lars",
        {"learning_rate": 0.5, "momentum": 0.9, "eta": 0.1, **COMMON},
        [0.7774195, -0.4585695, 0.2580773],
        [[-0.0309371, 0.01796034, -0.01334498]],
    ),
    ("lars", {"learning_rate": 0.5, "eps": 0.3, "wd": 0.1}, [0.8994365, -0.5001065, 0.2999246], []),
    ("test", {"rescale_grad": 1.5}, [2.602629, 0.7936565, -0.09412485], [[2.602629, 0.7936565, -0.09412485]]),
]

__all__ = ["both_ways"]  # every test runs with numpy and with numba


@pytest.mark.parametrize(
    ("name", "numbers", "weight", "state"), RUNS, ids=[f"{run[0]}-{i}" for i, run in enumerate(RUNS)]
)
def test_it_gives_mxnets_numbers(
    name: str, numbers: dict[str, Any], weight: list[float], state: list[list[float]]
) -> None:
    optimizer = optim.from_dict({"name": name, **numbers})
    ours = np.array([0.9, -0.5, 0.3], np.float32)
    arrays = optimizer.create_state(ours)
    for t in range(1, 5):
        grad = np.sin(t * np.arange(1, 4)).astype(np.float32)
        optimizer.bind(7, t, optim.Settings())(ours, grad, arrays)
    np.testing.assert_allclose(ours, weight, rtol=3e-6, atol=1e-6)
    assert len(arrays) == len(state)
    for array, theirs in zip(arrays, state, strict=True):
        np.testing.assert_allclose(array, theirs, rtol=3e-6, atol=1e-7)


def test_nag_decays_the_weight_before_the_step() -> None:
    # The one difference: MXNet's nag_mom_update takes the momentum's weight decay from the weight that it has just
    # written, since both are one array: (0.9 - 0.1 * 1.9 * 0.09) * 0.1 in place of 0.9 * 0.1.
    nag, weight = optim.NAG(learning_rate=0.1, momentum=0.9, wd=0.1), np.array([0.9])
    (momentum,) = nag.create_state(weight)
    nag.bind(7, 1, optim.Settings())(weight, np.zeros(1), (momentum,))
    np.testing.assert_allclose(momentum, -0.1 * 0.1 * 0.9)
    np.testing.assert_allclose(weight, 0.9 - 1.9 * 0.1 * 0.1 * 0.9)


def test_rounding_makes_no_negative_variance() -> None:
    # The other: after many equal gradients n - mean**2 rounds to less than -epsilon, and MXNet's square root is NaN.
    rmsprop, weight = optim.RMSProp(centered=True), np.ones(50, np.float32)
    state, grad = rmsprop.create_state(weight), np.linspace(1, 9, 50, dtype=np.float32)
    for count in range(1, 300):
        rmsprop.bind(7, count, optim.Settings())(weight, grad, state)
    assert np.isfinite(weight).all()


def test_the_default_rates_are_mxnets() -> None:
    rates = {
        name: optim.from_dict({"name": name}).learning_rate for name in ("sgd", "nag", "signum", "adagrad", "lars")
    }
    assert set(rates.values()) == {0.01}
    assert {optim.from_dict({"name": name}).learning_rate for name in ("adam", "rmsprop", "lamb")} == {0.001}
    assert optim.Ftrl().learning_rate == 0.1
