"""Opening and closing: nothing scheduled is lost, and values last as long as the backend says."""

from __future__ import annotations

import numpy as np
import pytest

import akv
from akv.testing.faces import ASYNC, ASYNC_QUEUED
from akv.testing.harness import Hooks, only
from akv.testing.samples import DTYPES, SHAPES, array, bits, same
from akv.testing.subject import Subject

__all__ = ["LifetimeTests"]


class LifetimeTests(Hooks):
    async def test_an_empty_store(self, subject: Subject, kv: akv.KVStore) -> None:
        assert await kv.keys() == []
        assert kv.type
        assert (kv.rank, kv.num_workers) == (0, 1)
        assert subject.url.partition("?")[0] in repr(kv) or subject.face.blocking

    async def test_closing_one_handle_leaves_the_others(self, subject: Subject, kv: akv.KVStore) -> None:
        other = await subject.open()
        await other.init("w", array())
        await other.aclose()
        same(await kv.pull("w"), array())

    @only(ASYNC, ASYNC_QUEUED)
    async def test_closing_drains(self, subject: Subject, kv: akv.KVStore) -> None:
        big = np.ones(1 << 20, np.float32)
        other = await subject.open_async()
        other.init("w", big)
        pending = [other.push("w", number * big) for number in range(4)]
        await other.aclose()
        assert [await each for each in pending] == [2, 3, 4, 5]
        await subject.check("w", 3 * big, version=5)

    @only(ASYNC, ASYNC_QUEUED)
    async def test_closing_raises_what_nobody_has_seen(self, subject: Subject, kv: akv.KVStore) -> None:
        other = await subject.open_async()
        other.push("nope", array())
        with pytest.raises(akv.KeyNotFound, match="nope"):
            await other.aclose()
        with pytest.raises(akv.StoreClosed):
            await other.keys()

    async def test_values_last(self, subject: Subject, kv: akv.KVStore) -> None:
        self._has_to_last()
        values = [bits(dtype) for dtype in DTYPES] + [array(shape=shape) for shape in SHAPES]
        names = [f"{value.dtype} {value.shape}" for value in values]
        await kv.init(names, values)
        assert await kv.push(names, values) == [2] * len(names)
        await subject.close()
        kv = await subject.open()
        assert sorted(map(str, await kv.keys())) == sorted(names)
        for name, value in zip(names, values, strict=True):
            info, found = await kv.info(name), await kv.pull(name)
            assert (info.shape, info.dtype, info.version) == (value.shape, value.dtype, 2)
            assert (found.shape, found.dtype, found.tobytes()) == (value.shape, value.dtype, value.tobytes())
        assert await kv.push(names, values) == [3] * len(names)

    async def test_integer_keys_last(self, subject: Subject, kv: akv.KVStore) -> None:
        self._has_to_last()
        await kv.init([3, -4], [array(), array(seed=1)])
        await subject.close()
        kv = await subject.open()
        assert {3, -4} == set(await kv.keys())
        same(await kv.pull(3), array())
        with pytest.raises(akv.KeyTypeError):
            await kv.init("w", array())

    async def test_versions_do_not_go_back_by_a_delete_and_a_new_opening(
        self, subject: Subject, kv: akv.KVStore
    ) -> None:
        self._has_to_last()
        await kv.init(["w", "v"], [array(), array()])
        assert await kv.push("w", array()) == 2
        await kv.delete("w")
        await subject.close()
        kv = await subject.open()
        assert await kv.keys() == ["v"]
        await kv.init("w", array(seed=1))
        await subject.check("w", array(seed=1), version=3)

    async def test_a_new_handle_may_init_what_lasts(self, subject: Subject, kv: akv.KVStore) -> None:
        self._has_to_last()
        await kv.init("w", array())
        await subject.close()
        kv = await subject.open()
        await kv.init("w", array(seed=1))
        await subject.check("w", array(), version=1)

    def _has_to_last(self) -> None:
        if not self.lasting:
            pytest.skip("this backend's values end with the last handle")
