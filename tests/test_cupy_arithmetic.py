"""What a store on devices makes of what is pushed is what `memory://` makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from cupy_cases import backend_of, machine_of, provider, simulated

import akv
from akv.optim import LAMB, LARS, SGD, AdaDelta, AdaGrad, Adam, AdamW, Ftrl, RMSProp, Signum, Test
from akv.testing.samples import DTYPES, array
from akv_cupy import arithmetic, compressed, kernels, updating

# Arithmetic knows no loop.
one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])
SHAPE = (7, 33)
FLOATS = [dtype for dtype in DTYPES if dtype.name in ("float16", "bfloat16", "float32", "float64")]
URL = "simulated://0,1/arithmetic"


@pytest_asyncio.fixture
async def both() -> AsyncIterator[tuple[akv.KVStore, akv.KVStore]]:
    """A store on devices, and its model."""
    provider()
    with simulated("0,1/arithmetic") as url:
        async with akv.connect(url) as kv, akv.connect("memory://") as model:
            yield kv, model


def noise(dtype: Any, seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).astype(dtype)


async def agree(both: tuple[akv.KVStore, akv.KVStore], key: str, *, exact: bool = False) -> None:
    found, expected = [await kv.pull(key) for kv in both]
    assert found.dtype == expected.dtype
    if exact:
        assert found.tobytes() == expected.tobytes()
    else:
        tolerance = {2: 2e-2, 4: 1e-5, 8: 1e-12}[found.itemsize]
        np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=tolerance, atol=tolerance)


@one_loop
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [1, 5, 20])
async def test_sums(both: tuple[akv.KVStore, akv.KVStore], dtype: Any, count: int) -> None:
    values = [array(dtype, SHAPE, seed) for seed in range(count)]
    for kv in both:
        await kv.init("w", values[0])
        await kv.push("w", values)
        await kv.set_updater("add")
        await kv.push("w", values[::-1])
        await kv.push("w", values[0])
        await kv.push("w", akv.RowSparse([5, 2, 5], array(dtype, (3, 33)), SHAPE))
    await agree(both, "w", exact=True)


@one_loop
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(momentum=0.9, wd=0.01, clip_gradient=0.5),
        SGD(),
        Adam(),
        AdamW(wd=0.1),
        AdaGrad(),
        AdaDelta(),
        RMSProp(centered=True),
        Ftrl(),
        Ftrl(learning_rate=0.0),
        Signum(),
        LAMB(wd=0.01),
        LARS(momentum=0.9),
        Test(),
    ],
    ids=lambda optimizer: optimizer.name,
)
@pytest.mark.parametrize("master", [False, True])
async def test_optimizers(both: tuple[akv.KVStore, akv.KVStore], optimizer: Any, dtype: Any, master: bool) -> None:
    optimizer = type(optimizer)(**{**numbers(optimizer), "multi_precision": master})
    assert updating._has_kernels(optimizer, dtype)
    for kv in both:
        await kv.init("w", noise(dtype, 0))
        await kv.set_optimizer(optimizer)
        for seed in (1, 2):
            await kv.push("w", noise(dtype, seed))
            await kv.push("w", [noise(dtype, seed + 10), noise(dtype, seed + 20)])
        await kv.push("w", akv.RowSparse([1, 6], noise(dtype, 9, (2, 33)), SHAPE))
    await agree(both, "w")


def numbers(optimizer: Any) -> dict[str, Any]:
    return {name: value for name, value in optimizer.to_dict().items() if name not in ("name", "lr_mult", "wd_mult")}


@one_loop
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "spec", [{"type": "1bit"}, {"type": "2bit", "threshold": 0.5}, {"type": "int8"}, {"type": "fp16"}, {"type": "bf16"}]
)
@pytest.mark.parametrize("updater", ["assign", "add", "optimizer"])
async def test_compression(
    both: tuple[akv.KVStore, akv.KVStore], spec: dict[str, Any], dtype: Any, updater: str
) -> None:
    for kv in both:
        await kv.init("w", np.zeros(SHAPE, dtype))
        await kv.set_gradient_compression(spec)
        await (kv.set_optimizer(SGD(learning_rate=0.5)) if updater == "optimizer" else kv.set_updater(updater))
        for seed in range(3):
            await kv.push("w", [noise(dtype, seed), noise(dtype, seed + 5)])
            await kv.push("w", noise(dtype, seed + 7))
    assert compressed.can_code(backend_of(URL).storage.agreed.scheme.push, np.dtype(dtype))
    await agree(both, "w", exact=updater == "assign")


async def test_residuals_are_dropped_with_their_key(both: tuple[akv.KVStore, akv.KVStore]) -> None:
    quarter = np.full(3, 0.25, np.float32)
    for kv in both:
        await kv.set_gradient_compression({"type": "2bit", "threshold": 0.5})
        await kv.init("w", np.zeros(3, np.float32))
        await kv.push("w", quarter)
        await kv.delete("w")
        await kv.init("w", np.zeros(3, np.float32))
        await kv.push("w", quarter)
    await agree(both, "w", exact=True)
    assert (await both[0].pull("w") == 0).all()


async def test_what_is_not_finite(both: tuple[akv.KVStore, akv.KVStore]) -> None:
    bad = np.full(SHAPE, np.nan, np.float32)
    for policy, error in (("reject", akv.NonFinite), ("skip", None)):
        with simulated(f"0,1/{policy}") as url:
            async with akv.connect(f"{url}?on_nonfinite={policy}") as kv:
                await kv.init("w", np.zeros(SHAPE, np.float32))
                for value in (bad, machine_of(url).guest(bad, 1), [np.zeros(SHAPE, np.float32), bad]):
                    if error is None:
                        assert await kv.push("w", value) == 1
                    else:
                        with pytest.raises(error, match=r"'w'.*231"):
                            await kv.push("w", value)
                assert (await kv.pull("w") == 0).all()
                assert await kv.push("w", machine_of(url).guest(np.ones(SHAPE, np.float32))) == 2


def test_float8_has_no_kernels_and_takes_the_detour() -> None:
    float8 = [dtype for dtype in DTYPES if dtype.name.startswith("float8")]
    assert not any(arithmetic.can_add_up(dtype) for dtype in float8)
    with pytest.raises(akv.DTypeMismatch):
        kernels.sums(2, float8[0] if float8 else np.dtype(bool))


@pytest.mark.parametrize("devices", [1, 2, 20])
@pytest.mark.parametrize("updater", ["add", "optimizer"])
async def test_many_small_keys_are_one_launch(
    both: tuple[akv.KVStore, akv.KVStore], updater: str, devices: int
) -> None:
    names = [f"k{number}" for number in range(60)]
    shapes = [(number,) for number in range(60)]  # one has no elements
    for kv in both:
        await kv.init([*names, "large"], [noise(np.float32, 0, shape) for shape in [*shapes, (1 << 17,)]])
        await (kv.set_optimizer(Adam()) if updater == "optimizer" else kv.set_updater(updater))
        await kv.push(names, [noise(np.float32, 1, shape) for shape in shapes])
    done = machine_of(URL).scheduler.done
    done.clear()
    values: list[Any] = [[noise(np.float32, seed, shape) for seed in range(devices)] for shape in shapes]
    for kv in both:
        await kv.push([*names, "large"], [*values, noise(np.float32, 2, (1 << 17,))])
    launched = sorted(what for _, _, what in done if what not in ("upload", "clear"))
    name = "adam_float32" if updater == "optimizer" else "set_2_float32"
    sums = {1: [], 2: ["set_2_float32_many"], 20: ["set_8_float32_many", "set_8_float32_many", "set_6_float32_many"]}
    # One of each kind on each device, and the large one by itself; so for the copies, with one for each table.
    assert launched == sorted([name, *[f"{name}_many", *sums[devices]] * 2])
    if devices == 1:
        assert len([what for _, _, what in done if what == "upload"]) == 5
    for key in [*names, "large"]:
        await agree(both, key)


async def test_a_pushpull_sees_what_it_has_pushed(both: tuple[akv.KVStore, akv.KVStore]) -> None:
    names, outs = ["a", "b", "c", "d"], []
    for kv in both:
        await kv.init(names, [noise(np.float32, number) for number in range(4)])
        await kv.set_optimizer(SGD(learning_rate=0.5))
        outs.append([np.zeros(SHAPE, np.float32) for _ in names])
        await kv.pushpull(names, [noise(np.float32, 4)] * 4, outs[-1])
    np.testing.assert_allclose(outs[0], outs[1], rtol=1e-5)
