"""AKV_DEBUG=1: what was pushed is read-only until its awaitable is done."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from store_cases import Gate, jammed, named, ones, until

import akv
from akv.guard import GUARD


@pytest.fixture(autouse=True)
def debug(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AKV_DEBUG", "1")
    # Not empty: the backends that are broken on purpose never end some operations.
    before = [len(kept) for kept in (GUARD._lent, GUARD._loans, GUARD._late)]
    yield
    assert [len(kept) for kept in (GUARD._lent, GUARD._loans, GUARD._late)] == before


def write(array: np.ndarray) -> None:
    array[...] = 9


class TestLoan:
    @pytest.mark.parametrize(
        "call",
        [
            lambda kv, array: kv.push("a", array),
            lambda kv, array: kv.push("a", [ones(), array]),
            lambda kv, array: kv.push(["b", "a"], [ones(), array]),
            lambda kv, array: kv.pushpull("a", array),
            lambda kv, array: kv.init("new", array),
            lambda kv, array: kv.broadcast("new", array),
        ],
    )
    async def test_a_write_meanwhile_is_an_error(self, call: Callable[[akv.KVStore, np.ndarray], Any]) -> None:
        async with jammed() as (kv, gate):
            array = ones()
            done = call(kv, array)
            with pytest.raises(ValueError, match="read-only"):
                write(array)
            gate.open()
            await done
            write(array)

    async def test_rows(self) -> None:
        async with jammed() as (kv, gate):
            rows = akv.RowSparse(np.array([0, 2]), np.ones(2, np.float32), (4,))
            done = kv.push("a", rows)
            for array in (rows.indices, rows.values):
                with pytest.raises(ValueError, match="read-only"):
                    write(array)
            gate.open()
            await done
            write(rows.values)
            rows.indices[...] = 1

    async def test_an_array_pushed_twice_is_released_with_the_second(self) -> None:
        async with jammed() as (kv, gate):
            array = ones()
            first, second, third = kv.push("a", array), kv.push("gate", array), kv.push("a", [array, array])
            gate.open()
            await first
            await third
            with pytest.raises(ValueError, match="read-only"):
                write(array)
            gate.open("gate")
            await second
            write(array)

    async def test_two_stores(self) -> None:
        async with jammed() as (one, gate), jammed() as (other, other_gate):
            array = ones()
            pushes = one.push("a", array), other.push("a", array)
            gate.open()
            await pushes[0]
            with pytest.raises(ValueError, match="read-only"):
                write(array)
            other_gate.open()
            await pushes[1]
            write(array)

    async def test_what_was_read_only_stays_so(self) -> None:
        async with jammed() as (kv, gate):
            array = ones()
            array.flags.writeable = False
            pushes = [kv.push("a", array), kv.push("b", array)]
            gate.open()
            for push in pushes:
                await push
            assert not array.flags.writeable

    @pytest.mark.parametrize("owner_ends", ["first", "last", "with the view"])
    async def test_an_array_and_a_view_of_it(self, owner_ends: str) -> None:
        """numpy makes a view writable only while the owner of its memory is."""
        owner = ones()
        view = owner[:]
        async with jammed() as (kv, gate):
            if owner_ends == "with the view":
                pushes = [kv.push("a", [view, owner, view])]
            else:
                early, late = (owner, view) if owner_ends == "first" else (view, owner)
                pushes = [kv.push("a", early), kv.push("gate", late)]
            gate.open()
            await pushes[0]
            gate.open("gate")
            await pushes[-1]
        write(view)
        write(owner)

    async def test_what_shares_memory_with_others(self) -> None:
        """Results of broadcasting, buffers, read-only bytes: all as before."""
        broadcast = np.broadcast_arrays(np.float32(1), ones())[0]
        arrays = [broadcast, np.frombuffer(bytearray(16), np.float32), np.frombuffer(bytes(16), np.float32)]
        before = [array.flags.num & 0x400 for array in arrays]
        async with jammed() as (kv, gate):
            pushes = [kv.push("a", array) for array in arrays]
            gate.open()
            for push in pushes:
                await push
        assert [array.flags.num & 0x400 for array in arrays] == before

    async def test_tensors(self) -> None:
        """Memory that numpy could not make writable again is not touched."""
        torch = pytest.importorskip("torch")
        async with jammed() as (kv, gate):
            tensor = torch.ones(4)
            array = tensor.numpy()
            pushes = [kv.push("a", tensor), kv.push("a", array)]
            gate.open()
            for push in pushes:
                await push
            assert array.flags.writeable


class TestRelease:
    async def test_after_an_error(self) -> None:
        async with jammed() as (kv, gate):
            array = np.ones(5, np.float32)
            done = kv.push("a", array)
            gate.open()
            with pytest.raises(akv.ShapeMismatch):
                await done
            write(array)

    async def test_after_a_withdrawal(self) -> None:
        async with jammed() as (kv, _):
            array = ones()
            kv.push("a", array).cancel()
            write(array)

    async def test_after_a_time_out(self) -> None:
        async with jammed(url := named()) as (_, gate):
            kv, array = await akv.connect(url, timeout=0.01), ones()
            with pytest.raises(akv.AkvTimeout):
                await kv.push("a", array)
            write(array)
            gate.open()

    async def test_after_a_close(self) -> None:
        async with jammed() as (kv, gate):
            array = ones()
            done = kv.push("a", array)
            kv.engine.withdraw_all(kv._line)
            with pytest.raises(akv.StoreClosed):
                await done
            write(array)
            gate.open()

    async def test_a_full_queue_borrows_nothing(self) -> None:
        async with jammed(max_queued=1) as (kv, gate):
            array, other = ones(), ones()
            done = kv.push("a", array)
            with pytest.raises(akv.QueueFull):
                kv.push("a", other)
            write(other)
            gate.open()
            await done

    async def test_nothing_is_kept(self) -> None:
        gc.collect()
        async with jammed() as (kv, gate):
            array = ones()
            gone = weakref.ref(array)
            done = kv.push("a", array)
            gate.open()
            await done
            del done, array
            await until(lambda: gone() is None)


class TestNotBorrowed:
    async def test_what_is_done_at_once(self) -> None:
        async with akv.connect("memory://") as kv:
            array = ones()
            kv.init("a", array)
            write(array)
            kv.push("a", array)
            write(array)

    async def test_what_is_donated(self) -> None:
        """It is the store's for good, which may write to it."""
        async with jammed() as (kv, gate):
            array = ones()
            done = kv.push("a", array, donate=True)
            assert array.flags.writeable
            gate.open()
            await done

    async def test_an_out_of_the_same_call(self) -> None:
        async with jammed() as (kv, gate):
            array, other = ones(3), ones()
            pushes = [kv.pushpull("a", array, out=array), kv.broadcast("new", other, out=[other, ones()])]
            gate.open()
            for push in pushes:
                await push
            assert (array == 3).all()

    async def test_without_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for value in (None, "", "0"):
            if value is None:
                monkeypatch.delenv("AKV_DEBUG")
            else:
                monkeypatch.setenv("AKV_DEBUG", value)
            async with jammed() as (kv, gate):
                monkeypatch.setenv("AKV_DEBUG", "1")  # read once, when the store was opened
                array = ones()
                done = kv.push("a", array)
                assert array.flags.writeable
                gate.open()
                await done

    async def test_the_updater_sees_it_read_only_anyway(self) -> None:
        gate = Gate()
        async with akv.connect("memory://") as kv:
            await kv.init("a", ones())
            await kv.set_updater(lambda key, pushed, stored: (gate(key, pushed, stored), write(pushed)))
            with pytest.raises(ValueError, match="read-only"):
                await kv.push("a", ones())
