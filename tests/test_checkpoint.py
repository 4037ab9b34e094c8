"""save and load: what was saved is loaded, whatever it is; what does not fit is an error, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import FACES, MANIFEST, URLS, contents, exactly, files, opened, values
from hypothesis import HealthCheck, given, settings

import akv
from akv import sync
from akv.backend.local import LocalBackend
from akv.backend.storage import Storage
from akv.operations import Load, LoadOptimizerStates, Save, SaveOptimizerStates

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("url", URLS)
@quick
@given(saved=values())
def test_a_new_store_gets_all_that_was_saved(url: str, tmp_path: Path, saved: Mapping[Any, np.ndarray]) -> None:
    with sync.connect(url) as first, sync.connect(url) as second:
        for key, value in saved.items():
            first.init(key, value)
        first.save(tmp_path / "ck")
        second.load(tmp_path / "ck")
        assert second.keys() == first.keys() == list(saved)
        for key, value in saved.items():
            exactly(second.pull(key), value)
        assert contents(second) == contents(first)


@quick
@given(first=values(), second=values())
def test_a_folder_holds_what_was_saved_to_it_last(
    tmp_path: Path, first: Mapping[Any, np.ndarray], second: Mapping[Any, np.ndarray]
) -> None:
    for saved in (first, second):
        with sync.connect("memory://") as store:
            for key, value in saved.items():
                store.init(key, value)
            store.save(tmp_path / "ck")
    with sync.connect("memory://") as store:
        store.load(tmp_path / "ck")
        assert store.keys() == list(second)
    assert len(files(tmp_path / "ck")) == 2


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("face", FACES)
async def test_save_and_load_through_both_faces(face: str, url: str, tmp_path: Path) -> None:
    async with opened(face, url) as kv, opened(face, url) as other:
        await kv.init(["w", "b"], [np.ones((2, 3), np.float32), np.zeros(3)])
        await kv.push("w", np.full((2, 3), 7, np.float32))
        assert await kv.save(str(tmp_path / "ck")) is None
        assert await other.load(tmp_path / "ck") is None
        exactly(await other.pull("w"), np.full((2, 3), 7, np.float32))
        assert (await other.info("w")).version == 2
        assert (await other.info("b")).version == 1
        assert kv.is_capable("checkpoint")


@pytest.mark.parametrize("url", URLS)
async def test_both_are_fences_on_their_handle(url: str, tmp_path: Path) -> None:
    async with akv.connect(url) as kv:
        large = np.ones(1 << 20, np.float32)
        pending = [kv.init("w", large), kv.push("w", large * 2), kv.save(tmp_path / "ck"), kv.push("w", large * 3)]
        pending += [kv.load(tmp_path / "ck"), kv.pull("w")]
        for each in pending:
            found = await each
        exactly(found, large * 2)


@pytest.mark.parametrize("url", URLS)
def test_a_load_replaces_values_and_versions_only_go_up(url: str, tmp_path: Path) -> None:
    with sync.connect(url) as kv:
        kv.init("w", np.zeros(3))
        kv.init("other", np.ones(1))
        for step in range(1, 5):
            kv.push("w", np.full(3, float(step)))
            if step == 2:
                kv.save(tmp_path / "ck")
        kv.load(tmp_path / "ck")
        assert kv.info("w").version == 6
        exactly(kv.pull("w"), np.full(3, 2.0))
        kv.delete("w")
        kv.load(tmp_path / "ck")
        assert kv.info("w").version == 7
        with sync.connect(url) as fresh:
            fresh.init("w", np.zeros(3))
            fresh.load(tmp_path / "ck")
            assert fresh.info("w").version == 3


@pytest.mark.parametrize("url", URLS)
def test_keys_that_were_not_saved_stay_as_they_are(url: str, tmp_path: Path) -> None:
    with sync.connect(url) as kv, sync.connect(url) as other:
        kv.init("w", np.zeros(3))
        kv.save(tmp_path / "ck")
        other.init("x", np.ones(2))
        other.load(tmp_path / "ck")
        assert other.keys() == ["x", "w"]
        exactly(other.pull("x"), np.ones(2))
        assert other.info("x").version == 1


def test_who_loads_may_init_and_who_waits_is_woken(tmp_path: Path) -> None:
    with sync.connect("memory://") as kv:
        kv.init("w", np.zeros(3))
        kv.push("w", np.ones(3))
        kv.save(tmp_path / "ck")

    async def main() -> None:
        async with akv.connect("memory://") as kv, akv.connect("memory://") as other:
            waits = kv.wait_version("w", 2)
            fetched = kv.pull("w", min_version=2)
            await other.init("w", np.zeros(3))
            await kv.load(tmp_path / "ck")
            assert await waits == 2
            exactly(await fetched, np.ones(3))
            await kv.init("w", np.zeros(3))
            exactly(await kv.pull("w"), np.ones(3))

    akv.run(main())


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("w", np.zeros(4), akv.ShapeMismatch),
        ("w", np.zeros(3, np.float32), akv.DTypeMismatch),
        (1, np.zeros(3), akv.KeyTypeError),
    ],
)
def test_what_does_not_fit_changes_nothing(
    url: str, key: Any, value: np.ndarray, error: type[Exception], tmp_path: Path
) -> None:
    with sync.connect(url) as kv, sync.connect(url) as other:
        kv.init(["a", "w"], [np.ones(1), np.zeros(3)])
        kv.save(tmp_path / "ck")
        other.init(key, value)
        before = contents(other)
        with pytest.raises(error, match="load"):
            other.load(tmp_path / "ck")
        assert contents(other) == before


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("verb", ["save", "load", "save_optimizer_states", "load_optimizer_states"])
@pytest.mark.parametrize("path", [None, 3, b"x", "", "a\0b", "\ud800"])
async def test_what_is_no_path_is_refused_at_the_call(face: str, verb: str, path: Any) -> None:
    async with opened(face) as kv:
        with pytest.raises(akv.InvalidArgument, match=verb):
            getattr(kv, verb)(path)


def test_a_relative_path_is_taken_at_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sync.connect("memory://") as kv:
        kv.save("ck")
    assert (tmp_path / "ck" / MANIFEST).exists()


@pytest.mark.parametrize("face", FACES)
async def test_what_the_system_refuses_is_a_disk_error(face: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    async with opened(face) as kv:
        with pytest.raises(akv.DiskError, match="No such file") as caught:
            await kv.save(tmp_path / "missing" / "ck")
        assert isinstance(caught.value, OSError)
        with pytest.raises(akv.DiskError, match="Not a directory"):
            await kv.save(tmp_path / "file")
        with pytest.raises(akv.DiskError, match="No such file"):
            await kv.load(tmp_path / "missing")
    assert files(tmp_path) == {"file": b"mine"}


def test_a_folder_of_others_keeps_its_files(tmp_path: Path) -> None:
    theirs = ["manifest.json", "model-00001-of-00002.safetensors", "values.safetensors"]
    for name in theirs:
        (tmp_path / name).write_bytes(name.encode())
    with sync.connect("memory://") as kv:
        kv.init("w", np.ones(1))
        for _ in range(2):
            kv.save(tmp_path)
        kv.load(tmp_path)
    found = files(tmp_path)
    assert all(found[name] == name.encode() for name in theirs)
    assert len(found) == len(theirs) + 2


def test_the_time_given_to_a_call_counts(tmp_path: Path) -> None:
    with sync.connect("memory://") as kv:
        kv.init("w", np.ones(1 << 22))
        with pytest.raises(akv.AkvTimeout):
            kv.save(tmp_path / "ck", timeout=1e-9)
        kv.save(tmp_path / "ck")
        with pytest.raises(akv.AkvTimeout):
            kv.load(tmp_path / "ck", timeout=1e-9)
        assert kv.info("w").version == 1


class Plain(Storage):
    """A storage without the capability."""


Plain.__abstractmethods__ = frozenset()


@pytest.mark.parametrize("operation", [Save, Load, SaveOptimizerStates, LoadOptimizerStates])
def test_a_storage_that_makes_none_says_so(operation: Any, tmp_path: Path) -> None:
    assert not LocalBackend("plain", Plain()).capabilities["checkpoint"]
    with pytest.raises(akv.InvalidArgument, match=rf"{operation.verb}.*is_capable\('checkpoint'\)"):
        operation(tmp_path / "ck").begin(Plain())
