"""Compression in a job of one process: all workers set the same, and whoever does not is noticed by everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from store_cases import named

import akv
from akv import sync
from akv.compression import Residuals, from_spec

TWO_BIT = {"type": "2bit", "threshold": 0.5}
ONES = np.ones(4, np.float32)


@asynccontextmanager
async def workers(count: int = 2, options: str = "") -> AsyncIterator[list[akv.KVStore]]:
    """Handles of one job, with the key "w" of zeros."""
    url = f"{named()}?workers={count}&timeout=20{options}"
    handles = [await akv.connect(url) for _ in range(count)]
    try:
        await asyncio.gather(*[kv.init("w", np.zeros(4, np.float32)) for kv in handles])
        yield handles
    finally:
        await asyncio.gather(*[kv.aclose() for kv in handles])


def restored(spec: dict[str, Any], grads: list[np.ndarray], residuals: Residuals) -> np.ndarray:
    """The sum of what the workers' gradients are when restored."""
    codec, total = from_spec(spec), np.zeros(4, np.float32)
    for rank, grad in enumerate(grads):
        packed = np.empty(codec.packed_nbytes(grad.size), np.uint8)
        codec.encode(grad, residuals.of("w", rank, grad), packed)
        codec.add_decoded(packed, total)
    return total


@pytest.mark.parametrize(
    "spec", [TWO_BIT, {"type": "int8"}, {"type": "topk", "ratio": 0.5}], ids=lambda one: one["type"]
)
async def test_each_worker_has_a_residual_of_its_own(spec: dict[str, Any]) -> None:
    rng, residuals = np.random.default_rng(0), Residuals()
    async with workers(3) as handles:
        for kv in handles:
            await kv.set_gradient_compression(spec)
        for _ in range(4):
            grads = [rng.standard_normal(4).astype(np.float32) for _ in handles]
            expected = restored(spec, grads, residuals)
            # In the order of ranks, whoever comes first.
            await asyncio.gather(*[kv.push("w", grads[kv.rank]) for kv in reversed(handles)])
            for kv in handles:
                np.testing.assert_array_equal(await kv.pull("w"), expected)


async def test_one_who_has_not_set_it_is_refused_and_all_who_wait_for_that_hear_of_it() -> None:
    async with workers(3) as (first, second, other):
        for kv in (first, second):
            await kv.set_gradient_compression(TWO_BIT)
            await kv.push("w", ONES)
        waiting = [first.pull("w"), second.pull("w", min_version=5), second.barrier()]
        with pytest.raises(akv.CompressionConflict, match=r"'w'.*2bit.*every worker calls set_gradient_compression"):
            await other.push("w", ONES)
        for pending in waiting:
            with pytest.raises(
                akv.CompressionConflict, match=rf"rank {other.rank} does not compress as the others do.*2bit"
            ):
                await pending


@pytest.mark.parametrize(
    "spec", [{"type": "int8"}, {"type": "2bit", "threshold": 0.25}, {**TWO_BIT, "pull": "fp16"}], ids=str
)
async def test_one_who_sets_another_is_refused_and_all_who_wait_hear_of_it(spec: dict[str, Any]) -> None:
    async with workers() as (first, other):
        await first.set_gradient_compression(TWO_BIT)
        await first.push("w", ONES)
        pull = first.pull("w")
        with pytest.raises(akv.CompressionConflict, match=r"'threshold': 0\.5.*not with"):
            await other.set_gradient_compression(spec)
        with pytest.raises(akv.CompressionConflict, match=rf"rank {other.rank} does not compress"):
            await pull
        with pytest.raises(akv.CompressionConflict):  # it has agreed to nothing
            await other.push("w", ONES)


async def test_it_goes_on_once_they_agree_and_nothing_counts_twice() -> None:
    async with workers() as (first, other):
        await first.set_gradient_compression(TWO_BIT)
        await first.push("w", ONES)
        for _ in range(2):
            with pytest.raises(akv.CompressionConflict):
                await other.pushpull("w", ONES, np.empty_like(ONES))
        await other.set_gradient_compression(dict(TWO_BIT))
        await other.push("w", ONES)
        for kv in (first, other):
            np.testing.assert_array_equal(await kv.pull("w"), ONES)  # one half of each


async def test_without_rounds_too() -> None:
    async with workers(2, "&consistency=async") as (first, other):
        await first.set_gradient_compression(TWO_BIT)
        with pytest.raises(akv.CompressionConflict):
            await other.push("w", ONES)
        assert (await first.info("w")).version == 1
        await other.set_gradient_compression(TWO_BIT)
        await other.push("w", ONES)
        assert (await first.info("w")).version == 2


async def test_a_reader_sets_nothing() -> None:
    url = f"{named()}?workers=1"
    async with akv.connect(url) as kv, akv.connect(url, role="reader") as reader:
        with pytest.raises(akv.InvalidArgument, match="reader"):
            await reader.set_gradient_compression(TWO_BIT)
        await kv.init("w", np.zeros(4, np.float32))
        await kv.push("w", ONES)
        np.testing.assert_array_equal(await reader.pull("w"), ONES)  # not packed


def test_the_blocking_face() -> None:
    url = f"{named()}?workers=2&timeout=20"
    with sync.connect(url) as first, sync.connect(url) as other:
        first.set_gradient_compression(TWO_BIT)
        with pytest.raises(akv.CompressionConflict, match="not with"):
            other.set_gradient_compression({"type": "1bit"})
        other.set_gradient_compression(TWO_BIT)
