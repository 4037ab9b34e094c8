"""Arrays of torch and JAX go in, and torch tensors work as `out`; neither is a dependency."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from store_cases import ones

import akv

BIG = 1 << 20


@pytest.fixture(params=[True, False], ids=["inline", "threads"])
async def kv(request: pytest.FixtureRequest) -> AsyncIterator[akv.KVStore]:
    store = await akv.connect("memory://", inline=request.param)
    yield store
    await store.aclose()


def test_neither_is_imported() -> None:
    code = "import sys, akv, akv.sync as s; s.create().init(1, __import__('numpy').ones(3)); "
    names = "print([name for name in ('torch', 'jax', 'ml_dtypes', 'numba') if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code + names], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout == "[]\n"


class TestNumpy:
    """Layouts that other libraries hand out."""

    @pytest.mark.parametrize(
        "view",
        [
            lambda array: array[::-1],
            lambda array: array[:, ::-1],
            lambda array: array.T[::-1].T,
            lambda array: np.asfortranarray(array),
            lambda array: np.lib.stride_tricks.as_strided(array, array.shape, array.strides, writeable=False),
        ],
    )
    async def test_views_go_in_and_work_as_out(self, kv: akv.KVStore, view: Any) -> None:
        base = np.arange(12, dtype=np.float32).reshape(3, 4)
        expected = np.array(view(base))
        await kv.init("w", np.zeros((3, 4), np.float32))
        await kv.push("w", view(base))
        assert (await kv.pull("w") == expected).all()
        target = view(np.zeros((3, 4), np.float32))
        if target.flags.writeable:
            assert await kv.pull("w", out=target) is target
            assert (target == expected).all()

    async def test_read_only(self, kv: akv.KVStore) -> None:
        array = ones()
        array.flags.writeable = False
        await kv.init("w", array)
        assert await kv.push("w", array) == 2
        assert not array.flags.writeable
        with pytest.raises(akv.InvalidArgument, match="read-only"):
            kv.pull("w", out=array)


class TestTorch:
    @pytest.fixture(autouse=True)
    def torch(self) -> Any:
        return pytest.importorskip("torch")

    @pytest.mark.parametrize(
        "name", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool", "complex64"]
    )
    async def test_every_dtype_goes_in_and_comes_out(self, kv: akv.KVStore, torch: Any, name: str) -> None:
        tensor = torch.tensor([[1, 0, 1], [0, 1, 1]]).to(getattr(torch, name))
        await kv.init("w", torch.zeros_like(tensor))
        assert await kv.push("w", tensor) == 2
        assert (await kv.info("w")).dtype.name == name
        out = torch.empty_like(tensor)
        assert await kv.pull("w", out=out) is out
        assert torch.equal(out, tensor)

    async def test_no_copy_lies_between(self, kv: akv.KVStore, torch: Any) -> None:
        """What is written goes to the tensor's own memory, also where that is strided."""
        await kv.init("w", np.arange(6, dtype=np.float32).reshape(2, 3))
        base = torch.zeros(3, 4)
        await kv.pull("w", out=base[:, 1:3].T)
        assert base.tolist() == [[0, 0, 3, 0], [0, 1, 4, 0], [0, 2, 5, 0]]

    async def test_bfloat16_sums_in_float32(self, kv: akv.KVStore, torch: Any) -> None:
        """Eight bits of mantissa would lose all of the small values; the sum rounds once."""
        await kv.init("w", torch.zeros(2, dtype=torch.bfloat16))
        parts = [torch.full((2,), 256.0, dtype=torch.bfloat16)] + [torch.ones(2, dtype=torch.bfloat16)] * 8
        await kv.push("w", parts)
        out = torch.empty(2)
        await kv.pull("w", out=out)
        assert out.tolist() == [264, 264]

    async def test_a_parameter_goes_in_detached(self, kv: akv.KVStore, torch: Any) -> None:
        layer = torch.nn.Linear(3, 2)
        layer(torch.ones(1, 3)).sum().backward()
        await kv.init(["weight", "bias"], [layer.weight, layer.bias])
        await kv.set_optimizer(akv.optim.SGD(learning_rate=1.0))
        before = layer.weight.detach().clone()
        await kv.push(["weight", "bias"], [layer.weight.grad, layer.bias.grad])
        await kv.pull(["weight", "bias"], out=[layer.weight, layer.bias])
        assert torch.allclose(layer.weight, before - 1)
        assert layer.weight.requires_grad
        assert layer.weight.is_leaf
        layer(torch.ones(1, 3)).sum().backward()  # autograd still works

    async def test_what_autograd_computed_is_no_out(self, kv: akv.KVStore, torch: Any) -> None:
        await kv.init("w", ones())
        computed = torch.ones(4, requires_grad=True) * 2
        with pytest.raises(akv.InvalidArgument, match="detach"):
            kv.pull("w", out=computed)
        assert await kv.push("w", computed) == 2

    async def test_lazy_negatives_and_conjugates(self, kv: akv.KVStore, torch: Any) -> None:
        tensor = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
        await kv.init(["conj", "imag"], [torch.zeros(2, dtype=torch.complex64), torch.zeros(2)])
        await kv.push(["conj", "imag"], [tensor.conj(), tensor.conj().imag])
        assert (await kv.pull("conj")).tolist() == [1 - 2j, 3 + 4j]
        assert (await kv.pull("imag")).tolist() == [-2, 4]

    async def test_a_list_of_devices(self, kv: akv.KVStore, torch: Any) -> None:
        """Tensors and numpy arrays may be mixed."""
        await kv.init("w", ones(0))
        await kv.push("w", [torch.ones(4), ones(2), torch.ones(4) * 3])
        outs = [torch.empty(4), np.empty(4), torch.empty(4, dtype=torch.bfloat16)]
        assert await kv.pull("w", out=outs) is outs
        assert all(list(out) == [6] * 4 for out in outs)

    async def test_rows(self, kv: akv.KVStore, torch: Any) -> None:
        await kv.init("table", torch.zeros(5, 2))
        places = torch.tensor([[1, 3]])
        gradient = torch.sparse_coo_tensor(places, torch.ones(2, 2), (5, 2), check_invariants=True).coalesce()
        await kv.push("table", akv.RowSparse(gradient.indices()[0], gradient.values(), gradient.shape))
        rows = await kv.row_sparse_pull("table", row_ids=torch.tensor([3, 0]))
        assert rows.indices.tolist() == [0, 3]
        assert rows.values.tolist() == [[0, 0], [1, 1]]
        with pytest.raises(akv.InvalidArgument, match="to_dense"):
            kv.push("table", gradient)

    async def test_a_big_tensor_belongs_to_the_store_until_the_push_is_done(self, kv: akv.KVStore, torch: Any) -> None:
        await kv.init("w", torch.zeros(BIG))
        tensor = torch.ones(BIG)
        await kv.push("w", tensor)
        tensor += 1
        assert (await kv.snapshot("w") == 1).all()

    async def test_what_comes_out_is_a_tensor_at_no_cost(self, kv: akv.KVStore, torch: Any) -> None:
        await kv.init("w", ones(2))
        tensor = torch.from_numpy(await kv.pull("w"))
        tensor += 1  # it is the caller's own
        assert (await kv.pull("w") == 2).all()


