"""The quantisers' kernels make the bytes, residuals and values of akv.compression: as Python, numba and C."""

from __future__ import annotations

from typing import Any

import cupy_kernels as cases
import numpy as np
import pytest
from cupy_c import Compiled
from hypothesis import given, settings
from hypothesis import strategies as st

from akv.compression import BFloat16, Compression, Float16, Int8, OneBit, TopK, TwoBit
from akv.errors import InvalidArgument
from akv_cupy import kernels
from akv_cupy.kernels import Coding, references

CODECS = (OneBit(), OneBit(-0.25), TwoBit(), TwoBit(0.1), Int8(), Int8(16), Int8(1024), Float16(), BFloat16())
each_codec = pytest.mark.parametrize("codec", CODECS, ids=repr)
each_dtype = pytest.mark.parametrize("dtype", cases.FLOATS, ids=str)
inputs = given(
    seed=st.integers(0, 2**32),
    size=st.integers(0, 70) | st.sampled_from([256, 300, 1024, 1030]),
    threads=st.sampled_from([1, 2, 4]),
    strange=st.sampled_from([0.0, 0.01, 0.3]),
)


@pytest.fixture(scope="module")
def c(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled([*cases.encoders(), *cases.decoders()], tmp_path_factory.mktemp("codecs"))


class Here:
    """Ways to run a kernel on this machine, by name."""

    def __init__(self, c: Compiled, threads: int) -> None:
        self.c, self.threads = c, threads

    def run(self, way: str, coding: Coding, *arrays: np.ndarray) -> None:
        arguments: list[Any] = [*arrays, *coding.numbers]
        if way == "C":
            self.c.call(coding.kernel, 3, self.threads, coding.size, *arguments)
        elif way == "plain":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(references, "numba_module", lambda: None)
                coding.kernel.reference(*arguments)
        else:
            coding.kernel.reference(*arguments)


def viewed(packed: np.ndarray, coding: Coding) -> list[np.ndarray]:
    """The packed bytes as the kernel takes them."""
    return [packed[: packed.size // dtype.itemsize * dtype.itemsize].view(dtype) for dtype in coding.views]


@each_dtype
@each_codec
@settings(max_examples=8, deadline=None)
@inputs
def test_encoding(
    c: Compiled, codec: Compression, dtype: Any, seed: int, size: int, threads: int, strange: float
) -> None:
    random = np.random.default_rng(seed)
    work = np.float64 if dtype == np.float64 else np.float32
    grad, before = cases.values(random, size, dtype, strange), cases.values(random, size, np.dtype(work), strange / 4)
    for feedback in [True, False][: 1 if codec.needs_residual else 2]:
        expected, packed = np.empty(codec.packed_nbytes(size), np.uint8), np.empty(codec.packed_nbytes(size), np.uint8)
        rest = before.copy()
        codec.encode(grad, rest if feedback else None, expected)
        coding = kernels.encoding(codec, dtype, size, feedback=feedback)
        for way in ("C", "numba", "plain")[: 3 if size < 71 else 2]:
            packed[...], residual = 0xAA, before.copy()
            own = [residual] if feedback else []
            Here(c, threads).run(way, coding, *viewed(packed, coding), *own, grad)
            assert packed.tobytes() == expected.tobytes(), way
            assert not feedback or cases.same(residual, rest), way


@each_dtype
@each_codec
@settings(max_examples=8, deadline=None)
@inputs
def test_decoding(
    c: Compiled, codec: Compression, dtype: Any, seed: int, size: int, threads: int, strange: float
) -> None:
    random = np.random.default_rng(seed)
    packed, out = np.empty(codec.packed_nbytes(size), np.uint8), cases.values(random, size, dtype, strange)
    codec.encode(cases.values(random, size, cases.F4, strange), np.zeros(size, np.float32), packed)
    for add in (False, True):
        expected = out.copy()
        (codec.add_decoded if add else codec.decode)(packed, expected)
        coding = kernels.decoding(codec, dtype, size, add=add)
        for way in ("C", "numba", "plain")[: 3 if size < 71 else 2]:
            mine = out.copy()
            Here(c, threads).run(way, coding, mine, *viewed(packed, coding))
            assert cases.same(mine, expected), way


def test_every_half_there_is(c: Compiled) -> None:
    """All 65,536 of each kind to float32 and back, against numpy and ml_dtypes."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    for codec, dtype in ((Float16(), cases.F2), (BFloat16(), cases.B2)):
        wide, back = np.empty(bits.size, np.float32), np.empty(bits.size, np.uint16)
        Here(c, 1).run("C", kernels.decoding(codec, cases.F4, bits.size), wide, bits)
        assert cases.same(wide, bits.view(dtype).astype(np.float32))
        Here(c, 1).run("C", kernels.encoding(codec, cases.F4, bits.size, feedback=False), back, wide)
        assert cases.same(back.view(dtype), bits.view(dtype))


@pytest.mark.parametrize(("codec", "dtype"), [(Float16(), cases.F2), (BFloat16(), cases.B2)], ids=repr)
def test_rounding_at_every_boundary(c: Compiled, codec: Compression, dtype: Any) -> None:
    """Between each two neighbours: the middle, and the float32 below and above it."""
    wide = np.sort(np.arange(1 << 15, dtype=np.uint16)).view(dtype).astype(np.float32)
    wide = wide[np.isfinite(wide)].astype(np.float64)
    middle = ((wide[1:] + wide[:-1]) / 2).astype(np.float32)
    tried = np.concatenate([np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(np.inf))])
    tried = np.concatenate([tried, -tried])
    out = np.empty(tried.size, np.uint16)
    Here(c, 1).run("C", kernels.encoding(codec, cases.F4, tried.size, feedback=False), out, tried)
    assert cases.same(out.view(dtype), tried.astype(dtype))


def test_what_no_kernel_does() -> None:
    with pytest.raises(InvalidArgument, match="topk"):
        kernels.encoding(TopK(), cases.F4, 10, feedback=True)
    with pytest.raises(InvalidArgument, match="needs a residual"):
        kernels.encoding(OneBit(), cases.F4, 10, feedback=False)
