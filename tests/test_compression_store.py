"""Gradient compression in a store of this process, against the codecs; both faces, and a simple storage."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import jammed, named

import akv
from akv import sync
from akv.backend.registry import register
from akv.backend.simple import SimpleProvider, SimpleStorage
from akv.compression import Residuals, from_spec
from akv.values.dtypes import accumulator

SPECS: list[dict[str, Any]] = [
    {"type": "1bit", "threshold": 0.1},
    {"type": "2bit", "threshold": 0.5},
    {"type": "fp16"},
    {"type": "bf16"},
    {"type": "int8", "block": 64},
    {"type": "topk", "ratio": 0.05},
]
TWO_BIT = SPECS[1]


class DictStorage(SimpleStorage):
    """The simplest of all storages."""

    def __init__(self) -> None:
        self.arrays: dict[Any, np.ndarray] = {}
        super().__init__()

    def get(self, key: Any) -> np.ndarray:
        return self.arrays[key]

    def put(self, key: Any, array: np.ndarray, version: int) -> None:
        self.arrays[key] = array

    def remove(self, key: Any, version: int) -> None:
        del self.arrays[key]


register("compressed-dict", SimpleProvider("dict", lambda name, options: DictStorage()))
URLS = ["memory://", "memory://?inline=no", "compressed-dict://"]


class Model:
    """What one key has to hold: each device's values packed with a residual of their own, restored, then summed."""

    def __init__(self, spec: Mapping[str, Any], value: np.ndarray) -> None:
        self.codec = from_spec(spec)
        self.residuals = Residuals()
        self.value = value.copy()

    def restore(self, values: Sequence[np.ndarray]) -> np.ndarray:
        total = np.zeros(self.value.shape, accumulator(self.value.dtype))
        for place, value in enumerate(values):
            packed = np.empty(self.codec.packed_nbytes(value.size), np.uint8)
            self.codec.encode(value, self.residuals.of("w", place, value), packed)
            (self.codec.add_decoded if place else self.codec.decode)(packed, total)
        return total

    def assign(self, values: Sequence[np.ndarray]) -> np.ndarray:
        self.value = self.restore(values).astype(self.value.dtype)
        return self.value


def gradients(seed: int, shape: tuple[int, ...], dtype: Any = np.float32) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        yield (rng.standard_normal(shape) * 0.4).astype(dtype)


def take(source: Iterator[np.ndarray], count: int) -> list[np.ndarray]:
    return list(itertools.islice(source, count))


# -- exactly what the codecs say ----------------------------------------


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["type"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_rounds_of_several_devices_are_bit_exact(url: str, spec: dict[str, Any], dtype: Any) -> None:
    source = gradients(1, (7, 11), dtype)
    with sync.connect(url) as kv:
        kv.set_gradient_compression(spec)
        kv.init("w", np.full((7, 11), 3.3, dtype))
        model = Model(spec, np.full((7, 11), 3.3, dtype))
        assert np.array_equal(kv.pull("w"), model.value)  # init is never compressed
        for devices in (1, 2, 2, 3, 1, 2):
            values = take(source, devices)
            kv.push("w", values)
            assert np.array_equal(kv.pull("w"), model.assign(values))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SPECS), st.integers(0, 400), st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers())
def test_any_size_and_any_number_of_devices(spec: dict[str, Any], size: int, rounds: list[int], seed: int) -> None:
    source = gradients(abs(seed), (size,))
    with sync.connect("memory://") as kv:
        kv.set_gradient_compression(spec)
        kv.init("w", np.zeros(size, np.float32))
        model = Model(spec, np.zeros(size, np.float32))
        for devices in rounds:
            values = take(source, devices)
            assert np.array_equal(kv.pushpull("w", values, np.empty(size, np.float32)), model.assign(values))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["type"])
def test_large_pushes_in_slices_are_bit_exact(spec: dict[str, Any]) -> None:
    size = 3_000_001  # 12 MB: cut into slices for several threads, none of which ends at a granule by chance
    source = gradients(2, (size,))
    with sync.connect("memory://") as kv:
        kv.set_gradient_compression(spec)
        kv.set_updater("add")
        kv.init("w", np.zeros(size, np.float32))
        model = Model(spec, np.zeros(size, np.float32))
        expected = np.zeros(size, np.float32)
        for _ in range(2):
            values = take(source, 2)
            kv.push("w", values)
            expected += model.restore(values)
        assert np.array_equal(kv.pull("w"), expected)


