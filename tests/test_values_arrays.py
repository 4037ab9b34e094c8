"""Foreign arrays and dtypes: what comes in shares memory with what was given, or is refused with its name."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from akv.errors import DTypeMismatch, InvalidArgument, NotAnArray
from akv.values.arrays import as_array, as_out, describe
from akv.values.dtypes import EXTENDED, NATIVE, accumulator, check_dtype, extended_dtype, holds, is_inexact

HELD = [*sorted(NATIVE, key=str), *(np.dtype(getattr(ml_dtypes, name)) for name in sorted(EXTENDED))]
UNHELD = [
    "O",
    "S3",
    "U3",
    "M8[s]",
    "m8[s]",
    "V3",
    "i4,f4",
    "g",
    "G",
    "i4,(2,)f4",
    ml_dtypes.int4,
    ml_dtypes.float8_e8m0fnu,
]
BOTH = pytest.mark.parametrize("convert", [as_array, as_out])


class Unprintable(str):
    """A verb or key that must not be formatted, because nothing went wrong."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise AssertionError("formatted on success")

    __repr__ = __str__ = lambda self: format(self, "")


class ArrayOnly:
    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self.array, Exception):
            raise self.array
        return self.array


class DLPackOnly:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


# ---- dtypes


@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_every_held_dtype_passes_unchanged(dtype: np.dtype) -> None:
    array = np.zeros((2, 3), dtype)
    check_dtype(dtype, "test")
    assert holds(dtype)
    assert as_array(array, Unprintable("push"), Unprintable("w")) is array
    assert np.shares_memory(as_out(array, Unprintable("pull"), Unprintable("w")), array)


@pytest.mark.parametrize("dtype", UNHELD, ids=str)
@BOTH
def test_other_dtypes_are_refused_by_name(dtype: Any, convert: Any) -> None:
    array = np.zeros(3, dtype)
    assert not holds(array.dtype)
    with pytest.raises(DTypeMismatch) as caught:
        convert(array, "push", "w")
    assert str(caught.value).startswith("push of key 'w': ")
    assert str(array.dtype) in str(caught.value)


@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_the_accumulator_holds_sums_of_the_dtype(dtype: np.dtype) -> None:
    small = dtype.itemsize < 4 and is_inexact(dtype)
    assert accumulator(dtype) == (np.float32 if small else dtype)


@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_inexact_means_that_nan_is_possible(dtype: np.dtype) -> None:
    with np.errstate(invalid="ignore"):
        nan = np.array([np.nan], np.float32).astype(dtype)
    assert is_inexact(dtype) == (dtype != np.bool_ and bool(np.isnan(nan.astype(np.complex64))[0]))


def test_without_ml_dtypes_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(DTypeMismatch, match=r"^pull: bfloat16 needs ml_dtypes: pip install ml_dtypes"):
        extended_dtype("bfloat16", "pull")


