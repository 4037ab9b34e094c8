"""Checkpoints: what is saved comes back, with versions and the optimizer's states. A capability: checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import akv
from akv.optim import SGD
from akv.testing.harness import Hooks, needs_checkpoints
from akv.testing.samples import DTYPES, SHAPES, array, bits
from akv.testing.subject import Subject

__all__ = ["CheckpointTests"]


class CheckpointTests(Hooks):
    @needs_checkpoints
    async def test_every_value_comes_back(self, subject: Subject, kv: akv.KVStore, tmp_path: Path) -> None:
        values = [bits(dtype) for dtype in DTYPES] + [array(shape=shape) for shape in SHAPES]
        names = [f"{value.dtype} {value.shape}" for value in values]
        await kv.init(names, values)
        await kv.save(tmp_path / "saved")
        await kv.push(names, [np.zeros_like(value) for value in values])
        await kv.delete(names[::2])
        await kv.init("other", array())
        await kv.load(tmp_path / "saved")
        for name, value in zip(names, values, strict=True):
            assert (await kv.pull(name)).tobytes() == subject.peek(name).tobytes() == value.tobytes(), name
            assert (await kv.info(name)).dtype == value.dtype
        await subject.check("other", array(), version=1)

    @needs_checkpoints
    async def test_versions_only_go_up(self, subject: Subject, kv: akv.KVStore, tmp_path: Path) -> None:
        await kv.init(["pushed", "kept", "deleted"], [array(), array(), array()])
        assert await kv.push("kept", array(seed=1)) == 2
        await kv.save(tmp_path / "saved")
        assert await kv.push(["pushed", "pushed", "pushed"], [array()] * 3) == [2, 2, 2]
        await kv.delete("deleted")
        await kv.load(tmp_path / "saved")
        await subject.check("kept", array(seed=1), version=3)
        await subject.check("pushed", array(), version=3)
        await subject.check("deleted", array(), version=2)
        assert await kv.push("deleted", array()) == 3

    @needs_checkpoints
    async def test_the_optimizer_goes_on_where_it_was(self, subject: Subject, kv: akv.KVStore, tmp_path: Path) -> None:
        await kv.init("w", np.zeros(3, np.float32))
        await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
        ones = np.ones(3, np.float32)
        await kv.push("w", ones)
        await kv.save(tmp_path / "saved")
        await kv.push("w", ones)
        await kv.set_updater("assign")
        await kv.load(tmp_path / "saved")
        await subject.check("w", -0.5 * ones)
        await kv.push("w", ones)
        # The momentum was -0.5, and is half of that and another -0.5 now.
        await subject.check("w", -1.25 * ones)

    @needs_checkpoints
    async def test_optimizer_states_alone(self, subject: Subject, kv: akv.KVStore, tmp_path: Path) -> None:
        await kv.init("w", np.zeros(3, np.float32))
        await kv.set_optimizer(SGD(learning_rate=0.5, momentum=0.5))
        ones = np.ones(3, np.float32)
        await kv.push("w", ones)
        await kv.save_optimizer_states(tmp_path / "saved")
        for _ in range(3):
            await kv.push("w", ones)
        weight = await kv.pull("w")
        await kv.load_optimizer_states(tmp_path / "saved")
        await subject.check("w", weight)
        await kv.push("w", 0 * ones)
        await subject.check("w", weight - 0.25 * ones)

    @needs_checkpoints
    async def test_a_save_has_what_came_before_it(self, subject: Subject, kv: akv.KVStore, tmp_path: Path) -> None:
        kv.init("w", array())
        kv.push("w", array(seed=1))
        kv.save(tmp_path / "saved")
        kv.push("w", array(seed=2))
        await kv.flush()
        await subject.check("w", array(seed=2), version=3)
        await kv.load(tmp_path / "saved")
        await subject.check("w", array(seed=1), version=4)

    @needs_checkpoints
    async def test_what_cannot_be_loaded_changes_nothing(
        self, subject: Subject, kv: akv.KVStore, tmp_path: Path
    ) -> None:
        await kv.init(["a", "b"], [array(), array()])
        await kv.save(tmp_path / "saved")
        await kv.delete("b")
        await kv.init("b", array(shape=(3, 2)))
        with pytest.raises(akv.ShapeMismatch, match="'b'"):
            await kv.load(tmp_path / "saved")
        for name in ("nowhere", "saved/not/there"):
            with pytest.raises(akv.AkvError, match=name):
                await kv.load(tmp_path / name)
        await subject.check("a", array(), version=1)
        await subject.check("b", array(shape=(3, 2)), version=2)
