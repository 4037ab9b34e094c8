"""Whenever the process dies, or the disk refuses, there is the old checkpoint or the new one, whole."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import MANIFEST, DictStorage, files

import akv
from akv import optim, sync
from akv.checkpoint import disk


class Power:
    """The disk's: counts what is asked of it, may fail at one step, and from there on do nothing at all.

    Attributes:
        log: the steps, with the names of the files.
    """

    def __init__(self, fails_at: int, stays_down: bool) -> None:
        self.fails_at, self.stays_down = fails_at, stays_down
        self.log: list[tuple[str, str]] = []

    def step(self, verb: str, name: object) -> None:
        self.log.append((verb, os.path.basename(os.fspath(name)) if isinstance(name, str | os.PathLike) else ""))
        down = len(self.log) > self.fails_at if self.stays_down else len(self.log) == self.fails_at + 1
        if down:
            raise OSError(errno.EIO, "the power is gone", name if isinstance(name, str) else None)


class File:
    """A file whose every write is a step; it takes half of what it is given, and fails in the middle."""

    def __init__(self, power: Power, file: Any) -> None:
        self._power, self._file = power, file
        self.name = file.name

    def write(self, data: memoryview) -> int:
        half: int = self._file.write(data[: (len(data) + 1) // 2])
        self._power.step("write", self.name)
        return half

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def power(monkeypatch: pytest.MonkeyPatch, fails_at: int, stays_down: bool = True) -> Iterator[Power]:
    """Everything that a save asks of the system goes through this."""
    state = Power(fails_at, stays_down)
    names: dict[int, str] = {}

    def through(verb: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            state.step(verb, names.get(args[0], args[0]) if isinstance(args[0], int) else args[0])
            result = call(*args, **options)
            if verb == "open_folder":
                names[result] = args[0]
            return result

        return step

    def opened(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = builtins.open(path, mode, *args, **options)  # noqa: SIM115 - the caller closes it
        if "x" not in mode:
            return file
        try:
            state.step("create", path)
        except OSError:
            file.close()
            raise
        names[file.fileno()] = path
        return File(state, file)

    with monkeypatch.context() as patched:
        for verb in ("mkdir", "fsync", "replace", "unlink", "listdir"):
            patched.setattr(os, verb, through(verb, getattr(os, verb)))
        patched.setattr(os, "open", through("open_folder", os.open))
        patched.setattr(disk, "open", opened, raising=False)
        yield state


def store(value: float) -> sync.KVStore:
    kv = sync.connect("memory://")
    kv.init(["w", "b"], [np.full((4, 4), value, np.float32), np.full(3, value)])
    kv.set_optimizer(optim.SGD(momentum=0.9))
    kv.push("w", np.full((4, 4), value, np.float32))
    return kv


def loaded(folder: Path) -> tuple[bytes, bytes]:
    """What a new store gets from it, and what that becomes by a push, which needs the states."""
    with sync.connect("memory://") as kv:
        kv.load(folder)
        return kv.pull("b").tobytes(), kv.pushpull(
            "w", np.ones((4, 4), np.float32), np.empty((4, 4), np.float32)
        ).tobytes()


@pytest.mark.parametrize("stays_down", [True, False])
@pytest.mark.parametrize("verb", ["save", "save_optimizer_states"])
def test_every_step_of_a_save_may_be_the_last(
    verb: str, stays_down: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ck"
    with store(1.0) as first, store(2.0) as second:
        first.save(folder)
        old = loaded(folder)
        second.save(tmp_path / "new")
        new = loaded(tmp_path / "new")
        steps = 0
        while True:
            before = files(folder)
            with power(monkeypatch, steps, stays_down) as state:
                try:
                    getattr(second, verb)(folder)
                    failed = False
                except akv.DiskError:
                    failed = True
            if len(state.log) <= steps:
                break
            steps += 1
            if MANIFEST in before and files(folder)[MANIFEST] == before[MANIFEST]:
                assert failed
                assert loaded(folder) == old
                left = files(folder)
                assert left.items() >= before.items()
                assert stays_down or left == before, "what was written was not removed"
            elif verb == "save":
                assert loaded(folder) == new
            second.save(tmp_path / "new")
            first.save(folder)
            assert loaded(folder) == old
            assert len(files(folder)) == 3, "what a crash left behind was not removed"
        assert steps > 20


def test_a_first_save_that_fails_leaves_nothing_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store(1.0) as kv, sync.connect("memory://") as other:
        for steps in range(200):
            folder = tmp_path / str(steps)
            with power(monkeypatch, steps) as state:
                try:
                    kv.save(folder)
                except akv.DiskError:
                    pass
            if any(verb == "replace" for verb, _ in state.log[:steps]):
                return
            with pytest.raises((akv.BadCheckpoint, akv.DiskError)):
                other.load(folder)
            assert other.keys() == []
    raise AssertionError("it never came to its end")


def test_everything_is_on_disk_before_the_manifest_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store(1.0) as kv, power(monkeypatch, 10**6) as state:
        kv.save(tmp_path / "ck")
        kv.save(tmp_path / "ck")
    log = state.log
    last = max(place for place, step in enumerate(log) if step[0] == "replace")
    created = [name for verb, name in log if verb == "create"][3:]
    assert [name.split("-")[0] for name in created] == ["values", "states", "akv"]
    for name in created:
        writes = [place for place, step in enumerate(log) if step == ("write", name)]
        (synced,) = [place for place, step in enumerate(log) if step == ("fsync", name)]
        assert max(writes) < synced < last
        # Its name, too: the folder is synced after the file was created, and before the rename.
        assert any(step == ("fsync", "ck") for step in log[log.index(("create", name)) : last])
    assert ("fsync", "ck") in log[last:]
    assert all(place > last for place, step in enumerate(log) if step[0] == "unlink")
    assert ("fsync", tmp_path.name) in log, "the folder's own name"


def test_a_cancelled_save_leaves_the_old_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with akv.connect("memory://") as kv:
            await kv.init("w", np.ones(1 << 22))
            await kv.save(tmp_path / "ck")
            before = files(tmp_path / "ck")
            saving = kv.save(tmp_path / "ck")
            saving.cancel()
            await kv.flush()
            assert saving.cancelled()
            assert files(tmp_path / "ck") == before

    akv.run(main())


def test_two_cannot_save_to_one_folder(tmp_path: Path) -> None:
    with store(1.0) as kv:
        kv.save(tmp_path / "ck")
        before = files(tmp_path / "ck")
        with disk.locked_folder(str(tmp_path / "ck")), pytest.raises(akv.DiskError, match="another save"):
            kv.save(tmp_path / "ck")
        assert files(tmp_path / "ck") == before
        kv.save(tmp_path / "ck")


def test_a_load_during_saves_gets_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store(1.0) as first, store(2.0) as second:
        first.save(tmp_path / "ck")
        opened = disk.OldFile
        other = [second]

        def replaced_meanwhile(path: str) -> Any:
            if path.endswith("safetensors") and other:
                other.pop().save(tmp_path / "ck")
            return opened(path)

        monkeypatch.setattr("akv.checkpoint.reading.OldFile", replaced_meanwhile)
        got = loaded(tmp_path / "ck")
        second.save(tmp_path / "new")
        assert got == loaded(tmp_path / "new")


def test_a_storage_that_fails_half_way_names_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sync.connect("ckdict://") as kv:
        kv.init(["a", "b", "c"], [np.ones(2)] * 3)
        kv.save(tmp_path / "ck")
    with sync.connect("ckdict://") as kv:
        kv.init("c", np.zeros(2))
        monkeypatch.setattr(DictStorage, "refused", "b")
        with pytest.raises(akv.BackendUnavailable, match="'b'") as caught:
            kv.load(tmp_path / "ck")
        assert "['a']" in caught.value.__notes__[0]
        assert kv.keys() == ["c", "a"]
        monkeypatch.undo()
        kv.load(tmp_path / "ck")
        assert kv.keys() == ["c", "a", "b"]
