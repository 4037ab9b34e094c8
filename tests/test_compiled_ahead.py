"""What numba compiles is compiled when an optimizer or a compression is set, in a thread; no push waits for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from compression_cases import SPECS
from optim_cases import arithmetic
from tcp_cases import serving

import akv
from akv import optim
from akv.compression import Compression, compiled, from_spec
from akv.optim import Optimizer
from akv.optim.compiled import compiled as compiled_loop

pytest.importorskip("numba")

FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
TWO_BIT = {"type": "2bit"}


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.dtype[Any], bool]]:
    """The dtypes that were compiled for, and whether that was in the thread that runs the loop."""
    seen: list[tuple[np.dtype[Any], bool]] = []

    def note(self: object, dtype: np.dtype[Any]) -> None:
        seen.append((dtype, threading.current_thread() is threading.main_thread()))

    monkeypatch.setattr(Optimizer, "prepare", note)
    monkeypatch.setattr(Compression, "prepare", note)
    return seen


@pytest.mark.parametrize(
    "optimizer", [optim.SGD(momentum=0.9), optim.Adam(), optim.LAMB(), optim.RMSProp(centered=True)]
)
async def test_the_first_push_compiles_nothing(optimizer: Optimizer) -> None:
    with arithmetic("numba"):
        async with akv.connect("memory://") as kv:
            await kv.init(["a", "b"], [np.ones(3, np.float32), np.ones(3, np.float64)])
            await kv.set_optimizer(optimizer)
            before = compiled_loop.cache_info().misses
            await kv.push(["a", "b"], [np.ones(3, np.float32), np.ones(3, np.float64)])
            assert compiled_loop.cache_info().misses == before > 0


@pytest.mark.parametrize("url", ["memory://", "memory://?inline=no"])
async def test_for_the_dtypes_that_are_there_and_not_on_the_loop(url: str, prepared: list[Any]) -> None:
    values = [np.ones(2, dtype) for dtype in ("float16", "float64", "int32")]
    async with akv.connect(url) as kv:
        await kv.init(["h", "d", "i"], values)
        await kv.set_optimizer(optim.Adam())
        assert sorted(prepared, key=str) == [(dtype, False) for dtype in FLOATS]
        prepared.clear()
        await kv.set_optimizer(optim.Adam())
        assert prepared == []  # it is set already
        await kv.set_gradient_compression({**TWO_BIT, "pull": "int8"})
        assert sorted(prepared, key=str) == [(dtype, False) for dtype in FLOATS for _ in range(2)]


async def test_the_loop_goes_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(Optimizer, "prepare", lambda self, dtype: gate.wait(10))
    async with akv.connect("memory://") as kv:
        await kv.init("w", np.ones(2))
        setting = kv.set_optimizer(optim.SGD(learning_rate=1.0))
        push = kv.push("w", np.ones(2))  # comes after it
        await asyncio.sleep(0.01)
        assert not setting.done()
        gate.set()
        await push
        assert (await kv.pull("w")).tolist() == [0.0, 0.0]


async def test_a_client_packs_nothing_on_its_loop_before_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    encode = Compression.encode

    def note(self: Compression, grad: Any, residual: Any, out: Any) -> int:
        threads.append(threading.current_thread() is threading.main_thread())
        return encode(self, grad, residual, out)

    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(8, np.float64))
        await kv.set_gradient_compression(TWO_BIT)
        monkeypatch.setattr(Compression, "encode", note)
        for _ in range(3):
            threads.clear()
            await kv.push("w", np.ones(8, np.float64))
        assert threads == [True]  # float64 was not expected, but is ready by now


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_prepare_meets_every_kind_of_array(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only and not, contiguous and not, long and short: each would be compiled for by itself."""
    codec = from_spec(spec)
    monkeypatch.setenv("AKV_NUMBA", "1")
    kernels: Any = compiled.kernels()
    for dtype in FLOATS:
        codec.prepare(dtype)
    before = [len(loop.signatures) for loop in kernels]
    for size in (1, codec.granule, 3 * codec.granule + 5):
        for dtype in ("float16", "float32", "float64"):
            grad = np.linspace(-1, 1, size).astype(dtype)
            residual = np.zeros(size, np.float64 if dtype == "float64" else np.float32)
            packed = np.empty(codec.packed_nbytes(size), np.uint8)
            for one in (grad, _read_only(grad)):
                codec.encode(one, residual, packed)
                if not codec.needs_residual:
                    codec.encode(one, None, packed)
            for memory in (packed, packed.tobytes()):
                codec.decode(memory, grad)
                codec.add_decoded(memory, grad)
    assert [len(loop.signatures) for loop in kernels] == before


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
