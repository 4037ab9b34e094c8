"""The conformance suite catches backends with one thing wrong: it has teeth, and here they are counted."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from broken_backends import CAUGHT_BY

# Another run of pytest inside this one, without what would get into each other's way, and without this project's
# options: with pytest-asyncio's strict mode, say, which the suite has to do with as well.
OPTIONS = ["-c", os.devnull, "--rootdir", str(Path(__file__).parent), "--import-mode=importlib", "-Werror"]
SETTINGS = ["-o", "asyncio_default_fixture_loop_scope=function"]  # or pytest-asyncio warns
PLUGINS = ["terminal", "cacheprovider", "faulthandler", "timeout", "logging"]


class Recorder:
    """A pytest plugin that counts outcomes by suite and test."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[tuple[str, str]]] = {"passed": Counter(), "failed": Counter()}
        self.texts: dict[tuple[str, str], str] = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        config.option.tbstyle = "native"  # or half of the time goes into showing code that is broken on purpose

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.when == "call":
            self.counts.get(report.outcome, Counter())[_place(report.nodeid)] += 1
            self.texts[_place(report.nodeid)] = report.longreprtext


def _place(nodeid: str) -> tuple[str, str]:
    """The suite and the test, without its parameters."""
    _, suite, test = nodeid.split("::", 2)
    return suite, test.partition("[")[0]


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    recorder = Recorder()
    options = [*OPTIONS, *SETTINGS, *[f"-pno:{name}" for name in PLUGINS]]
    assert (
        pytest.main([str(Path(__file__).with_name("broken_backends.py")), *options], plugins=[recorder])
        == pytest.ExitCode.TESTS_FAILED
    )
    return recorder


@pytest.mark.parametrize(
    ("name", "test"), [(broken.__name__, test) for broken, tests in CAUGHT_BY.items() for test in tests]
)
def test_the_suite_catches(recorder: Recorder, name: str, test: str) -> None:
    failed, passed = recorder.counts["failed"], recorder.counts["passed"]
    assert failed[f"Test{name}", test], f"{test} passed {passed[f'Test{name}', test]} times"


@pytest.mark.parametrize("test", sorted({test for tests in CAUGHT_BY.values() for test in tests}))
def test_the_suite_passes_the_sound_one(recorder: Recorder, test: str) -> None:
    assert not recorder.counts["failed"]["TestSound", test], recorder.texts["TestSound", test]
    assert recorder.counts["passed"]["TestSound", test]
