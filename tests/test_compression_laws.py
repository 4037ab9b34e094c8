"""What holds for every codec."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import compression_cases as cases
import numpy as np
import pytest
from compression_cases import CODECS, DTYPES, STATELESS, decode, encode, engine, residual_for  # noqa: F401  (a fixture)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from akv.compression import Compression, OneBit
from akv.errors import DTypeMismatch, InvalidArgument, ProtocolError, ShapeMismatch

every_codec = pytest.mark.parametrize("codec", CODECS, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)


def work(dtype: np.dtype) -> type:
    return np.float64 if dtype == np.float64 else np.float32


@every_codec
@every_dtype
@settings(max_examples=20, deadline=None)
@given(size=st.integers(0, 300), rounds=st.integers(1, 8), seed=st.integers(0, 99))
def test_decoded_plus_residual_is_the_sum_of_the_gradients(codec, dtype, size, rounds, seed) -> None:
    residual, total, given = (np.zeros(size, t) for t in (work(dtype), np.float64, np.float64))
    for r in range(rounds):
        grad = cases.normal(size, seed + r).astype(dtype)
        packed = encode(codec, grad, residual)
        codec.add_decoded(packed, total)
        given += grad.astype(np.float64)
    np.testing.assert_allclose(total + residual, given, rtol=0, atol=1e-5)


@every_codec
def test_the_residual_of_steady_gradients_stays_bounded(codec) -> None:
    """Error feedback means that nothing is lost for good: the mean of what is sent tends to the gradient."""
    grad = np.clip(cases.normal(64), -0.09, 0.09).astype(np.float32)
    residual, total = np.zeros(64, np.float32), np.zeros(64)
    for _ in range(400):
        codec.add_decoded(encode(codec, grad, residual), total)
    np.testing.assert_allclose(total / 400, grad, atol=2.5 / 100)


@every_codec
@settings(max_examples=15, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_a_slice_has_the_bytes_of_the_whole(codec: Compression, data, dtype) -> None:
    size = data.draw(st.integers(0, 5)) * codec.granule + data.draw(st.integers(0, codec.granule))
    grad, residual = cases.normal(size, 3, dtype), cases.normal(size, 4, work(dtype))
    whole_rest = residual.copy()
    whole = encode(codec, grad, whole_rest)
    units = -(-size // codec.granule)
    cuts = sorted(data.draw(st.sets(st.integers(0, units), max_size=3)) | {0, units})
    for first, last in itertools.pairwise(cuts):
        lo, hi = first * codec.granule, min(last * codec.granule, size)
        part = encode(codec, grad[lo:hi], residual[lo:hi])
        assert part == whole[codec.packed_nbytes(lo) : codec.packed_nbytes(hi)]
        assert decode(codec, part, hi - lo).tobytes() == decode(codec, whole, size)[lo:hi].tobytes()
    assert residual.tobytes() == whole_rest.tobytes()


@every_codec
@every_dtype
@settings(max_examples=15, deadline=None)
@given(shape=shapes, seed=st.integers(0, 9), order=st.sampled_from(["C", "F", "reversed", "strided"]))
def test_any_shape_and_layout_means_its_c_order(codec, dtype, shape, seed, order) -> None:
    flat = cases.normal(int(np.prod(shape)), seed, dtype)
    grad = flat.reshape(shape)
    if order == "F":
        grad = np.asfortranarray(grad)
    elif order == "reversed" and shape:
        grad = np.ascontiguousarray(grad[::-1])[::-1]
    elif order == "strided":
        grad = np.repeat(grad.reshape(*shape, 1), 2, axis=-1)[..., 0]
    residual = residual_for(codec, flat)
    shaped = None if residual is None else residual.copy().reshape(shape)
    packed = encode(codec, grad, shaped)
    assert packed == encode(codec, flat, residual)
    out = np.empty(shape, dtype)
    codec.decode(packed, out)
    assert out.tobytes() == decode(codec, packed, flat.size, dtype).tobytes()


@every_codec
@every_dtype
def test_packed_bytes_do_not_depend_on_the_dtype(codec, dtype) -> None:
    exact = (np.arange(300) % 17 - 8).astype(np.float32) / 8
    grad = exact.astype(dtype)
    assert encode(codec, grad, residual_for(codec, grad)) == encode(codec, exact, residual_for(codec, exact))


@every_codec
@every_dtype
def test_adding_is_decoding_and_adding(codec, dtype) -> None:
    for size in (0, 1, 33, 70_000):
        grad = cases.normal(size, 1, dtype)
        packed = encode(codec, grad, residual_for(codec, grad))
        start = cases.normal(size, 2, dtype)
        out = start.copy()
        codec.add_decoded(packed, out)
        values = decode(codec, packed, size, work(dtype))
        assert out.tobytes() == (start.astype(work(dtype)) + values).astype(dtype).tobytes()
        assert decode(codec, packed, size, dtype).tobytes() == values.astype(dtype).tobytes()


@every_codec
def test_a_message_that_nobody_applied_is_taken_back(codec) -> None:
    grad, residual = cases.normal(5000, 1), cases.normal(5000, 2)
    before = residual.copy()
    codec.add_decoded(encode(codec, grad, residual), residual)
    np.testing.assert_allclose(residual, before + grad, atol=1e-6)


@every_codec
@every_dtype
def test_nothing_but_its_own_memory_is_touched(codec, dtype) -> None:
    """A read-only gradient, packed bytes at an odd address between guards, a residual inside a larger array."""
    size = 1001
    grad = cases.normal(size, 1, dtype)
    grad.flags.writeable = False
    before = grad.tobytes()
    held = np.full(size + 2, 9, work(dtype))
    held[1:-1] = 0
    nbytes = codec.packed_nbytes(size)
    memory = np.full(nbytes + 4, 0x55, np.uint8)
    codec.encode(grad, held[1:-1], memory[3:-1])
    assert grad.tobytes() == before
    assert held[0] == held[-1] == 9
    assert (memory[[0, 1, 2, -1]] == 0x55).all()
    assert memory[3:-1].tobytes() == encode(codec, grad, np.zeros(size, work(dtype)))
    out = np.full(size + 2, 9, dtype)
    packed = memory[3:-1].copy()
    packed.flags.writeable = False
    codec.decode(packed, out[1:-1])
    codec.add_decoded(bytearray(packed), out[1:-1])
    assert out[0] == out[-1] == 9


@pytest.mark.parametrize("codec", STATELESS, ids=repr)
def test_without_feedback_nothing_is_kept(codec) -> None:
    grad = cases.normal(1000)
    assert encode(codec, grad, None) == encode(codec, grad, np.zeros(1000, np.float32))


@every_codec
def test_out_may_be_larger_and_any_writable_bytes(codec) -> None:
    grad = cases.normal(100)
    expected = encode(codec, grad, residual_for(codec, grad))
    for out in (bytearray(1000), memoryview(bytearray(1000)), np.zeros(1000, np.uint8)):
        used = codec.encode(grad, residual_for(codec, grad), out)
        assert bytes(out[:used]) == expected
        assert not any(out[used:])


@every_codec
def test_wrong_memory_is_refused_and_untouched(codec) -> None:
    grad, residual = np.ones(32, np.float32), np.zeros(32, np.float32)
    nbytes = codec.packed_nbytes(32)
    short, wide = np.zeros(nbytes - 1, np.uint8), np.zeros(nbytes, np.int32)
    for out in (short, bytes(nbytes), wide, np.zeros((2, nbytes), np.uint8), np.zeros(2 * nbytes, np.uint8)[::2]):
        with pytest.raises(InvalidArgument, match=r"bytes|uint8"):
            codec.encode(grad, residual, out)
    with pytest.raises(ShapeMismatch, match="31 values, the gradient 32"):
        codec.encode(grad, residual[1:], bytearray(nbytes))
    with pytest.raises(DTypeMismatch, match="float64"):
        codec.encode(grad, np.zeros(32), bytearray(nbytes))
    with pytest.raises(InvalidArgument, match="residual must be C-contiguous"):
        codec.encode(grad, np.zeros(64, np.float32)[::2], bytearray(nbytes))
    assert not residual.any()
    assert not short.any()


@every_codec
def test_wrong_packed_bytes_and_results_are_refused(codec) -> None:
    packed = encode(codec, np.ones(32, np.float32), np.zeros(32, np.float32))
    out = np.zeros(32, np.float32)
    for wrong in (packed[:-1], packed + b"\0", b""):
        with pytest.raises(ProtocolError, match=f"32 values take {len(packed)} packed bytes, {len(wrong)} arrived"):
            codec.decode(wrong, out)
    with pytest.raises(InvalidArgument, match="out must be C-contiguous"):
        codec.decode(packed, np.zeros(64, np.float32)[::2])
    out.flags.writeable = False
    with pytest.raises(InvalidArgument, match="writeable=False"):
        codec.add_decoded(packed, out)


@every_codec
@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.complex64, np.longdouble, ">f4", np.object_], ids=str)
def test_only_real_floating_dtypes(codec, dtype) -> None:
    with pytest.raises(DTypeMismatch, match=r"floating|store cannot hold"):
        codec.encode(np.zeros(4, dtype), np.zeros(4, np.float32), bytearray(1000))
    with pytest.raises(DTypeMismatch, match=r"floating|store cannot hold"):
        codec.decode(bytes(codec.packed_nbytes(4)), np.zeros(4, dtype))


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec.needs_residual], ids=repr)
def test_without_a_residual_some_make_no_sense(codec) -> None:
    with pytest.raises(InvalidArgument, match="needs a residual"):
        codec.encode(np.ones(4, np.float32), None, bytearray(100))


@every_codec
def test_sizes_add_up_over_whole_granules(codec) -> None:
    for units in range(5):
        for rest in (0, 1, codec.granule - 1):
            size = units * codec.granule
            assert codec.packed_nbytes(size + rest) == codec.packed_nbytes(size) + codec.packed_nbytes(rest)


def test_float8_gradients_work_too() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    grad = cases.normal(40).astype(ml_dtypes.float8_e4m3fn)
    for codec in CODECS:
        residual = np.zeros(40, np.float32)
        sent = decode(codec, encode(codec, grad, residual), 40)
        np.testing.assert_allclose(sent + residual, grad.astype(np.float32), atol=1e-6)


def test_a_codec_may_serve_many_threads() -> None:
    grads = [cases.normal(200_000, seed) for seed in range(4)]
    for codec in (*CODECS, OneBit(0.0)):
        alone = [encode(codec, grad, residual_for(codec, grad)) for grad in grads]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda grad, c=codec: encode(c, grad, residual_for(c, grad)), grads)) == alone