def test_only_known_names_are_looked_up() -> None:
    assert extended_dtype("bfloat16", "pull") == ml_dtypes.bfloat16
    with pytest.raises(DTypeMismatch, match="'finfo' is none of"):
        extended_dtype("finfo", "pull")


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, akv.values.rowsparse; print({'torch', 'jax', 'ml_dtypes', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- as_array


@given(hnp.arrays(hnp.integer_dtypes(endianness=">") | hnp.floating_dtypes(endianness=">", sizes=(16, 32, 64)), (3, 2)))
def test_foreign_byte_order_becomes_native(array: np.ndarray) -> None:
    native = as_array(array, "push", "w")
    assert native.dtype.isnative
    assert native.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(native, array)


def test_foreign_byte_order_of_bfloat16_becomes_native() -> None:
    array = np.arange(5, dtype=np.float32).astype(ml_dtypes.bfloat16)
    swapped = array.astype(array.dtype.newbyteorder(">"))
    assert not holds(swapped.dtype)
    assert as_array(swapped, "push", "w").tobytes() == array.tobytes()


@pytest.mark.parametrize("kind", [np.matrix, np.memmap], ids=str)
def test_subclasses_become_plain_views(kind: type, tmp_path: Any) -> None:
    array: Any = np.zeros((2, 3)).view(np.matrix)
    if kind is np.memmap:
        array = np.memmap(tmp_path / "a", np.float64, "w+", shape=(2, 3))
    for convert in (as_array, as_out):
        plain = convert(array, Unprintable("push"), Unprintable("w"))
        assert type(plain) is np.ndarray
        assert np.shares_memory(plain, array)


@pytest.mark.parametrize("scalar", [np.float32(3), np.bool_(True), np.float64(2), ml_dtypes.bfloat16(1.5)])
def test_numpy_scalars_become_0d(scalar: Any) -> None:
    array = as_array(scalar, "push", "w")
    assert (array.shape, array.dtype, array[()]) == ((), scalar.dtype, scalar)


def test_array_interface_and_dlpack_share_memory() -> None:
    array = np.arange(6.0)
    assert as_array(ArrayOnly(array), "push", "w") is array
    assert np.shares_memory(as_array(DLPackOnly(array), "push", "w"), array)


@pytest.mark.parametrize(
    "value",
    [None, 3, 3.5, True, "x", b"x", [np.zeros(2)], (1, 2), {}, memoryview(b"ab"), range(3), np.ndarray],
    ids=repr,
)
@BOTH
def test_what_is_no_array_is_refused_by_type(value: object, convert: Any) -> None:
    with pytest.raises(NotAnArray) as caught:
        convert(value, "push", 7)
    assert str(caught.value).startswith(f"push of key 7: {type(value).__name__} is not")


@BOTH
def test_sparse_matrices_are_told_what_to_call(convert: Any) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(NotAnArray, match=r"csr_array is not a dense array; call \.todense\(\)"):
        convert(sparse.csr_array((3, 3)), "push", "w")


@BOTH
def test_a_mask_is_not_lost_in_silence(convert: Any) -> None:
    with pytest.raises(InvalidArgument, match="mask"):
        convert(np.ma.array([1.0, 2.0], mask=[0, 1]), "push", "w")


@pytest.mark.parametrize(
    "error", [TypeError("use .get()"), RuntimeError("use .get()"), ZeroDivisionError("use .get()")]
)
def test_whatever_a_foreign_array_raises_is_told(error: Exception) -> None:
    with pytest.raises(
        InvalidArgument, match=r"push of key 'w': .*ArrayOnly does not convert .* use \.get\(\)"
    ) as caught:
        as_array(ArrayOnly(error), "push", "w")
    assert caught.value.__cause__ is error


def test_without_a_key_errors_open_with_the_verb() -> None:
    with pytest.raises(NotAnArray, match=r"^RowSparse values: int is not"):
        as_array(3, "RowSparse values")


def test_describe_names_dtype_and_shape() -> None:
    assert describe(np.zeros((2, 3), ml_dtypes.bfloat16)) == "bfloat16 (2, 3)"


# ---- as_out


@st.composite
def views(draw: st.DrawFn) -> np.ndarray:
    """A view such as users make: sliced, reversed, transposed, of either byte order."""
    shape = draw(hnp.array_shapes(max_dims=4, max_side=5))
    array = np.zeros(shape, draw(st.sampled_from(["<f4", ">f4", "<i2", ">c16"])))
    view = array[draw(hnp.basic_indices(shape, allow_newaxis=True))]
    assume(isinstance(view, np.ndarray))
    return view.transpose(draw(st.permutations(range(view.ndim))))


@given(views())
def test_what_is_written_to_out_arrives(view: np.ndarray) -> None:
    out = as_out(view, Unprintable("pull"), Unprintable("w"))
    expected = np.arange(1, view.size + 1).reshape(view.shape)
    np.copyto(out, expected, casting="unsafe")
    np.testing.assert_array_equal(view, expected)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-8, 8)), min_size=1, max_size=3))
def test_no_accepted_out_holds_an_element_twice(dims: list[tuple[int, int]]) -> None:
    shape, steps = zip(*dims, strict=True)
    home = np.zeros(200, np.int32)[100:]
    array = np.lib.stride_tricks.as_strided(home, shape, [4 * step for step in steps])
    places = sum(np.multiply(grid, step) for grid, step in zip(np.indices(shape), steps, strict=True))
    try:
        as_out(array, "pull", "w")
    except InvalidArgument:
        return
    assert len(np.unique(places)) == array.size


@pytest.mark.parametrize("broadcast", [np.broadcast_to(np.zeros(3), (2, 3)), np.broadcast_arrays(0.0, np.zeros(3))[0]])
def test_broadcast_arrays_are_refused(broadcast: np.ndarray) -> None:
    with pytest.raises(InvalidArgument, match="element twice"):
        as_out(broadcast, "pull", "w")


def test_read_only_arrays_are_refused(tmp_path: Any) -> None:
    array = np.zeros(3)
    array.flags.writeable = False
    (tmp_path / "a").write_bytes(bytes(24))
    for out in (array, array[::2], np.memmap(tmp_path / "a", np.float64, "r")):
        with pytest.raises(InvalidArgument, match=r"pull of key 'w': out float64 \(\d,\) is read-only"):
            as_out(out, "pull", "w")


@pytest.mark.parametrize(
    "out", [np.float32(3), ArrayOnly(np.zeros(3)), DLPackOnly(np.zeros(3))], ids=lambda o: type(o).__name__
)
def test_what_may_hand_out_copies_is_no_out(out: object) -> None:
    with pytest.raises(InvalidArgument, match="cannot be written in place"):
        as_out(out, "pull", "w")


