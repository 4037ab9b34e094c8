"""Values go in and come out: every dtype, shape and layout, into arrays of one's own and into fresh ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

import akv
from akv.testing.faces import ASYNC, ASYNC_QUEUED, BLOCKING, BLOCKING_QUEUED
from akv.testing.harness import Hooks, only
from akv.testing.samples import DTYPES, LAYOUTS, SHAPES, array, bits, layouts, same, summed
from akv.testing.subject import Subject
from akv.values.dtypes import accumulator

__all__ = ["ValueTests"]

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


class ValueTests(Hooks):
    async def test_every_bit_of_a_value_is_kept(self, subject: Subject, kv: akv.KVStore) -> None:
        for dtype in DTYPES:
            first, second, key = bits(dtype, seed=1), bits(dtype, seed=2), str(dtype)
            await kv.init(key, first)
            assert (await kv.pull(key)).tobytes() == subject.peek(key).tobytes() == first.tobytes(), dtype
            await kv.push(key, second)
            found = await kv.pull(key)
            assert found.tobytes() == subject.peek(key).tobytes() == second.tobytes(), dtype
            assert found.dtype == subject.peek(key).dtype == dtype

    async def test_values_of_several_devices_are_summed(self, subject: Subject, kv: akv.KVStore) -> None:
        for dtype in DTYPES:
            values = [array(dtype, seed=seed) for seed in range(3)]
            await kv.init(str(dtype), array(dtype))
            assert await kv.push(str(dtype), values) == 2
            await subject.check(str(dtype), summed(*values), version=2)

    async def test_small_floats_are_summed_in_float32(self, kv: akv.KVStore) -> None:
        # In the dtype itself one at a time would be lost beside a large number.
        for dtype in [dtype for dtype in DTYPES if accumulator(dtype) != dtype]:
            parts = [np.full(3, 128, dtype), *[np.full(3, 0.03125, dtype)] * 1024]
            await kv.init(str(dtype), np.zeros(3, dtype))
            await kv.push(str(dtype), parts)
            same(await kv.pull(str(dtype)), np.full(3, 160, np.float32).astype(dtype))

    async def test_integers_wrap_around(self, kv: akv.KVStore) -> None:
        await kv.init("w", np.zeros(2, np.uint8))
        await kv.push("w", [np.full(2, 200, np.uint8)] * 2)
        same(await kv.pull("w"), np.full(2, 144, np.uint8))

    @every_shape
    async def test_shapes(self, subject: Subject, kv: akv.KVStore, shape: tuple[int, ...]) -> None:
        first, second = array(shape=shape), array(shape=shape, seed=1)
        await kv.init("w", first)
        await subject.check("w", first, version=1)
        await kv.push("w", [second, second])
        await subject.check("w", second + second, version=2)
        out = np.full(shape, -1, np.float64)
        assert await kv.pull("w", out) is out
        same(out, (second + second).astype(np.float64))

    @every_shape
    async def test_info(self, kv: akv.KVStore, shape: tuple[int, ...]) -> None:
        await kv.init("w", array(np.int16, shape))
        info = await kv.info("w")
        assert (info.shape, info.dtype, info.version) == (shape, np.int16, 1)
        assert info.nbytes == 2 * math.prod(shape)
        assert info.where

    @pytest.mark.parametrize("layout", LAYOUTS)
    async def test_layouts_of_what_is_pushed(self, subject: Subject, kv: akv.KVStore, layout: str) -> None:
        first, second = array(), array(seed=1)
        await kv.init("w", layouts(first)[layout])
        await subject.check("w", first)
        await kv.push("w", layouts(second)[layout])
        await subject.check("w", second)
        await kv.push("w", [layouts(second)[layout], second])
        await subject.check("w", second + second)

    async def test_broadcast_input(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", np.broadcast_to(np.float32(3), (2, 3)))
        await kv.push("w", np.broadcast_to(np.array([1, 2, 3], np.float32), (2, 3)))
        await subject.check("w", np.array([[1, 2, 3]] * 2, np.float32))

    @pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "read-only"])
    async def test_layouts_of_out(self, kv: akv.KVStore, layout: str) -> None:
        value = array()
        await kv.init("w", value)
        out = layouts(np.zeros((2, 3), np.float32))[layout]
        assert await kv.pull("w", out=out) is out
        assert np.array_equal(out, value)

    async def test_pull_casts_to_the_dtype_of_out(self, kv: akv.KVStore) -> None:
        for dtype in DTYPES:
            value = array(dtype)
            await kv.init(str(dtype), value)
            for wanted in DTYPES:
                if wanted.kind == "c" or dtype.kind != "c":
                    out = np.zeros((2, 3), wanted)
                    await kv.pull(str(dtype), out=out)
                    same(out, value.astype(wanted))

    async def test_several_outs(self, kv: akv.KVStore) -> None:
        await kv.init("w", value := array())
        outs = [np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int8), np.zeros((3, 2), np.float64).T]
        assert await kv.pull("w", outs) is outs
        for out in outs:
            assert np.array_equal(out, value)

    async def test_numpy_scalars_are_values(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", np.float32(1.5))
        await kv.push("w", [np.float32(1), np.float32(2)])
        await subject.check("w", np.array(3, np.float32))

    async def test_donated_values(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        for number, value in enumerate([array(seed=1), array(seed=2).T.copy().T, np.asfortranarray(array(seed=3))]):
            expected = value.copy()
            assert await kv.push("w", value, donate=True) == number + 2
            await subject.check("w", expected)
        await kv.push("w", [array(), array()], donate=True)
        await subject.check("w", array() + array())
        await kv.set_updater("add")
        await kv.push("w", array(), donate=True)
        await subject.check("w", 3 * array())

    async def test_pushpull(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        out = np.zeros((2, 3), np.float64)
        assert await kv.pushpull("w", [array(seed=1), array(seed=2)], out) is out
        expected = array(seed=1) + array(seed=2)
        same(out, expected.astype(np.float64))
        await subject.check("w", expected, version=2)

    @only(ASYNC, ASYNC_QUEUED)
    async def test_pushpull_without_out_makes_a_fresh_array(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.set_updater("add")
        pushed = array(seed=1)
        same(await kv.pushpull("w", pushed), array() + array(seed=1))
        same(pushed, array(seed=1))

    @only(BLOCKING, BLOCKING_QUEUED)
    async def test_pushpull_without_out_writes_to_what_was_pushed(self, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        await kv.set_updater("add")
        pushed = [array(seed=1), array(seed=2)]
        assert await kv.pushpull("w", pushed) is pushed
        for value in pushed:
            same(value, array() + array(seed=1) + array(seed=2))

    async def test_broadcast_gives_the_value_of_the_first(self, subject: Subject, kv: akv.KVStore) -> None:
        same(await kv.broadcast("w", array()), array())
        other = await subject.open()
        out = np.zeros((2, 3), np.float32)
        assert await other.broadcast("w", array(seed=1), out) is out
        same(out, array())
        await subject.check("w", array(), version=1)

    async def test_a_pull_reads_what_is_stored(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        out = np.zeros((2, 3), np.float32)
        for seed in range(3):
            subject.poke("w", array(seed=seed))
            same(await kv.pull("w"), array(seed=seed))
            await kv.pull("w", out)
            same(out, array(seed=seed))
