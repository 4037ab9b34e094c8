"""Every Python block of README and docs runs, prints what its comments say, and every link has something behind it."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import re
import types
from pathlib import Path

import pytest

import akv
import akv.sync

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SAID = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_do_what_they_say(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks of a page are one program, on one event loop, with `await` at its top level as in a notebook."""
    text = page.read_text(encoding="utf-8")
    names = {"__name__": "__main__", "__builtins__": builtins}
    with asyncio.Runner() as runner:
        for block in BLOCK.finditer(text):
            run(block, name(page), names, runner)
            printed, said = capsys.readouterr().out.splitlines(), SAID.findall(block[1])
            assert not said or printed == said


def run(block: re.Match[str], filename: str, names: dict[str, object], runner: asyncio.Runner) -> None:
    above = block.string.count("\n", 0, block.start(1))
    source = "\n" * above + block[1]  # so that a traceback names the page's own line
    code = compile(source, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    outcome = types.FunctionType(code, names)()  # what `python -m asyncio` does with a line
    if inspect.iscoroutine(outcome):
        runner.run(outcome)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not missing


def test_there_are_blocks() -> None:
    """Or the pattern finds none, and the first test says nothing."""
    assert sum(len(BLOCK.findall(page.read_text(encoding="utf-8"))) for page in PAGES) > 20


def test_readme_names_the_two_commands_and_no_foreign_package() -> None:
    """`akv` on the public index is something else."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"python3 run.py train", "python3 run.py test"} <= set(text.splitlines())
    assert "pip install akv" not in text


def test_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    verbs = [verb for face in (akv.KVStore, akv.sync.KVStore) for verb in dir(face) if not verb.startswith("_")]
    optimizers = [name for name in akv.optim.__all__ if isinstance(getattr(akv.optim, name), type)]
    bases = {"Kernel", "Layerwise", "LRScheduler", "Optimizer", "Settings"}  # for those who write an optimizer
    missing = {name for name in [*akv.__all__, *verbs, *optimizers] if not re.search(rf"\b{name}\b", text)}
    assert missing <= bases


def test_map_has_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [path for path in [*ROOT.glob("akv/*"), *ROOT.glob("backends/*")] if path.suffix in {"", ".py"}]
    rooms = [path for path in rooms if not path.name.startswith("__")]
    assert not [path.name for path in rooms if f"{path.name}`" not in text]
