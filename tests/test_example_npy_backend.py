"""The third-party backend in examples/ keeps the contract, and its files are what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from covering import pairs

import akv
from akv.backend.registry import register
from akv.testing import BackendTests
from akv.testing.faces import ASYNC_QUEUED, BLOCKING_QUEUED, Face
from akv.values.keys import Key


def load(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


npy = load("npy_backend")
register("npy", npy.backend)


def file_of(url: str, key: Key) -> Path:
    return npy.path_of(Path(url.removeprefix("npy://")), key)


class TestNpy(BackendTests):
    lasting = True
    # Loops and faces are the business of test_memory_backend.py, and a disk takes its time: each test through one.
    loops = ("asyncio",)
    repeats = staticmethod(pairs)

    @pytest.fixture(params=[ASYNC_QUEUED, BLOCKING_QUEUED], ids=str)
    def face(self, request: pytest.FixtureRequest) -> Face:
        """Its operations never run in their caller."""
        face: Face = request.param
        return face

    def url(self, folder: Path) -> str:
        return f"npy://{folder}"

    def peek(self, url: str, key: Key) -> np.ndarray:
        return npy.read(file_of(url, key))[0]

    def poke(self, url: str, key: Key, array: np.ndarray) -> None:
        with file_of(url, key).open("wb") as file:
            npy.write(file, array, {"key": key, "version": 1})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path.resolve()


async def test_a_file_is_what_np_load_reads(folder: Path) -> None:
    async with akv.connect(f"npy://{folder}?fsync=1") as kv:
        await kv.init("layer/0.weight", np.arange(6.0).reshape(2, 3))
        path = npy.path_of(folder, "layer/0.weight")
        assert path.name.startswith("layer%2F0.weight-")
        assert np.array_equal(np.load(path, allow_pickle=False), np.arange(6.0).reshape(2, 3))


async def test_a_failed_write_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with akv.connect(f"npy://{folder}") as kv:
        await kv.init("w", np.ones(3))
        await kv.set_optimizer(akv.optim.SGD(learning_rate=0.5, momentum=0.5))
        with monkeypatch.context() as broken:
            broken.setattr(Path, "replace", _no_space)
            with pytest.raises(akv.BackendUnavailable, match=r"'w'.*put failed.*No space"):
                await kv.push("w", np.ones(3))
            with pytest.raises(akv.BackendUnavailable, match=r"'v'.*put failed.*No space"):
                await kv.init("v", np.ones(3))
        assert await kv.keys() == ["w"]
        assert np.array_equal(await kv.pull("w"), np.ones(3))
        assert await kv.push("w", np.ones(3)) == 2
        # Nor has the momentum counted what was not pushed.
        assert np.array_equal(await kv.pull("w"), np.full(3, 0.5))
        await kv.init("v", np.ones(3))
        assert (await kv.info("v")).version == 1


def _no_space(self: Path, target: Path) -> Path:
    raise OSError(28, "No space left on device")


async def test_what_somebody_else_spoils_is_an_error(folder: Path) -> None:
    async with akv.connect(f"npy://{folder}") as kv:
        await kv.init(["a", "b"], [np.ones(3), np.ones(3)])
        npy.path_of(folder, "a").write_bytes(b"no array")
        with npy.path_of(folder, "b").open("wb") as file:
            npy.write(file, np.ones(4), {"key": "b", "version": 1})
        with pytest.raises(akv.BackendUnavailable, match=r"'a'.*get failed"):
            await kv.pull("a")
        with pytest.raises(akv.BackendUnavailable, match=r"'b'.*\(4,\).*\(3,\)"):
            await kv.pull("b", np.zeros(3))
    with pytest.raises(akv.BackendUnavailable, match=f"npy://{folder}"):
        await akv.connect(f"npy://{folder}")


async def test_half_a_write_is_ignored(folder: Path) -> None:
    async with akv.connect(f"npy://{folder}") as kv:
        await kv.init("w", np.ones(3))
    npy.path_of(folder, "w").with_suffix(".new").write_bytes(b"half")
    async with akv.connect(f"npy://{folder}") as kv:
        assert np.array_equal(await kv.pull("w"), np.ones(3))
        assert await kv.push("w", np.zeros(3)) == 2


async def test_other_names_of_the_folder_are_refused(folder: Path) -> None:
    for name in (f"{folder}/", f"{folder}/../{folder.name}", f"./{folder}", ""):
        with pytest.raises(akv.InvalidArgument, match="absolute path"):
            await akv.connect(f"npy://{name}")


async def test_the_example_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await npy.main(str(folder))
    assert "found again: [ 0.5  0.  -0.5]" in capsys.readouterr().out