# ---- torch


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@BOTH
@pytest.mark.parametrize("name", ["float32", "float64", "float16", "int8", "uint8", "int64", "bool", "complex64"])
def test_torch_shares_memory(torch: Any, name: str, convert: Any) -> None:
    tensor = torch.zeros(3, 4, dtype=getattr(torch, name)).T[::2]
    array = convert(tensor, Unprintable("push"), Unprintable("w"))
    assert (array.shape, array.dtype.name) == ((2, 3), name)
    array[1, 2] = 1
    assert tensor[1, 2].item() == 1


@BOTH
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
def test_torch_dtypes_that_numpy_lacks_share_memory(torch: Any, name: str, convert: Any) -> None:
    tensor = torch.tensor([[1.5, -2.0, 0.25], [4.0, 8.0, -0.5]]).to(getattr(torch, name)).T
    array = convert(tensor, "push", "w")
    assert array.dtype == getattr(ml_dtypes, name)
    np.testing.assert_array_equal(array.astype(np.float32), tensor.float().numpy())
    array[2, 1] = 3.0
    assert tensor[2, 1].item() == 3.0


@BOTH
def test_torch_bfloat16_without_ml_dtypes_names_the_extra(
    torch: Any, convert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(DTypeMismatch, match=r"push of key 'w': bfloat16 needs ml_dtypes: pip install ml_dtypes"):
        convert(torch.zeros(3, dtype=torch.bfloat16), "push", "w")


@BOTH
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_torch_parameters_are_detached(torch: Any, name: str, convert: Any) -> None:
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=getattr(torch, name)))
    convert(parameter, "push", "w")[1] = 2
    assert parameter.tolist() == [0, 2, 0]
    assert parameter.requires_grad


def test_torch_results_that_autograd_may_need_are_no_out(torch: Any) -> None:
    result = torch.nn.Parameter(torch.ones(3)) * 2
    np.testing.assert_array_equal(as_array(result, "push", "w"), [2, 2, 2])
    with pytest.raises(InvalidArgument, match=r"autograd .* pass out\.detach\(\)"):
        as_out(result, "pull", "w")
    as_out(result.detach(), "pull", "w")


def test_torch_lazy_conjugates_are_read_and_not_written(torch: Any) -> None:
    tensor = torch.tensor([1 + 2j])
    for lazy, expected in ((tensor.conj(), 1 - 2j), (tensor.conj().imag, -2)):
        assert as_array(lazy, "push", "w")[0] == expected
        with pytest.raises(InvalidArgument, match="does not convert"):
            as_out(lazy, "pull", "w")


def test_torch_expanded_is_no_out(torch: Any) -> None:
    tensor = torch.zeros(3, 1).expand(3, 4)
    assert as_array(tensor, "push", "w").strides == (4, 0)
    with pytest.raises(InvalidArgument, match="element twice"):
        as_out(tensor, "pull", "w")


@BOTH
def test_torch_tensors_that_are_elsewhere_say_so(torch: Any, convert: Any) -> None:
    class OnGpu(torch.Tensor):  # type: ignore[misc]
        device = property(lambda self: torch.device("cuda:0"))

    cases = {
        r"torch\.float32 \(3,\) is on cuda:0, .*\.cpu\(\)": torch.zeros(3).as_subclass(OnGpu),
        r"meta device": torch.zeros(3, device="meta"),
        r"is torch\.sparse_coo: call \.to_dense\(\), or make a RowSparse": torch.eye(3).to_sparse(),
    }
    for text, tensor in cases.items():
        with pytest.raises(InvalidArgument, match=r"push of key 'w': torch tensor .*" + text):
            convert(tensor, "push", "w")


# ---- JAX


@pytest.mark.parametrize("name", ["float32", "int32", "bool", "bfloat16", "float8_e4m3fn"])
def test_jax_arrays_are_read_and_not_written(name: str) -> None:
    jnp = pytest.importorskip("jax.numpy")
    given = jnp.arange(6).reshape(2, 3).astype(name)
    array = as_array(given, Unprintable("push"), Unprintable("w"))
    assert array.dtype.name == name
    assert not array.flags.writeable
    np.testing.assert_array_equal(array.astype(np.float32), np.arange(6).reshape(2, 3).astype(name).astype(np.float32))
    assert as_array(given, "push", "w").ctypes.data == array.ctypes.data
    with pytest.raises(InvalidArgument, match="cannot be written in place"):
        as_out(given, "pull", "w")


def test_jax_tracers_are_refused_with_the_reason() -> None:
    jax = pytest.importorskip("jax")
    with pytest.raises(InvalidArgument, match="traced array"):
        jax.jit(lambda x: as_array(x, "push", "w"))(jax.numpy.ones(3))
