"""Gradient compression between a client and a server: what travels, what is agreed, and that nothing counts twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from store_cases import turns, until
from tcp_cases import PATIENCE, serving

import akv
from akv import sync
from akv.compression import Scheme, from_spec
from akv_tcp import wire as w
from akv_tcp.agreed import describe, spec_of
from akv_tcp.hosting import host
from akv_tcp.server import Server
from akv_tcp.server_requests import operation

SPECS: list[dict[str, Any]] = [
    {"type": "1bit", "threshold": 0.1},
    {"type": "2bit", "threshold": 0.5},
    {"type": "fp16"},
    {"type": "bf16"},
    {"type": "int8", "block": 64},
    {"type": "topk", "ratio": 0.05},
]
TWO_BIT = SPECS[1]
# A key that rides in one frame; one that is packed by a thread; one that travels in slices.
SIZES = [5, 100_000, 2_100_001]


class Model:
    """What a client sends for one key: the sum of its values, packed with one residual; and what that is restored."""

    def __init__(self, spec: dict[str, Any], size: int, dtype: Any = np.float32) -> None:
        self.codec = from_spec(spec)
        self.residual = np.zeros(size, np.float64 if dtype == np.float64 else np.float32)
        self.dtype = dtype

    def restore(self, *values: np.ndarray) -> np.ndarray:
        total = values[0].astype(self.residual.dtype)
        for value in values[1:]:
            total += value
        packed = np.empty(self.codec.packed_nbytes(total.size), np.uint8)
        self.codec.encode(total, self.residual, packed)
        out = np.empty(total.size, self.residual.dtype)
        self.codec.decode(packed, out)
        return out.astype(self.dtype)


def gradients(size: int, dtype: Any = np.float32) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(size)
    while True:
        yield (rng.standard_normal(size) * 0.4).astype(dtype)


@asynccontextmanager
async def served(backend: str = "memory://") -> AsyncIterator[str]:
    server = Server(host(backend))
    name, port = await server.start("127.0.0.1", 0)
    try:
        yield f"tcp://{name}:{port}/job"
    finally:
        await server.stop()


def backend_of(kv: akv.KVStore) -> Any:
    return kv.engine.backend


# -- exactly what the codecs say ----------------------------------------


each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["type"])


@each_spec
@pytest.mark.parametrize("size", SIZES[:2])
async def test_rounds_are_bit_exact(spec: dict[str, Any], size: int) -> None:
    await rounds_are_exact(spec, size)


@each_spec
@pytest.mark.asyncio(loop_factories=["asyncio"])  # slices on both of them: below, with one codec
async def test_large_rounds_are_bit_exact(spec: dict[str, Any]) -> None:
    await rounds_are_exact(spec, SIZES[2])


async def rounds_are_exact(spec: dict[str, Any], size: int) -> None:
    source, model = gradients(size), Model(spec, size)
    async with served() as url, akv.connect(url) as kv:
        await kv.set_gradient_compression(spec)
        start = next(source)
        await kv.init("w", start)
        assert np.array_equal(await kv.pull("w"), start)  # init is never compressed
        for devices in (1, 2, 3):
            values = [next(source) for _ in range(devices)]
            kv.push("w", values)
            assert np.array_equal(await kv.pull("w"), model.restore(*values))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
async def test_any_float_dtype_and_pushpull_and_lists_of_keys(dtype: Any) -> None:
    sources = [gradients(size, dtype) for size in (7, 90_000)]
    models = [Model(TWO_BIT, size, dtype) for size in (7, 90_000)]
    async with served() as url, akv.connect(url) as kv:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.init(["a", "b"], [np.zeros(7, dtype), np.zeros(90_000, dtype)])
        for _ in range(3):
            values = [next(source) for source in sources]
            got = await kv.pushpull(["a", "b"], values)
            for model, value, result in zip(models, values, got, strict=True):
                assert result.dtype == dtype
                assert np.array_equal(result, model.restore(value))


async def test_both_faces_and_any_hosted_store_are_alike() -> None:
    source = gradients(1000)
    values = [next(source) for _ in range(4)]

    def blocking(url: str) -> list[np.ndarray]:
        with sync.connect(url) as kv:
            kv.set_gradient_compression(TWO_BIT)
            kv.set_optimizer(akv.optim.SGD(learning_rate=0.5))
            kv.init("s", np.ones(1000, np.float32))
            return [kv.pushpull("s", value, np.empty(1000, np.float32)) for value in values]

    async with served("memory://?inline=no") as url, akv.connect(url) as kv:
        theirs = await asyncio.to_thread(blocking, url)
        await kv.set_gradient_compression(TWO_BIT)
        await kv.init("a", np.ones(1000, np.float32))
        for value, their in zip(values, theirs, strict=True):
            assert np.array_equal(await kv.pushpull("a", value), their)


@pytest.mark.parametrize("pull", ["fp16", "bf16", "int8"])
async def test_pulls_travel_packed_where_asked(pull: str) -> None:
    codec = from_spec({"type": pull})
    async with served() as url, akv.connect(url) as kv, akv.connect(url) as exact:
        await kv.set_gradient_compression({**TWO_BIT, "pull": pull})
        for size in (*SIZES, 0):
            value = next(gradients(size))
            await kv.init(f"w{size}", value)
            packed, expected = np.empty(codec.packed_nbytes(size), np.uint8), np.empty_like(value)
            codec.encode(value, None, packed)
            codec.decode(packed, expected)
            before = backend_of(kv)._channel.connection.count
            assert np.array_equal(await kv.pull(f"w{size}"), expected)
            assert backend_of(kv)._channel.connection.count - before < packed.nbytes * 1.01 + 500
            out = [np.empty(size, np.float32), np.empty(size, np.float64)]
            assert await kv.pull(f"w{size}", out=out) is out
            assert np.array_equal(out[0], expected)
            assert np.array_equal(out[1], expected)
            assert np.array_equal(await kv.pushpull(f"w{size}", value), await kv.pull(f"w{size}"))
            # What is stored is exact.
            assert np.array_equal(await kv.snapshot(f"w{size}"), await exact.pull(f"w{size}"))
        await kv.init("i", np.arange(5))
        assert np.array_equal(await kv.pull("i"), np.arange(5))


# -- who says what ----------------------------------------


async def test_all_workers_have_to_say_the_same() -> None:
    ones = np.ones(4, np.float32)
    async with served() as url, akv.connect(url) as kv, akv.connect(url) as other:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.set_gradient_compression(dict(TWO_BIT))
        await kv.init("w", ones)
        with pytest.raises(akv.CompressionConflict, match=r"'w'.*2bit.*every worker calls set_gradient_compression"):
            await other.push("w", ones)
        with pytest.raises(akv.CompressionConflict, match=r"2bit.*not with.*int8"):
            await other.set_gradient_compression({"type": "int8"})
        with pytest.raises(akv.CompressionConflict):
            await kv.set_gradient_compression({"type": "int8"})
        await other.set_gradient_compression(TWO_BIT)
        assert await other.push("w", ones) == 2
        assert await kv.push("w", ones) == 3


async def test_packed_values_of_a_client_that_did_not_agree_are_refused() -> None:
    entry = w.Entry("w", w.Kind.CODED, int(w.DType.FLOAT32), (4,), 0, 4)
    dense = w.Entry("v", w.Kind.DENSE, int(w.DType.FLOAT32), (1,), 0, 4)
    with pytest.raises(akv.CompressionConflict, match="set_gradient_compression first"):
        operation(w.Push(1, 0, None, (entry,), [bytes(4)]), 1, None, None)
    with pytest.raises(akv.InvalidArgument, match="do not mix"):
        operation(w.Push(1, 0, None, (entry, dense), [bytes(4)] * 2), 1, None, Scheme.of(TWO_BIT))


@pytest.mark.parametrize("data", [bytes(3), bytes(8), b""])
async def test_bytes_that_no_encoder_makes_are_refused(data: bytes) -> None:
    entry = w.Entry("w", w.Kind.CODED, int(w.DType.FLOAT32), (4,), 0, len(data))
    async with served() as url, akv.connect(url) as kv:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.init("w", np.ones(4, np.float32))
        op: Any = operation(w.Push(1, 0, None, (entry,), [data]), 1, None, Scheme.of(TWO_BIT))
        with sync.connect("memory://") as store:
            storage: Any = store._engine.backend.storage  # type: ignore[attr-defined]
            store.init("w", np.ones(4, np.float32))
            storage.set_compression(Scheme.of(TWO_BIT), True)
            with pytest.raises(akv.ProtocolError, match="packed bytes"):
                op.begin(storage)


@pytest.mark.parametrize("spec", [*SPECS, {"type": "int8", "pull": "bf16"}], ids=str)
def test_a_description_survives_the_wire(spec: dict[str, Any]) -> None:
    scheme = Scheme.of(spec)
    assert Scheme.of(spec_of(describe(1, scheme))) == scheme


@pytest.mark.parametrize("name", ["", "3bit", "2bit,2bit", "2bit,", "2bit,fp16,fp16", "int8,__class__"])
def test_a_description_that_makes_no_sense_is_refused(name: str) -> None:
    request = w.SetCompression(1, 0, None, name, ())
    if name == "2bit,":
        assert Scheme.of(spec_of(request)) == Scheme.of({"type": "2bit"})
    else:
        with pytest.raises(akv.InvalidArgument):
            operation(request, 1, None, None)


async def test_what_cannot_be_packed_is_refused_by_name() -> None:
    async with served() as url, akv.connect(url) as kv:
        await kv.init(["i", "r"], [np.ones(3, np.int64), np.ones((3, 2), np.float32)])
        await kv.set_gradient_compression(TWO_BIT)
        with pytest.raises(akv.DTypeMismatch, match=r"'i'.*int64"):
            await kv.push("i", np.ones(3, np.int64))
        with pytest.raises(akv.InvalidArgument, match=r"'r'.*RowSparse"):
            await kv.push("r", akv.RowSparse(np.array([1]), np.ones((1, 2), np.float32), (3, 2)))


# -- a push that comes to nothing, or twice ----------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_a_refused_push_leaves_the_residual(size: int) -> None:
    source, model = gradients(size), Model(TWO_BIT, size)
    bad = np.zeros(size, np.float32)
    bad[-1] = np.nan  # found when most of it has been sent already
    async with served() as url, akv.connect(url) as kv, akv.connect(url) as other:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.init("w", np.zeros(size, np.float32))
        for _ in range(3):
            value = next(source)
            kv.push("w", value)
            assert np.array_equal(await kv.pull("w"), model.restore(value))
            with pytest.raises(akv.NonFinite, match="'w'"):
                await kv.push("w", bad)
            with pytest.raises(akv.KeyNotFound):
                await kv.push(["w", "unknown"], [value, value])
        # Another client makes the key a different one.
        await other.delete("w")
        await other.init("w", np.zeros(3, np.float32))
        fresh = np.full(3, 0.3, np.float32)
        await kv.push("w", fresh)
        assert not (await kv.pull("w")).any()


async def test_the_keys_that_were_done_keep_their_new_residual() -> None:
    spec = {"type": "int8", "block": 16}
    source, models = gradients(20), [Model(spec, 20), Model(spec, 20)]
    bad = np.full(20, np.nan, np.float32)
    async with served("memory://?on_nonfinite=reject") as url, akv.connect(url) as kv:
        await kv.set_gradient_compression(spec)
        await kv.init(["a", "b"], [np.zeros(20, np.float32)] * 2)
        value = next(source)
        with pytest.raises(akv.NonFinite, match="'b'"):
            await kv.push(["a", "b"], [value, bad])
        models[0].restore(value)
        for key, model in zip("ab", models, strict=True):
            value = next(source)
            await kv.push(key, value)
            assert np.array_equal(await kv.pull(key), model.restore(value))


@pytest.mark.parametrize("size", SIZES)
async def test_a_broken_connection_counts_nothing_twice(size: int) -> None:
    source, model = gradients(size), Model(TWO_BIT, size)
    expected = np.zeros(size, np.float32)
    async with served() as url, akv.connect(url) as kv:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.set_updater("add")
        await kv.init("w", np.zeros(size, np.float32))
        for number in range(12):
            value = next(source)
            push = kv.push("w", value)
            await turns(number)  # so that it breaks elsewhere each time
            backend_of(kv)._channel.connection.abort()
            await push
            expected += model.restore(value)
            assert np.array_equal(await kv.snapshot("w"), expected)


@pytest.mark.parametrize("size", SIZES)
async def test_a_cancelled_push_counts_once_or_not_at_all(size: int) -> None:
    source, model = gradients(size), Model(TWO_BIT, size)
    expected = np.zeros(size, np.float32)
    async with served() as url, akv.connect(url) as kv:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.set_updater("add")
        await kv.init("w", np.zeros(size, np.float32))
        version, outcomes = 1, []
        for number in range(10):
            value = next(source)
            push = kv.push("w", value)
            await turns(number)
            push.cancel()
            await asyncio.wait([push])
            count = (await kv.info("w")).version
            outcomes.append(count > version)
            if count > version:
                expected += model.restore(value)
            assert np.array_equal(await kv.snapshot("w"), expected)
            value = next(source)
            version = await kv.push("w", value)  # goes on with the residual that belongs to what was applied
            expected += model.restore(value)
            assert np.array_equal(await kv.snapshot("w"), expected)
        assert size == SIZES[0] or False in outcomes  # the smallest is out before it can be taken back


@pytest.mark.parametrize("size", SIZES[:2])
@pytest.mark.parametrize("why", ["cancelled", "too late"])
async def test_a_push_to_a_silent_server_ends_and_leaves_the_residual(size: int, why: str) -> None:
    """Whether it was applied comes out when the server goes on: wholly or not at all, and nobody takes the answer."""
    source, model = gradients(size), Model(TWO_BIT, size)
    expected, version = np.zeros(size, np.float32), 1
    async with serving() as server, akv.connect(f"{server.url}/job") as kv, akv.connect(f"{server.url}/job") as other:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.set_updater("add")
        await kv.init("w", np.zeros(size, np.float32))
        connection = server.sessions[0].responder.connection  # type: ignore[union-attr]
        for _ in range(3):
            value = next(source)
            version, expected = await kv.push("w", value), expected + model.restore(value)
            connection.hold()
            connection.take_events()  # which stops the reading
            mismatched = next(source)
            push = kv.push("w", mismatched)
            await sent(kv, push)
            if why == "cancelled":
                push.cancel()
            else:
                kv.engine.expire(push.op, 1.0)
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(asyncio.CancelledError if why == "cancelled" else akv.AkvTimeout):
                    await push
            value = next(source)
            push = kv.push("w", value)  # a request of the same slot
            await sent(kv, push)
            connection.go_on()
            if await push > version + 1:
                expected += deepcopy(model).restore(mismatched)
            expected += model.restore(value)
            assert np.array_equal(await other.pull("w"), expected)
        assert not backend_of(kv)._calls._by_number


async def sent(kv: akv.KVStore, push: akv.Pending[Any]) -> None:
    """Wait until nothing of a push is left to be sent."""
    calls, sender = backend_of(kv)._calls, backend_of(kv)._channel.connection.sender
    await until(lambda: push.op in calls._by_op and calls._by_op[push.op].ready and not sender.queued)


@pytest.mark.parametrize("how", ["cancelled while it comes", "with no place to go"])
async def test_an_answer_that_is_not_taken_tells_that_the_push_was_applied(how: str, monkeypatch: Any) -> None:
    size = SIZES[2]
    source, model = gradients(size), Model(TWO_BIT, size)
    async with served() as url, akv.connect(url) as kv, akv.connect(url) as other:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.set_updater("add")
        await kv.init("w", np.zeros(size, np.float32))
        calls, connection = backend_of(kv)._calls, backend_of(kv)._channel.connection
        out, value = np.zeros(size, np.float32), next(source)
        push = kv.pushpull("w", value, out)
        if how == "with no place to go":
            out.flags.writeable = False
            with pytest.raises(ValueError, match="read-only"):
                await push
        else:
            landing = connection.decoder.arrivals._landing

            def stop_there(*arguments: Any) -> Any:
                connection.hold()
                return landing(*arguments)

            monkeypatch.setattr(connection.decoder.arrivals, "_landing", stop_there)
            await until(lambda: connection._holds)
            push.cancel()
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(asyncio.CancelledError):
                    await push
            out[...] = 9  # it is the caller's again
            monkeypatch.undo()
            connection.go_on()
        expected = model.restore(value)
        value = next(source)
        await kv.push("w", value)
        assert np.array_equal(await other.pull("w"), expected + model.restore(value))
        assert how == "with no place to go" or (out == 9).all()
        assert not calls._by_number


async def test_only_packed_bytes_travel() -> None:
    size = 2_000_000
    async with served() as url, akv.connect(url) as kv:
        await kv.set_gradient_compression(TWO_BIT)
        await kv.init("w", np.zeros(size, np.float32))
        sent: list[int] = []
        connection = backend_of(kv)._channel.connection
        batch = connection.sender.next_batch

        class Counting:
            """The sender, with its bytes counted."""

            def __getattr__(self, name: str) -> Any:
                return getattr(sender, name)

            def next_batch(self) -> Any:
                buffers = batch()
                sent.extend(map(len, buffers))
                return buffers

        sender, connection.sender = connection.sender, Counting()
        await kv.push("w", np.ones(size, np.float32))
        await until(lambda: sent)
        assert size / 4 < sum(sent) < size / 4 + 2000
