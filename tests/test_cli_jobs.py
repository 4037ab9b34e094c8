"""What commands are in a job: who looks is nobody's worker, whatever the environment says to workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from tcp_cases import PATIENCE, Here

from akv import sync
from akv.backend import registry
from akv.backend.simple import SimpleProvider, SimpleStorage
from akv.cli import looking, main
from akv.cli.looking import change, look
from akv.values.keys import Key

ENVIRONMENTS = [
    {},
    {"AKV_RANK": "1"},
    {"AKV_WORKERS": "2"},
    {"AKV_WORKERS": "2", "AKV_RANK": "1", "AKV_ROLE": "worker", "AKV_CONSISTENCY": "ssp", "AKV_STALENESS": "3"},
    {"AKV_WORKERS": "3", "AKV_ON_WORKER_LOSS": "drop", "AKV_WORKER_TIMEOUT": "7"},
]
NO_WISHES = {"consistency": None, "staleness": None, "on_worker_loss": None, "worker_timeout": None}
QUERIES = ["", "?rank=1", "?workers=2&rank=1&role=worker"]
TWO = np.full(2, 2.0)


@pytest.fixture
def here() -> Iterator[Here]:
    server = Here()
    yield server
    server.close()


class Shelf(SimpleStorage):
    """A store without roles."""

    where = "shelf"

    def get(self, key: Key) -> np.ndarray:
        raise NotImplementedError

    def put(self, key: Key, array: np.ndarray, version: int) -> None:
        raise NotImplementedError

    def remove(self, key: Key, version: int) -> None:
        raise NotImplementedError


def say(said: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in said.items():
        monkeypatch.setenv(name, value)


def reading(url: str, folder: Path) -> list[list[str]]:
    return [["ls", url], ["info", url, "w"], ["get", url, "w"], ["save", url, str(folder / "ck")]]


@pytest.mark.parametrize("said", ENVIRONMENTS, ids=",".join)
@pytest.mark.parametrize("query", QUERIES)
def test_who_only_looks_takes_no_workers_place(
    here: Here, said: Mapping[str, str], query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{here.url}/job"
    with sync.connect(url, workers=2, rank=0, timeout=PATIENCE) as first:
        first.init("w", np.zeros(2))
        first.push("w", TWO)
        say(said, monkeypatch)
        for command in reading(url + query, tmp_path):
            assert main(command) == 0
        # The round still waits for rank 1, whose place is free.
        assert first.info("w").version == 1
        with sync.connect(url, workers=None, rank=1, role="worker", timeout=PATIENCE, **NO_WISHES) as second:
            assert second.push("w", TWO) == 2
            assert (second.pull("w") == 2 * TWO).all()


@pytest.mark.parametrize("said", ENVIRONMENTS, ids=",".join)
@pytest.mark.parametrize("query", QUERIES)
def test_who_only_looks_makes_no_job(
    here: Here,
    said: Mapping[str, str],
    query: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(said, monkeypatch)
    for command in reading(f"{here.url}/jbo{query}", tmp_path):
        assert main(command) == 1
        assert "there is no job 'jbo' here" in capsys.readouterr().err
    assert not here.server.jobs._plain
    assert not here.server.jobs._rounds


@pytest.mark.parametrize("said", ENVIRONMENTS, ids=",".join)
def test_a_store_without_rounds_is_looked_into_as_well(
    here: Here, said: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sync.connect(f"{here.url}/job") as kv:
        kv.init("w", TWO)
        say(said, monkeypatch)
        for command in reading(f"{here.url}/job", tmp_path):
            assert main(command) == 0


def test_what_changes_a_job_is_another_worker_than_that_of_the_environment(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AKV_WORKERS", "2")
    monkeypatch.setenv("AKV_RANK", "1")
    with change(f"{here.url}/job") as kv:
        assert (kv.rank, kv.num_workers) == (0, 2)
    with change(f"{here.url}/job?rank=1") as kv:
        assert kv.rank == 1


def test_put_and_load_before_the_workers_start(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As rank 1 they would wait for the value of rank 0."""
    np.save(tmp_path / "w.npy", TWO)
    monkeypatch.setenv("AKV_WORKERS", "2")
    monkeypatch.setenv("AKV_RANK", "1")
    monkeypatch.setenv("AKV_TIMEOUT", f"{PATIENCE}")
    assert main(["put", f"{here.url}/a", "w", str(tmp_path / "w.npy")]) == 0
    assert main(["save", f"{here.url}/a", str(tmp_path / "ck")]) == 0
    assert main(["load", f"{here.url}/b", str(tmp_path / "ck")]) == 0
    for job in ("a", "b"):
        with look(f"{here.url}/{job}") as kv:
            assert kv.num_workers == 2
            assert (kv.pull("w") == TWO).all()


def test_a_put_that_fails_is_no_worker_that_died(here: Here) -> None:
    url = f"{here.url}/job?workers=2"
    assert main(["put", url, "w", "nowhere.npy"]) == 1
    assert main(["load", url, "nowhere"]) == 1
    with change(url) as kv:
        assert kv.rank == 0


def test_in_this_process_a_job_has_readers_and_all_else_has_no_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registered, "shelf", SimpleProvider("shelf", lambda name, options: Shelf()))
    for url, rank in (
        ("memory://", 0),
        ("memory://cli-plain", 0),
        ("shelf://x", 0),
        ("memory://cli-job?workers=2", -1),
        ("memory://cli-job?workers=2&rank=1", -1),
    ):
        with look(url) as kv:
            assert kv.rank == rank, url


def test_ls_of_more_keys_than_a_server_tells_of_at_once(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    count = (1 << 16) + 1
    with sync.connect(f"{here.url}/job") as kv:
        for start in range(0, count, 1 << 14):
            keys = list(range(start, min(start + (1 << 14), count)))
            kv.init(keys, [np.zeros(())] * len(keys))
        assert main(["ls", f"{here.url}/job"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [int(line.split()[0]) for line in lines] == list(range(count))


@pytest.mark.parametrize("count", range(6))
def test_ls_names_each_key_once(
    count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(looking, "_KEYS", 2)
    with sync.connect("memory://cli-ls") as kv:
        kv.init(list(range(count)), [np.zeros(n) for n in range(count)])
        assert main(["ls", "memory://cli-ls"]) == 0
        lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
        assert [(line[0], line[2], line[4]) for line in lines] == [
            (f"{n}", f"({n},)", f"{8 * n} bytes") for n in range(count)
        ]
        kv.delete(kv.keys())
