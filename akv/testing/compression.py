"""Gradient compression: what arrives, and that what was left out comes later. A capability: compression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import akv
from akv.testing.harness import Hooks, needs_compression
from akv.testing.samples import array
from akv.testing.subject import Subject

__all__ = ["CompressionTests"]

TWO_BIT = {"type": "2bit", "threshold": 0.5}


class CompressionTests(Hooks):
    @needs_compression
    async def test_2bit_sends_what_mxnet_would(self, subject: Subject, kv: akv.KVStore) -> None:
        grad = np.array([0.25, 0.75, -0.875, 0.0625, -0.5], np.float32)
        await kv.init("w", np.zeros(5, np.float32))
        await kv.set_gradient_compression(TWO_BIT)
        # Of the gradient, then of it and what was left out, [0.5, 1, -1.25, 0.125, -0.5], then of
        # [0.25, 1.25, -1.625, 0.1875, -0.5].
        for sent in ([0, 0.5, -0.5, 0, -0.5], [0.5, 0.5, -0.5, 0, -0.5], [0, 0.5, -0.5, 0, -0.5]):
            await kv.push("w", grad)
            await subject.check("w", np.array(sent, np.float32))

    @needs_compression
    @pytest.mark.parametrize(
        "spec", [TWO_BIT, {"type": "1bit", "threshold": 0.0}, {"type": "fp16"}, {"type": "int8"}], ids=str
    )
    async def test_nothing_is_lost_in_the_long_run(
        self, subject: Subject, kv: akv.KVStore, spec: dict[str, Any]
    ) -> None:
        grad = np.linspace(-0.4, 0.4, 9, dtype=np.float32)
        await kv.init("w", np.zeros(9, np.float32))
        await kv.set_updater("add")
        await kv.set_gradient_compression(spec)
        for _ in range(50):
            await kv.push("w", grad)
        # What is missing is the residual, which stays within two steps.
        np.testing.assert_allclose(await kv.pull("w"), 50 * grad, atol=2)

    @needs_compression
    async def test_inits_are_not_compressed(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.init("w", array())
        await subject.check("w", array(), version=1)

    @needs_compression
    async def test_each_key_has_its_own_residual(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [np.zeros(2, np.float32)] * 2)
        await kv.set_gradient_compression(TWO_BIT)
        quarter = np.full(2, 0.25, np.float32)
        await kv.push(["a", "b"], [quarter, quarter])
        await kv.push("a", quarter)
        await subject.check("a", np.full(2, 0.5, np.float32))
        await subject.check("b", np.zeros(2, np.float32))

    @needs_compression
    async def test_an_error_leaves_the_residual_as_it_was(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["a", "b"], [np.zeros(2, np.float32)] * 2)
        await kv.set_gradient_compression(TWO_BIT)
        quarter = np.full(2, 0.25, np.float32)
        with pytest.raises(akv.ShapeMismatch):
            await kv.push(["a", "b"], [quarter, np.zeros(3, np.float32)])
        await kv.push("a", quarter)
        await subject.check("a", np.zeros(2, np.float32), version=2)

    @needs_compression
    async def test_the_same_again_and_another(self, subject: Subject, kv: akv.KVStore) -> None:
        other = await subject.open()
        for handle in (kv, kv, other):
            await handle.set_gradient_compression(TWO_BIT)
        with pytest.raises(akv.CompressionConflict):
            await other.set_gradient_compression({"type": "fp16"})
        unknown: list[Any] = [{"type": "3bit"}, {"type": "2bit", "threshold": -1}, {}, "2bit", None]
        for spec in unknown:
            with pytest.raises(akv.InvalidArgument):
                await kv.set_gradient_compression(spec)

    @needs_compression
    async def test_what_cannot_be_compressed(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init(["rows", "ints"], [array(), array(np.int32)])
        await kv.set_gradient_compression(TWO_BIT)
        with pytest.raises(akv.AkvError, match="'rows'"):
            await kv.push("rows", akv.RowSparse([1], np.ones((1, 3), np.float32), (2, 3)))
        with pytest.raises(akv.DTypeMismatch, match="'ints'"):
            await kv.push("ints", array(np.int32))
        await subject.check("rows", array(), version=1)
        await subject.check("ints", array(np.int32), version=1)
