"""The files: the safetensors library reads them without akv, and a cluster's shards make one checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import DTYPES, arrays, exactly, integers, texts, values
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from akv import optim, sync
from akv.backend.local import LocalBackend
from akv.backend.saved import CheckpointStorage
from akv.checkpoint import open_checkpoint, open_writer
from akv.checkpoint.layout import Tensor, lay_out

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# What the library files under a name of its own.
ELSEWHERE = ("complex128", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz")


def going_on(nbytes: int) -> None:
    """Nothing stops it."""


def names(store: sync.KVStore, saved: Any, folder: Path) -> dict[Any, str]:
    """The tensor's name of each key, found by its place: the k-th key's value has the shape (k,)."""
    safetensors = pytest.importorskip("safetensors")
    with store:
        for place, key in enumerate(saved):
            store.init(key, np.zeros(place, np.uint8))
        store.save(folder)
    (path,) = folder.glob("values-*")
    with safetensors.safe_open(path, "np") as file:
        found = {file.get_slice(name).get_shape()[0]: name for name in file.keys()}  # noqa: SIM118 - no mapping
        assert file.metadata()["keys"] == ("".join({type(key).__name__ for key in saved}))
    return {key: found[place] for place, key in enumerate(saved)}


@quick
@given(saved=st.sets(texts, max_size=8) | st.sets(integers, max_size=8))
@example(saved={"__metadata__", 'akv:json:"__metadata__"', "\ud800", 'akv:json:"\\ud800"', "akv:json:"})
def test_each_key_has_a_name_of_its_own(tmp_path: Path, saved: set[Any]) -> None:
    found = names(sync.connect("memory://"), sorted(saved, key=repr), tmp_path)
    assert len(set(found.values())) == len(saved)
    for key, name in found.items():
        plain = isinstance(key, int) or (key != "__metadata__" and not key.startswith("akv:json:") and key.isascii())
        assert name == str(key) or not plain


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(quick, max_examples=15)
@given(data=st.data())
def test_the_library_alone_opens_the_values(dtype: Any, tmp_path: Path, data: st.DataObject) -> None:
    safetensors = pytest.importorskip("safetensors")
    value = data.draw(arrays(dtype))
    with sync.connect("memory://") as kv:
        kv.init(["a", "w"], [np.ones(3, np.int8), value])
        kv.save(tmp_path)
    (path,) = tmp_path.glob("values-*")
    # Of numpy's float8 the library knows the names only; torch has them.
    by_torch = dtype.name.startswith("float8") and dtype.name not in ELSEWHERE
    torch = pytest.importorskip("torch") if by_torch else None
    with safetensors.safe_open(path, "pt" if by_torch else "np") as file:
        assert sorted(file.keys()) == ["a", "w"]
        found, views = file.get_tensor("w"), json.loads(file.metadata()["views"])
    assert views == ({"w": dtype.name} if dtype.name in ELSEWHERE else {})
    if torch is not None:
        assert (tuple(found.shape), str(found.dtype)) == (value.shape, f"torch.{dtype.name}")
        found = found.reshape(-1).view(torch.uint8).numpy()
    elif dtype == np.complex128:
        assert (found.dtype, found.shape) == (np.float64, (*value.shape, 2))
    else:
        assert (found.dtype, found.shape) == (np.uint8 if dtype.name in ELSEWHERE else dtype, value.shape)
    assert found.tobytes() == value.tobytes()


def test_the_library_alone_opens_the_states(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    with sync.connect("memory://") as kv:
        kv.init(["w", "w/0"], [np.ones((2, 3), np.float32), np.ones(3, np.float64)])
        kv.set_optimizer(optim.Adam(beta1=0.5, beta2=0.75))
        kv.push(["w", "w/0"], [np.ones((2, 3), np.float32), np.full(3, 2.0)])
        kv.save(tmp_path)
    (path,) = tmp_path.glob("states-*")
    with safetensors.safe_open(path, "np") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    assert found.keys() == {"w/0", "w/1", "w/0/0", "w/0/1"}
    exactly(found["w/0"], np.full((2, 3), 0.5, np.float32))
    exactly(found["w/1"], np.full((2, 3), 0.25, np.float32))
    exactly(found["w/0/0"], np.full(3, 1.0))
    exactly(found["w/0/1"], np.full(3, 1.0))


@quick
@given(saved=values())
def test_every_array_is_aligned_and_nothing_lies_between(saved: Any) -> None:
    layout = lay_out(Tensor((key, 0), value.dtype, value.shape) for key, value in saved.items())
    assert len(layout.head) % 8 == 0
    end = len(layout.head)
    for tensor in layout.tensors:
        assert tensor.start == end
        assert tensor.start % min(8, tensor.dtype.itemsize) == 0
        end += tensor.nbytes
    assert layout.nbytes == end


def storage(store: sync.KVStore) -> Any:
    backend = store._engine.backend
    assert isinstance(backend, LocalBackend)
    assert isinstance(backend.storage, CheckpointStorage)
    return backend.storage


@quick
@given(
    saved=st.dictionaries(st.text(max_size=3), arrays(np.float32), max_size=8),
    before=st.integers(1, 4),
    after=st.integers(1, 4),
)
def test_servers_write_shards_and_others_share_them_anew(
    tmp_path: Path, saved: dict[str, np.ndarray], before: int, after: int
) -> None:
    def owner(key: str, servers: int) -> int:
        return sum(key.encode()) % servers

    with open_writer("save", str(tmp_path), True, going_on) as writer:
        shards = []
        for server in range(before):
            with sync.connect("memory://") as kv:
                mine = {key: value for key, value in saved.items() if owner(key, before) == server}
                kv.init(list(mine), list(mine.values()))
                kv.set_optimizer(optim.SGD(momentum=0.5))
                for key in mine:
                    kv.push(key, np.ones_like(mine[key]))
                updater, captures = storage(kv).capture(storage(kv).keys())
                shards.append(writer.write_shard(captures, server, before))
                assert captures == []
        writer.commit(updater, shards)

    with sync.connect("memory://") as whole:
        whole.load(tmp_path)
        seen = []
        for server in range(after):
            with sync.connect("memory://") as kv, open_checkpoint("load", str(tmp_path), True, going_on) as reader:
                mine = [record for record in reader.records if owner(record.key, after) == server]
                items = [reader.read(record) for record in mine]
                for transaction in storage(kv).begin_restore("load", reader.updater, items, True):
                    transaction.run()
                keys = kv.keys()
                seen += keys
                for key in keys:
                    gradient = np.full_like(saved[key], 0.25)
                    exactly(kv.pull(key), whole.pull(key))
                    out = np.empty_like(gradient), np.empty_like(gradient)
                    exactly(kv.pushpull(key, gradient, out[0]), whole.pushpull(key, gradient, out[1]))
        assert sorted(seen) == sorted(whole.keys()) == sorted(saved)
