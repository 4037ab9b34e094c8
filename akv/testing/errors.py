"""Bad input: the named error, with the key and the numbers, and the store as it was."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import akv
from akv import sync
from akv.testing.bad_calls import BAD_CALLS, BAD_ROW_CALLS, STORED, BadCall
from akv.testing.faces import ASYNC, ASYNC_QUEUED, BLOCKING, BLOCKING_QUEUED
from akv.testing.harness import Hooks, needs_rows, only
from akv.testing.samples import array, same
from akv.testing.subject import Subject
from akv.values.keys import Key

__all__ = ["ErrorTests"]


class ErrorTests(Hooks):
    @pytest.mark.parametrize("bad", BAD_CALLS, ids=str)
    async def test_bad_calls(self, subject: Subject, kv: akv.KVStore, bad: BadCall) -> None:
        await _refuses(subject, kv, bad)

    @needs_rows
    @pytest.mark.parametrize("bad", BAD_ROW_CALLS, ids=str)
    async def test_bad_row_calls(self, subject: Subject, kv: akv.KVStore, bad: BadCall) -> None:
        await _refuses(subject, kv, bad)

    async def test_snapshot_of_an_unknown_key(self, kv: akv.KVStore) -> None:
        with pytest.raises(akv.KeyNotFound if kv.is_capable("snapshots") else akv.InvalidArgument):
            await kv.snapshot("nope")

    async def test_an_init_by_another_handle_must_be_alike(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())
        other = await subject.open()
        for value in (array(shape=(3, 2)), array(shape=(6,)), array(np.float64)):
            with pytest.raises(akv.KeyExists, match=r"'w'.*float32.*\(2, 3\)"):
                await other.init("w", value)
        await other.init("w", array(seed=1))
        await subject.check("w", array(), version=1)
        with pytest.raises(akv.KeyExists, match="'w'"):
            await other.init("w", array())

    async def test_keys_of_both_kinds_at_the_same_time(self, kv: akv.KVStore) -> None:
        keys: list[Key] = ["a", 1, "b", 2]
        big = np.zeros(1 << 20, np.float32)

        async def init(key: Key) -> None:
            await kv.init(key, big)

        outcomes = await asyncio.gather(*[init(key) for key in keys], return_exceptions=True)
        assert sum(isinstance(outcome, akv.KeyTypeError) for outcome in outcomes) == 2
        assert len({type(key) for key in await kv.keys()}) == 1

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("shape", [(2, 3), (1024, 1024)], ids=str)
    async def test_nonfinite_values_are_rejected(self, subject: Subject, value: float, shape: tuple[int, ...]) -> None:
        kv = await self._screened(subject, "reject")
        bad = array(shape=shape)
        bad[-1, -1] = value
        await kv.init("w", array(shape=shape))
        for updater in ("assign", "add"):
            await kv.set_updater(updater)
            for pushed in (bad, [array(shape=shape), bad], akv.RowSparse(range(len(bad)), bad, shape)):
                with pytest.raises(akv.NonFinite, match="'w': 1 "):
                    await kv.push("w", pushed)
        await subject.check("w", array(shape=shape), version=1)

    async def test_nonfinite_values_are_skipped(self, subject: Subject) -> None:
        kv = await self._screened(subject, "skip")
        await kv.init("w", array())
        assert await kv.push("w", np.full((2, 3), np.nan, np.float32)) == 1
        assert await kv.push("w", array(seed=1)) == 2
        await subject.check("w", array(seed=1), version=2)

    @only(ASYNC, ASYNC_QUEUED)
    async def test_a_closed_handle_refuses_every_verb(self, subject: Subject, kv: akv.KVStore) -> None:
        witness = await subject.open()
        await witness.init("w", array())
        await kv.aclose()
        await kv.aclose()
        for name, args in VERBS.items():
            with pytest.raises(akv.StoreClosed, match=name):
                await getattr(kv, name)(*args)
        with pytest.raises(akv.StoreClosed):
            await anext(kv.watch("w"))
        await subject.check("w", array(), version=1)

    @only(BLOCKING, BLOCKING_QUEUED)
    async def test_a_closed_blocking_handle_refuses_every_verb(self, subject: Subject) -> None:
        witness, store = subject.open_blocking(), subject.open_blocking()
        witness.init("w", array())
        store.close()
        store.close()
        for name, args in VERBS.items():
            with pytest.raises(akv.StoreClosed, match=name):
                getattr(store, name)(*args)
        with pytest.raises(akv.StoreClosed):
            next(store.watch("w"))
        await subject.check("w", array(), version=1)

    @only(ASYNC, ASYNC_QUEUED)
    async def test_a_handle_belongs_to_its_loop(self, subject: Subject, kv: akv.KVStore) -> None:
        await kv.init("w", array())

        def elsewhere() -> None:
            async def use() -> None:
                with pytest.raises(akv.WrongLoop, match="loop"):
                    await kv.pull("w")

            asyncio.run(use())

        await asyncio.to_thread(elsewhere)
        same(await kv.pull("w"), array())

    async def test_unknown_words(self, subject: Subject, kv: akv.KVStore) -> None:
        for word in ("optimizer", "OPTIMIZER", "rows", "tables", "snapshots", "watch", "collective"):
            assert kv.is_capable(word) in (True, False)
        unknown: list[Any] = ["teleport", "", None]
        for word in unknown:
            with pytest.raises(akv.InvalidArgument, match="snapshots"):
                kv.is_capable(word)
        with pytest.raises(akv.InvalidArgument, match="unheard_of"):
            await subject.open(unheard_of=1)
        with pytest.raises(akv.InvalidArgument, match="inline"):
            sync.connect(subject.url, inline="perhaps")
        with pytest.raises(akv.InvalidArgument, match="timeout"):
            sync.connect(subject.url, timeout=-1)

    async def _screened(self, subject: Subject, what: str) -> akv.KVStore:
        try:
            return await subject.open(on_nonfinite=what)
        except akv.InvalidArgument:
            pytest.skip("this backend has no option on_nonfinite")


async def _refuses(subject: Subject, kv: akv.KVStore, bad: BadCall) -> None:
    await kv.init(list(STORED), list(STORED.values()))
    with pytest.raises(bad.error) as caught:
        await bad.call(kv)
    for fragment in bad.text:
        assert fragment in str(caught.value)
    assert await kv.keys() == list(STORED)
    for key, value in STORED.items():
        await subject.check(key, value, version=1)
    # The next call is right: nothing was left locked, and the updater is the one it was.
    assert await kv.push("w", array(seed=1)) == 2
    await subject.check("w", array(seed=1))


VERBS: dict[str, tuple[Any, ...]] = {
    "init": ("v", array()),
    "push": ("w", array()),
    "pull": ("w",),
    "pushpull": ("w", array()),
    "broadcast": ("v", array()),
    "row_sparse_pull": ("w", None, 0, [0]),
    "snapshot": ("w",),
    "set_updater": ("add",),
    "set_optimizer": (akv.optim.SGD(),),
    "set_learning_rate": (0.1,),
    "set_lr_mult": ({"w": 0.5},),
    "set_wd_mult": ({"w": 0.5},),
    "wait_version": ("w", 1),
    "keys": (),
    "info": ("w",),
    "delete": ("w",),
    "barrier": (),
    "flush": (),
}
