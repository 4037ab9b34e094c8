"""`akv save` and `akv load`: what they do, what they print, and how they end."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import MANIFEST, contents, files
from tcp_cases import PATIENCE, process

import akv
from akv import optim, sync
from akv.cli import main, progress
from akv.cli.progress import Bar
from akv.engine import Engine
from akv.operations import Operation


@pytest.fixture
def kv() -> Iterator[sync.KVStore]:
    with sync.connect("memory://cli-save") as kv:
        kv.init(["w", "b"], [np.ones((3, 2), np.float32), np.zeros(5)])
        kv.set_optimizer(optim.SGD(momentum=0.5))
        kv.push("w", np.ones((3, 2), np.float32))
        yield kv
        kv.set_updater("assign")
        kv.delete(kv.keys())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(text: str) -> str:
    """What is left on a terminal's line after this."""
    line = ""
    for part in text.split("\r"):
        line = part + line[len(part) :]
    return line.rstrip(" ")


@pytest.mark.usefixtures("kv")
def test_save_and_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "ck")
    assert main(["save", "memory://cli-save", folder]) == 0
    out, err = capsys.readouterr()
    # Two values and one momentum.
    assert re.fullmatch(rf"saved 2 keys, 88 bytes in \d+\.\d\d s: {re.escape(folder)}\n", out)
    assert err == ""
    with sync.connect("memory://cli-load") as other:
        assert main(["load", "memory://cli-load", folder]) == 0
        out, err = capsys.readouterr()
        assert re.fullmatch(rf"loaded 2 keys, 88 bytes in \d+\.\d\d s: {re.escape(folder)}\n", out)
        assert err == ""
        with sync.connect("memory://cli-save") as kv:
            assert contents(other) == contents(kv)
        other.set_updater("assign")
        other.delete(other.keys())


def test_one_key_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sync.connect("memory://cli-one") as kv:
        kv.init("w", np.ones(3))
        assert main(["save", "memory://cli-one", str(tmp_path / "ck")]) == 0
        assert "saved 1 key, 24 bytes" in capsys.readouterr().out
        kv.delete("w")


@pytest.mark.parametrize("command", ["save", "load"])
def test_a_bar_on_a_terminal(command: str, kv: sync.KVStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kv.save(tmp_path / "ck")
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main([command, "memory://cli-save", str(tmp_path / "ck")]) == 0
    looks = terminal.getvalue().split("\r")
    assert f"{command} [" in looks[1]
    assert any("100% of 88 bytes" in look for look in looks)
    assert all(len(look) < 80 for look in looks)
    assert shown(terminal.getvalue()) == ""


def test_the_bar_is_gone_when_it_fails(kv: sync.KVStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kv.save(tmp_path / "ck")
    (file,) = (tmp_path / "ck").glob("values*")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["load", "memory://cli-save", str(tmp_path / "ck")]) == 1
    assert shown(terminal.getvalue()).startswith("akv: load(")
    assert "damaged" in terminal.getvalue()


def test_what_a_bar_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    with Bar("save") as bar:
        for step in range(1001):
            now = 100 + step / 100
            bar.show(step * 2**20, 1000 * 2**20)
    looks = terminal.getvalue().split("\r")[1:]
    # Every tenth of a second, and never longer than a line; then the line is cleared.
    assert len(looks) == 103
    assert looks[0] == f"save [{' ' * 30}]   0% of 1.05 GB"
    assert looks[50] == f"save [{'#' * 15}{' ' * 15}]  50% of 1.05 GB, 105 MB/s"
    assert looks[100] == f"save [{'#' * 30}] 100% of 1.05 GB, 105 MB/s"
    assert shown(terminal.getvalue()) == ""


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_499, "999 kB"), (999_999, "1 MB"), (1.5e15, "1500 TB")],
)
def test_amounts(nbytes: float, text: str) -> None:
    assert progress._amount(nbytes) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["save", "memory://cli-save", "no/where"], "No such file or directory"),
        (["load", "memory://cli-save", "nowhere"], "No such file or directory"),
        (["load", "memory://cli-save", "."], f"there is no {MANIFEST} in it"),
        (["save", "memory://cli-save", "file"], "Not a directory"),
        (["save", "nope://x", "ck"], "no backend claims nope://"),
        (["save", "tcp://127.0.0.1:1/job", "ck"], "does not answer"),
    ],
)
@pytest.mark.usefixtures("kv")
def test_an_error_is_one_line(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("akv: ")
    assert text in err
    assert err.count("\n") == 1
    assert files(tmp_path) == {"file": b"mine"}


def test_what_does_not_fit_is_one_line_too(
    kv: sync.KVStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kv.save(tmp_path / "ck")
    kv.delete("b")
    kv.init("b", np.zeros(6))
    before = contents(kv)
    assert main(["load", "memory://cli-save", str(tmp_path / "ck")]) == 1
    assert re.fullmatch(r"akv: load of key 'b': .*\(5,\).*\(6,\).*\n", capsys.readouterr().err)
    assert contents(kv) == before


@pytest.mark.parametrize("arguments", [["save"], ["load", "memory://x"]])
def test_arguments_that_are_missing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "required" in capsys.readouterr().err


def test_as_commands_with_a_server(tmp_path: Path) -> None:
    def akv_(*arguments: Any) -> subprocess.CompletedProcess[str]:
        code = "import sys; from akv.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    with process() as (url, _), sync.connect(f"{url}/a") as kv, sync.connect(f"{url}/b") as other:
        kv.init(["w", "b"], [np.ones(1 << 20), np.zeros(3)])
        saved = akv_("save", f"{url}/a", tmp_path / "ck")
        assert (saved.returncode, saved.stderr) == (0, "")
        assert saved.stdout.startswith("saved 2 keys, 8388632 bytes")
        loaded = akv_("load", f"{url}/b", tmp_path / "ck")
        assert (loaded.returncode, loaded.stderr) == (0, "")
        assert contents(other) == contents(kv)


def test_ctrl_c_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sync.connect("memory://cli-c") as kv:
        kv.init("w", np.ones(1 << 20))
        kv.save(tmp_path / "ck")
        before = files(tmp_path / "ck")

        cancelled = threading.Event()

        def interrupt(bar: Bar, done: int, total: int) -> None:
            # Again if it came just before the main thread began to wait: Python sees to it after that.
            while done and not cancelled.wait(0.0):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                cancelled.wait(1.0)

        def cancel(engine: Engine, op: Operation) -> bool:
            try:
                return original(engine, op)
            finally:
                cancelled.set()

        original = Engine.cancel
        monkeypatch.setattr(Engine, "cancel", cancel)
        monkeypatch.setattr(Bar, "show", interrupt)
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["save", "memory://cli-c", str(tmp_path / "ck")]) == 130
        assert terminal.getvalue() == "akv: interrupted\n"
        assert files(tmp_path / "ck") == before
        kv.delete("w")


def test_a_store_without_checkpoints_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("akv.operations.cut.CheckpointStorage", akv.RowSparse)
        assert main(["save", "memory://", str(tmp_path / "ck")]) == 1
    assert "makes no checkpoints" in capsys.readouterr().err
