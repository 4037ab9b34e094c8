"""What a user gets: the wheel's contents, and the two commands that README names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python3 run.py test"
PACKAGES = {"akv", "akv_cupy", "akv_memory", "akv_tcp"}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as file:
        yield file.namelist()


def test_wheel_has_only_the_packages(names: list[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert len(top) == len(PACKAGES) + 1


def test_wheel_is_typed_and_has_no_tests(names: list[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert not [name for name in names if "tests" in name.split("/") or name.split("/")[-1].startswith("test_")]


def test_bootstrap_prints_its_help() -> None:
    done = subprocess.run([sys.executable, "run.py"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert COMMAND.split()[-1] in done.stdout
    assert not done.stderr


def test_ci_runs_what_readme_says() -> None:
    assert COMMAND in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert COMMAND in (ROOT / "README.md").read_text(encoding="utf-8")