def test_strided_arrays_and_optimizers() -> None:
    spec = {"type": "int8"}
    source = gradients(3, (600, 40))
    with sync.connect("memory://") as kv, sync.connect("memory://") as plain:
        for store in (kv, plain):
            store.set_optimizer(akv.optim.SGD(learning_rate=0.1, momentum=0.9))
            store.init("w", np.ones((600, 20), np.float32))
        kv.set_gradient_compression(spec)
        model = Model(spec, np.ones((600, 20), np.float32))
        for _ in range(3):
            values = [value[:, ::2] for value in take(source, 2)]
            kv.push("w", values)
            plain.push("w", model.restore(values))
        assert np.array_equal(kv.pull("w"), plain.pull("w"))


async def test_the_async_face_does_the_same() -> None:
    source = gradients(4, (50,))
    async with akv.connect("memory://") as kv:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.init("w", np.zeros(50, np.float32))
        model = Model(TWO_BIT, np.zeros(50, np.float32))
        for _ in range(4):
            values = take(source, 2)
            kv.push("w", values)
            assert np.array_equal(await kv.pull("w"), model.assign(values))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["type"])
def test_nothing_is_lost(spec: dict[str, Any]) -> None:
    """Error feedback: what was stored and what is still kept back are all that was pushed."""
    if spec["type"] == "1bit":
        spec = {"type": "1bit", "threshold": 0.0}  # it sends 1 or -1, so what it keeps back stays below 1 only here
    pushed = np.random.default_rng(5).uniform(-0.4, 0.4, (30, 500)).astype(np.float32)
    with sync.connect("memory://") as kv:
        kv.set_gradient_compression(spec)
        kv.set_updater("add")
        kv.init("w", np.zeros(500, np.float32))
        for grad in pushed:
            kv.push("w", grad)
        bound = {"1bit": 1.5, "2bit": 0.5, "fp16": 1e-3, "bf16": 1e-2, "int8": 1e-2, "topk": 20}[spec["type"]]
        assert np.abs(kv.pull("w") - pushed.sum(axis=0)).max() <= bound


# -- who says what ----------------------------------------


@pytest.mark.parametrize("url", URLS)
def test_the_same_again_is_nothing_and_another_is_a_conflict(url: str) -> None:
    with sync.connect(url) as kv:
        kv.set_gradient_compression({"type": "2bit"})
        kv.set_gradient_compression({"type": "2bit", "threshold": 0.5})
        for other in ({"type": "2bit", "threshold": 1.0}, {"type": "int8"}, {"type": "2bit", "pull": "fp16"}):
            with pytest.raises(akv.CompressionConflict, match=r"'2bit', 'threshold': 0\.5.*not with"):
                kv.set_gradient_compression(other)
        assert kv.is_capable("compression")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"type": "3bit"}, "no compression has the type '3bit'"),
        ({}, "no compression has the type None"),
        ("2bit", "mapping"),
        ({"type": "2bit", "threshold": 0}, "threshold"),
        ({"type": "2bit", "ratio": 1}, "has no parameter ratio"),
        ({"type": "2bit", "pull": "2bit"}, "pull takes bf16, fp16 or int8"),
        ({"type": "2bit", "pull": "zip"}, "no compression has the type 'zip'"),
        ({"type": "2bit", "pull": {}}, "no compression has the type"),
    ],
)
def test_a_spec_that_is_none(spec: Any, text: str) -> None:
    with sync.connect("memory://") as kv:
        with pytest.raises(akv.InvalidArgument, match=text):
            kv.set_gradient_compression(spec)
        kv.set_gradient_compression(TWO_BIT)  # nothing was set


@pytest.mark.parametrize("url", URLS)
def test_what_cannot_be_packed_is_refused_by_name(url: str) -> None:
    with sync.connect(url) as kv:
        kv.init(["i", "c", "r"], [np.ones(3, np.int64), np.ones(3, np.complex64), np.ones((3, 2), np.float32)])
        kv.set_gradient_compression(TWO_BIT)
        with pytest.raises(akv.DTypeMismatch, match=r"'i'.*int64"):
            kv.push("i", np.ones(3, np.int64))
        with pytest.raises(akv.DTypeMismatch, match=r"'c'.*complex64"):
            kv.push("c", np.ones(3, np.complex64))
        with pytest.raises(akv.InvalidArgument, match=r"'r'.*RowSparse"):
            kv.push("r", akv.RowSparse(np.array([1]), np.ones((1, 2), np.float32), (3, 2)))
        assert [info.version for info in kv.info(["i", "c", "r"])] == [1, 1, 1]


