"""The examples run as users start them, and what they print is right."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DIGITS = ("sklearn", "matplotlib", "rich")


def start(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    # Where PYTHONSAFEPATH is set, as by tox, Python does not find a script's neighbours by itself.
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(EXAMPLES / script), *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=80)


def output(script: str, *args: str) -> str:
    done = start(script, *args)
    assert not done.stderr
    assert done.returncode == 0
    return done.stdout


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a script in this process, where scikit-learn has been imported: that takes longer than the training."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(script: str, *args: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *args])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        shown = capsys.readouterr()
        assert not shown.err
        return shown.out

    return run


def test_trainer_learns(tmp_path: Path) -> None:
    for module in DIGITS:
        pytest.importorskip(module)
    plot = tmp_path / "new" / "loss.png"
    learns(output("train_digits.py", f"--plot={plot}"), 20)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_trainer_learns_on_another_store(here: Callable[..., str], tmp_path: Path) -> None:
    for module in DIGITS:
        pytest.importorskip(module)
    plot = tmp_path / "new" / "loss.png"
    url = "--url=memory://digits-queued?inline=no"
    shown = here("train_digits.py", f"--plot={plot}", "--workers=3", "--seed=1", "--epochs=10", url)
    learns(shown, 10)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert str(plot) in shown


def learns(shown: str, epochs: int) -> None:
    losses = [float(loss) for loss in re.findall(r"│ +\d+ │ +([\d.]+) │", shown)]
    assert len(losses) == epochs
    assert losses[-1] < losses[0] / 10
    (accuracy,) = re.findall(r"in the end .* ([\d.]+)%", shown)
    assert float(accuracy) >= 95


@pytest.mark.parametrize(
    ("workers", "complaint"), [(0, "there is at least one worker"), (1000, "1000 workers are too many")]
)
def test_trainer_refuses_numbers_without_meaning(
    here: Callable[..., str], capsys: pytest.CaptureFixture[str], workers: int, complaint: str
) -> None:
    for module in DIGITS:
        pytest.importorskip(module)
    with pytest.raises(SystemExit) as caught:
        here("train_digits.py", f"--workers={workers}")
    assert caught.value.code
    assert complaint in f"{caught.value.code} {capsys.readouterr().err}"  # Python prints a text that is the code


def test_network_has_the_gradient_of_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in DIGITS:
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(EXAMPLES)
    import digits

    network = digits.Network(seed=0, sizes=(5, 4, 3))
    network.layers = [[array.astype(np.float64) for array in layer] for layer in network.layers]
    inputs, labels = np.random.default_rng(1).normal(size=(7, 5)), np.arange(7) % 3

    def loss() -> float:
        return digits.cross_entropy(network.forward(inputs)[-1], labels)[0]

    values = network.forward(inputs)
    _, error = digits.cross_entropy(values[-1], labels)
    found = dict(network.backward(values, error))
    assert list(found) == [1, 0]
    for number, layer in enumerate(network.layers):
        for array, gradient in zip(layer, found[number], strict=True):
            np.testing.assert_allclose(gradient, slopes(loss, array), rtol=1e-4, atol=1e-7)


def slopes(function, array: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The partial derivatives by the elements of `array`, by central differences."""
    found = np.empty_like(array)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + step
        above = function()
        array[place] = kept - step
        found[place] = (above - function()) / (2 * step)
        array[place] = kept
    return found


def test_processes_and_tasks_train_the_same_weights(here: Callable[..., str]) -> None:
    pytest.importorskip("sklearn")
    same = ("train_processes.py", "--workers=3", "--epochs=2")
    shown = [output(*same), here(*same, "--url=memory://digits-rounds")]
    (apart,), (together,) = (re.findall(r"the weights are (\w{16})", text) for text in shown)
    assert apart == together
    for text in shown:
        assert float(re.findall(r"epoch  2: ([\d.]+)%", text)[0]) >= 80
        assert "rounds of 3 workers" in text


def test_chapter_prints_what_mxnet_prints() -> None:
    """By MXNet's rules: a push assigns, a list is summed, and then the updater adds twice what is pushed."""
    shown = output("d2l_kvstore.py")
    assert re.findall(r"^\[\[(\d+)\.", shown, re.MULTILINE) == ["2", "8", "4", "4", "6", "6", "3", "11"]
    assert re.findall(r"update on key: (\d)", shown) == ["3", *"579" * 2]


def test_actors_follow_the_learner() -> None:
    shown = output("weight_sync.py")
    published = [int(version) for version in re.findall(r"learner  publishes version (\d+)", shown)]
    assert published == list(range(2, 14))
    for name in ("fast", "slow"):
        seen = re.findall(rf"{name}     acts on version (\d+), (\d+) skipped", shown)
        versions, skipped = zip(*[(int(version), int(count)) for version, count in seen], strict=True)
        assert versions[-1] == published[-1]
        assert skipped[1:] == tuple(after - before - 1 for before, after in pairwise(versions))
        assert re.search(rf"{name} .*done at version 13, {sum(skipped)} skipped in all", shown)
    assert int(re.findall(r"late     begins with the weights of step (\d+)", shown)[0]) >= 5


def test_each_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert not [file.name for file in EXAMPLES.glob("*.py") if f"]({file.name})" not in table]
