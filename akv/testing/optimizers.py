"""Optimizers run where the weights live, with the numbers of their formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import akv
from akv.optim import LAMB, SGD, Optimizer, Settings, Test
from akv.testing.harness import Hooks
from akv.testing.samples import array, same
from akv.testing.subject import Subject

__all__ = ["OptimizerTests"]


@dataclass
class Descent:
    """SGD in float64, written down once more."""

    weight: np.ndarray
    learning_rate: float
    momentum: float = 0.0
    wd: float = 0.0
    rescale_grad: float = 1.0
    clip_gradient: float = np.inf

    def __post_init__(self) -> None:
        self.weight = self.weight.astype(np.float64)
        self.velocity = np.zeros_like(self.weight)

    def step(self, grad: np.ndarray) -> np.ndarray:
        clipped = np.clip(self.rescale_grad * grad.astype(np.float64), -self.clip_gradient, self.clip_gradient)
        self.velocity = self.momentum * self.velocity - self.learning_rate * (clipped + self.wd * self.weight)
        self.weight = self.weight + self.velocity
        return self.weight


NUMBERS: list[dict[str, Any]] = [
    {"learning_rate": 0.1},
    {"learning_rate": 0.1, "momentum": 0.9},
    {"learning_rate": 0.05, "momentum": 0.9, "wd": 0.01, "rescale_grad": 0.25, "clip_gradient": 1.0},
]


class OptimizerTests(Hooks):
    @pytest.mark.parametrize("numbers", NUMBERS, ids=lambda numbers: "-".join(numbers))
    @pytest.mark.parametrize(("dtype", "tolerance"), [("f2", 1e-2), ("f4", 1e-5), ("f8", 1e-12)])
    async def test_sgd(
        self, subject: Subject, kv: akv.KVStore, numbers: dict[str, Any], dtype: str, tolerance: float
    ) -> None:
        expected = Descent(array(dtype), **numbers)
        await kv.init("w", array(dtype))
        await kv.set_optimizer(SGD(**numbers))
        for seed in range(4):
            devices = [array(dtype, seed=seed), array(dtype, seed=seed + 10)]
            expected.step(devices[0] + devices[1])
            assert await kv.push("w", devices) == seed + 2
            np.testing.assert_allclose(await kv.pull("w"), expected.weight, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(subject.peek("w"), expected.weight, rtol=tolerance, atol=tolerance)

    async def test_each_key_has_its_own_state(self, kv: akv.KVStore) -> None:
        a, b = (Descent(array(shape=(n,)), 0.1, 0.9) for n in (3, 5))
        await kv.init(["a", "b"], [array(shape=(3,)), array(shape=(5,))])
        await kv.set_optimizer(SGD(learning_rate=0.1, momentum=0.9))
        for key, descent in (("a", a), ("b", b), ("a", a), ("a", a), ("b", b)):
            grad = array(shape=descent.weight.shape, seed=4)
            await kv.push(key, grad)
            np.testing.assert_allclose(await kv.pull(key), descent.step(grad), rtol=1e-5, atol=1e-5)

    async def test_mxnets_test_optimizer(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.set_optimizer(Test(rescale_grad=2))
        await kv.push("w", [array(seed=1), array(seed=1)])
        await subject.check("w", array() + 4 * array(seed=1), version=2)

    @pytest.mark.parametrize("optimizer", [SGD(learning_rate=0.1, momentum=0.5), LAMB()], ids=lambda one: one.name)
    @pytest.mark.parametrize("devices", [1, 3])
    async def test_a_large_tensor_is_updated_as_one(self, kv: akv.KVStore, optimizer: Optimizer, devices: int) -> None:
        # 3 MiB: more than a backend will do in one slice, while the norms of LAMB are those of the whole tensor.
        weight, grad = (np.random.default_rng(seed).random((1024, 768), np.float32) for seed in (0, 1))
        await kv.init("w", weight)
        await kv.set_optimizer(optimizer)
        expected, state = weight.copy(), optimizer.create_state(weight)
        for count in (1, 2):
            await kv.push("w", [grad] * devices)
            optimizer.bind("w", count, Settings())(expected, devices * grad, state)
            np.testing.assert_allclose(await kv.pull("w"), expected, rtol=1e-5, atol=1e-6)

    async def test_the_same_again_changes_nothing(self, subject: Subject, kv: akv.KVStore) -> None:
        expected = Descent(array(), 0.5, 0.5)
        await kv.init("w", array())
        other = await subject.open()
        for handle in (kv, other, kv):
            await handle.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
            await handle.push("w", array(seed=1))
            same(await kv.pull("w"), expected.step(array(seed=1)).astype(np.float32))

    async def test_another_is_a_conflict(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.set_optimizer(SGD(learning_rate=0.5))
        other = await subject.open()
        for handle in (kv, other):
            with pytest.raises(akv.UpdaterConflict, match=r"0\.5.*0\.25"):
                await handle.set_optimizer(SGD(learning_rate=0.25))
        await kv.push("w", array())
        await subject.check("w", array() / 2)
        await kv.set_updater("assign")
        await kv.set_optimizer(SGD(learning_rate=0.25))
        await kv.push("w", array())
        await subject.check("w", array() / 4)

    async def test_set_learning_rate(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", np.zeros(3, np.float32))
        await kv.set_optimizer(SGD(learning_rate=0.5))
        await kv.push("w", np.ones(3, np.float32))
        rates: list[Any] = [0.25, np.float32(0.125), 1, 0]
        for rate in rates:
            await kv.set_learning_rate(rate)
            await kv.push("w", np.ones(3, np.float32))
        await subject.check("w", np.full(3, -0.5 - 0.25 - 0.125 - 1, np.float32), version=6)
        await kv.set_optimizer(SGD(learning_rate=0.5))

    async def test_multipliers_of_some_keys(self, subject: Subject, kv: akv.KVStore) -> None:
        value, rate = np.full(3, 4, np.float32), 0.5
        for key in ("a", "b"):
            await kv.init(key, value)
        await kv.set_optimizer(SGD(learning_rate=rate, wd=0.5, lr_mult={"a": 0.0}))
        # (lr_mult, wd_mult) that are set, then the learning rates of "a" and "b" and their weight decays.
        expected: dict[str, np.ndarray] = {"a": value, "b": value}
        for lr, wd in (({}, {}), ({"a": 1.0, "b": 0.5}, {"b": 0.0}), ({"b": 2.0}, {"a": 2.0})):
            await kv.set_lr_mult(lr)
            await kv.set_wd_mult(wd)
            for key, own in (("a", 0.0), ("b", 1.0)):
                await kv.push(key, np.ones(3, np.float32))
                step = rate * lr.get(key, own)
                expected[key] = expected[key] - step * (1 + 0.5 * wd.get(key, 1.0) * expected[key])
                await subject.check(key, expected[key].astype(np.float32))

    async def test_a_new_updater_forgets_the_state(self, subject: Subject, kv: akv.KVStore) -> None:
        optimizer = SGD(learning_rate=0.5, momentum=0.5)
        await kv.init("w", np.zeros(3, np.float32))
        for expected in (-0.5, -1.0):
            await kv.set_optimizer(optimizer)
            await kv.push("w", np.ones(3, np.float32))
            await subject.check("w", np.full(3, expected, np.float32))
            await kv.set_updater("assign")

    async def test_a_deleted_key_forgets_the_state(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
        for _ in range(2):
            await kv.init("w", np.zeros(3, np.float32))
            await kv.push("w", np.ones(3, np.float32))
            await subject.check("w", np.full(3, -0.5, np.float32))
            await kv.delete("w")

    async def test_integers_cannot_be_optimized(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array(np.int32))
        await kv.set_optimizer(SGD())
        with pytest.raises(akv.DTypeMismatch, match=r"'w'.*int32"):
            await kv.push("w", array(np.int32))
        await subject.check("w", array(np.int32), version=1)
