"""SGD against torch and MXNet's own numbers, the Test rule, and how descriptions refuse what they cannot mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optim_cases import normal

from akv import optim
from akv.errors import InvalidArgument, KeyTypeError


@pytest.mark.parametrize(("momentum", "wd"), [(0.0, 0.0), (0.0, 0.1), (0.9, 0.0), (0.9, 0.1)])
def test_it_agrees_with_torch(momentum: float, wd: float) -> None:
    torch = pytest.importorskip("torch")
    weight = normal((4, 5), dtype=np.float64)
    theirs = torch.tensor(weight.copy(), requires_grad=True)
    sgd = torch.optim.SGD([theirs], lr=0.1, momentum=momentum, weight_decay=wd)
    ours = optim.SGD(learning_rate=0.1, momentum=momentum, wd=wd)
    state = ours.create_state(weight)
    for count in range(1, 6):
        grad = normal((4, 5), count, np.float64)
        theirs.grad = torch.tensor(grad)
        sgd.step()
        ours.bind(0, count, optim.Settings())(weight, grad, state)
    np.testing.assert_allclose(weight, theirs.detach().numpy(), rtol=1e-12)


def test_a_rate_that_changes_acts_on_the_momentum_as_in_mxnet() -> None:
    # m = 0.5 * 0 - 1 * 1, then m = 0.5 * m - 0.1 * 1: the old rate stays in the momentum.
    sgd, live = optim.SGD(learning_rate=1.0, momentum=0.5), optim.Settings()
    weight = np.zeros(1)
    state = sgd.create_state(weight)
    sgd.bind("w", 1, live)(weight, np.ones(1), state)
    live.learning_rate = 0.1
    sgd.bind("w", 2, live)(weight, np.ones(1), state)
    assert weight.tolist() == [-1.6]


def test_the_test_rule_adds_and_keeps_a_copy() -> None:
    rule, weight = optim.Test(rescale_grad=2.0, wd=9.0, clip_gradient=0.1), np.ones(3, np.float32)
    (state,) = rule.create_state(weight)
    rule.bind("w", 1, optim.Settings())(weight, np.full(3, 5, np.float32), (state,))
    assert weight.tolist() == state.tolist() == [11.0] * 3


def test_a_zero_dimensional_weight() -> None:
    weight = np.array(1.0, np.float32)
    optim.SGD(learning_rate=0.5).bind("w", 1, optim.Settings())(weight, np.array(1.0, np.float32), ())
    assert weight == 0.5


def test_the_rate_is_mxnets_default_the_schedules_or_the_one_given() -> None:
    schedule = optim.FactorScheduler(step=10, base_lr=0.3)
    assert optim.SGD().learning_rate == 0.01
    assert optim.SGD(lr_scheduler=schedule).learning_rate == 0.3
    assert optim.SGD(lr_scheduler=schedule, learning_rate=0.2).rate("w", 1, optim.Settings()) == 0.2


def test_numpy_numbers_become_python_numbers() -> None:
    given: Any = {"learning_rate": np.float32(0.5), "momentum": np.float64(0.25), "lr_mult": {np.int64(3): np.int8(2)}}
    sgd = optim.SGD(wd=1, **given)
    numbers = sgd.to_dict()
    assert [type(numbers[name]) for name in ("learning_rate", "momentum", "wd")] == [float] * 3
    assert numbers["lr_mult"] == [[3, 2.0]]
    assert type(next(iter(sgd.lr_mult))) is int


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ({"momentum": 1.0}, r"SGD: momentum=1.0 is outside \[0, 1\)"),
        ({"momentum": -0.1}, r"SGD: momentum=-0.1 is outside \[0, 1\)"),
        ({"momentum": True}, "SGD: momentum=True is not a number"),
        ({"momentum": np.bool_(True)}, "SGD: momentum=True is not a number"),
        ({"momentum": "0.9"}, "SGD: momentum='0.9' is not a number"),
        ({"learning_rate": -1}, r"SGD: learning_rate=-1 is outside \[0, inf\)"),
        ({"learning_rate": float("nan")}, r"SGD: learning_rate=nan is outside \[0, inf\)"),
        ({"learning_rate": 10**400}, r"SGD: learning_rate=10{79} is outside"),
        ({"learning_rate": "0" * 10**6}, r"SGD: learning_rate='0{79} is not a number"),
        ({"wd": float("inf")}, r"SGD: wd=inf is outside \[0, inf\)"),
        ({"rescale_grad": None}, "SGD: rescale_grad=None is not a number"),
        ({"clip_gradient": 0}, r"SGD: clip_gradient=0 is outside \(0, inf\)"),
        ({"multi_precision": 1}, "SGD: multi_precision=1 is not True or False"),
        ({"lazy_update": None}, "SGD: lazy_update=None is not True or False"),
        ({"lr_scheduler": 3}, "SGD: lr_scheduler=3 is no learning-rate schedule"),
        ({"lr_scheduler": {"name": "magic"}}, "no schedule 'magic'; known are factor"),
        ({"lr_mult": 2.0}, "SGD: lr_mult=2.0 is not a mapping"),
        ({"lr_mult": ["ab"]}, r"SGD: lr_mult holds 'ab', which is not a \(key, number\) pair"),
        ({"wd_mult": {"w": -1}}, r"SGD: wd_mult\['w'\]=-1 is outside \[0, inf\)"),
    ],
)
def test_a_parameter_out_of_range_is_named_with_its_value_and_range(numbers: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        optim.SGD(**numbers)
    with pytest.raises(InvalidArgument, match=text):
        optim.from_dict({"name": "sgd", **numbers})


def test_multipliers_belong_to_keys() -> None:
    with pytest.raises(KeyTypeError):
        optim.SGD(lr_mult={1.5: 1.0})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("description", "text"),
    [
        (["sgd"], "described by a mapping"),
        ({}, "needs a name, not None"),
        ({"name": 3}, "needs a name, not 3"),
        ({"name": "Sgd2"}, "no optimizer is called 'Sgd2'; known are adadelta, .*sgd, signum, test"),
        ({"name": "sgd", "lr": 1, 5: 2}, "optimizer 'sgd' has no parameter 5, lr; it has learning_rate, .*momentum"),
        ({"name": "test", "lazy_update": True}, "optimizer 'test' has no parameter lazy_update"),
    ],
)
def test_a_description_that_means_nothing_is_refused(description: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        optim.from_dict(description)


def test_a_live_rate_is_checked() -> None:
    live = optim.Settings()
    for bad in (True, -1.0, float("nan"), "fast"):
        with pytest.raises(InvalidArgument, match="set_learning_rate: learning_rate"):
            live.learning_rate = bad  # type: ignore[assignment]
    assert live.learning_rate is None


def test_a_name_has_one_owner() -> None:
    class Impostor(optim.SGD):
        name = "sgd"

    with pytest.raises(InvalidArgument, match="optimizer name 'sgd' is claimed by"):
        optim.register(Impostor)
    assert type(optim.from_dict({"name": "sgd"})) is optim.SGD


def test_an_unknown_name_is_looked_up_in_the_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    class Point:
        def load(self) -> None:
            @optim.register
            class Descent(optim.SGD):
                name = "descent"

    def points(**group: str) -> list[Point]:
        asked.append(group)
        return [Point()]

    monkeypatch.setattr("akv.optim.registry.entry_points", points)
    monkeypatch.setattr("akv.optim.registry._classes", {})
    assert optim.from_dict({"name": "descent"}).name == "descent"
    assert asked == [{"group": "akv.optimizers", "name": "descent"}]


def test_a_strided_weight_is_refused_rather_than_copied() -> None:
    weight = np.zeros((2, 3), np.float32).T
    with pytest.raises(InvalidArgument, match="C-contiguous"):
        optim.SGD().bind("w", 1, optim.Settings())(weight, weight, ())
