"""`akv serve` as a process: what it imports, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tcp_cases import PATIENCE, process

import akv
from akv import sync
from akv.cli import main

MODULE = """
import akv

@akv.optim.register
class Halved(akv.optim.SGD):
    name = "test_halved"

    def rate(self, key, count, settings):
        return super().rate(key, count, settings) / 2
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "akv_test_ours.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    return "akv_test_ours"


def test_an_optimizer_of_a_module_that_it_imports(module: str) -> None:
    __import__(module)
    ours: Any = akv.optim.from_dict({"name": "test_halved", "learning_rate": 0.5})
    arguments = ["serve", "--bind", "127.0.0.1:0", "--import", module]
    code = f"import sys; from akv.cli import main; sys.exit(main({arguments!r}))"
    with process(code) as (url, _), sync.connect(f"{url}/job") as kv:
        kv.init("w", np.zeros(3, np.float32))
        kv.set_optimizer(ours)
        kv.push("w", np.ones(3, np.float32))
        assert (kv.pull("w") == -0.25).all()
    with process() as (url, _), sync.connect(f"{url}/job") as kv:
        with pytest.raises(akv.InvalidArgument, match="no optimizer is called 'test_halved'; known are"):
            kv.set_optimizer(ours)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--import", "akv_test_nowhere"], "--import akv_test_nowhere: No module named"),
        (["--backend", "tcp://127.0.0.1:1/x"], "is a store on a network already"),
        (["--backend", "cupy://7"], "cupy"),
        (["--bind", "0.0.0.0:0"], "--insecure"),
        (["--bind", "127.0.0.1"], "no HOST:PORT"),
    ],
)
def test_what_it_refuses_at_once(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *arguments]) == 1
    output = capsys.readouterr()
    assert not output.out
    assert said in output.err
    assert output.err.count("\n") == 1


def test_its_version() -> None:
    command = [sys.executable, "-m", "akv", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.startswith(
        "akv "
    )