# -- a push that comes to nothing ----------------------------------------


Failure = Callable[[sync.KVStore], None]


def wrong_shape(kv: sync.KVStore) -> None:
    with pytest.raises(akv.ShapeMismatch):
        kv.push("w", [np.ones(20, np.float32), np.ones(19, np.float32)])


def not_finite(kv: sync.KVStore) -> None:
    with pytest.raises(akv.NonFinite):
        kv.push("w", [np.ones(20, np.float32), np.full(20, np.nan, np.float32)])


def with_a_wrong_other(kv: sync.KVStore) -> None:
    with pytest.raises(akv.KeyNotFound):
        kv.push(["w", "unknown"], [np.ones(20, np.float32)] * 2)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("fail", [wrong_shape, not_finite, with_a_wrong_other])
def test_a_failed_push_leaves_the_residual(url: str, fail: Failure) -> None:
    source = gradients(6, (20,))
    with sync.connect(url, on_nonfinite="reject") as kv:
        kv.set_gradient_compression(TWO_BIT)
        kv.init("w", np.zeros(20, np.float32))
        model = Model(TWO_BIT, np.zeros(20, np.float32))
        for _ in range(3):
            values = take(source, 2)
            kv.push("w", values)
            assert np.array_equal(kv.pull("w"), model.assign(values))
            fail(kv)


@pytest.mark.parametrize("url", URLS)
def test_an_updater_that_raises_leaves_the_residual(url: str) -> None:
    source = gradients(7, (20,))
    broken = False

    def update(key: Any, pushed: np.ndarray, stored: np.ndarray) -> None:
        stored[...] = pushed
        if broken:
            raise ValueError("broken")

    with sync.connect(url) as kv:
        kv.set_gradient_compression(TWO_BIT)
        kv.set_updater(update)
        kv.init("w", np.zeros(20, np.float32))
        model = Model(TWO_BIT, np.zeros(20, np.float32))
        for broken in (False, True, False):
            values = take(source, 2)
            if broken:
                with pytest.raises(ValueError, match="broken"):
                    kv.push("w", values)
            else:
                kv.push("w", values)
                model.assign(values)
            assert np.array_equal(kv.pull("w"), model.value)


def test_a_dropped_push_leaves_the_residual() -> None:
    source = gradients(8, (20,))
    with sync.connect("memory://", on_nonfinite="skip") as kv:
        kv.set_gradient_compression(TWO_BIT)
        kv.init("w", np.zeros(20, np.float32))
        model = Model(TWO_BIT, np.zeros(20, np.float32))
        for _ in range(3):
            values = take(source, 1)
            kv.push("w", np.full(20, np.inf, np.float32))
            kv.push("w", values)
            assert np.array_equal(kv.pull("w"), model.assign(values))


async def test_a_withdrawn_push_leaves_the_residual() -> None:
    url = named()
    source = gradients(9, (4,))
    async with akv.connect(url, inline=False) as first:
        await first.set_gradient_compression(TWO_BIT)
        async with jammed(url, "a") as (kv, gate):
            model = Model(TWO_BIT, np.zeros(4, np.float32))
            values = take(source, 3)
            pushes = [kv.push("a", value) for value in values]
            pushes[1].cancel()
            gate.open()
            await asyncio.gather(pushes[0], pushes[2])
            assert np.array_equal(await kv.pull("a"), model.restore(values[:1]) + model.restore(values[2:]))


def test_delete_drops_the_residual() -> None:
    with sync.connect("memory://") as kv:
        kv.set_gradient_compression(TWO_BIT)
        for shape in ((4,), (5,)):
            kv.init("w", np.zeros(shape, np.float32))
            kv.push("w", np.full(shape, 0.3, np.float32))
            assert not kv.pull("w").any()  # 0.6 had been sent
            kv.delete("w")


def test_a_store_without_compression_keeps_its_short_way() -> None:
    with sync.connect("memory://") as kv:
        storage: Any = kv._engine.backend.storage  # type: ignore[attr-defined]
        assert storage._only_copies
        assert storage.keeps_donations
        kv.set_gradient_compression(TWO_BIT)
        assert not storage._only_copies
        kv.set_updater("add")
        kv.set_updater("assign")
        assert not storage._only_copies