class TestJax:
    @pytest.fixture(autouse=True)
    def jnp(self) -> Any:
        return pytest.importorskip("jax.numpy")

    @pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "int32", "uint8", "bool"])
    async def test_every_dtype_goes_in(self, kv: akv.KVStore, jnp: Any, name: str) -> None:
        array = jnp.asarray([[1, 0, 1], [0, 1, 1]]).astype(name)
        await kv.init("w", jnp.zeros_like(array))
        assert await kv.push("w", array) == 2
        assert (await kv.info("w")).dtype.name == name
        assert bool((jnp.asarray(await kv.pull("w")) == array).all())

    async def test_gradients(self, kv: akv.KVStore, jnp: Any) -> None:
        jax = pytest.importorskip("jax")
        await kv.init("w", jnp.arange(3.0))
        await kv.set_optimizer(akv.optim.SGD(learning_rate=0.5))
        weights = jnp.asarray(await kv.pull("w"))
        await kv.push("w", jax.grad(lambda w: (w**2).sum())(weights))
        assert (await kv.pull("w") == 0).all()

    async def test_they_are_never_written_to(self, kv: akv.KVStore, jnp: Any) -> None:
        array = jnp.ones(4)
        await kv.init("w", array)
        with pytest.raises(akv.InvalidArgument, match="in place"):
            kv.pull("w", out=array)
        await kv.set_updater("add")
        await kv.push("w", [array, array], priority=1)
        assert (await kv.pull("w") == 3).all()
        assert array.tolist() == [1] * 4

    async def test_a_donated_one_is_copied(self, kv: akv.KVStore, jnp: Any) -> None:
        """It is read-only memory of JAX's; the store has to write to what it keeps."""
        array = jnp.zeros(4)
        await kv.init("w", ones())
        await kv.push("w", array, donate=True)
        await kv.push("w", ones(5))
        assert array.tolist() == [0] * 4
