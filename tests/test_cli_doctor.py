"""`akv doctor` and `akv --version` where akv is not installed, but only lies there."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError

import pytest

from akv.cli import main


@pytest.fixture
def _uninstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(Distribution, "from_name", absent)


@pytest.mark.usefixtures("_uninstalled")
def test_a_checkout_has_commands_and_no_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "akv          not installed, only imported from " in capsys.readouterr().out
    assert main(["ls", "memory://"]) == 0
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("akv not installed, only imported from ")
