"""Backends are found by their scheme and not before; stores with a name are shared."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine_cases import FakeBackend

from akv import sync
from akv.backend import registry
from akv.backend.options import Option, positive_integer
from akv.backend.registry import register, release, resolve, share
from akv.errors import BackendUnavailable, InvalidArgument, StoreClosed, UnknownStore
from akv.operations import Flush


class FakeProvider:
    def __init__(self, *, shared: bool = True, lasting: bool = False) -> None:
        self.shared, self.lasting = shared, lasting
        self.options: Mapping[str, Option] = {"depth": Option(positive_integer, 7)}
        self.opened: list[tuple[str, dict[str, Any]]] = []
        self.backends: list[FakeBackend] = []

    def open(self, name: str, options: Mapping[str, Any]) -> FakeBackend:
        self.opened.append((name, dict(options)))
        self.backends.append(FakeBackend())
        return self.backends[-1]


provider = FakeProvider()  # what an entry point may name


def point(name: str, value: str, dist: str = "somebodys-akv") -> EntryPoint:
    return EntryPoint(name, value, "akv.backends")._for(SimpleNamespace(name=dist))  # type: ignore[attr-defined]


HERE = f"{__name__}:provider"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The entry points of a machine with nothing installed; the test adds to them."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "entry_points", lambda group: [each for each in points if each.group == group])
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(provider=provider))
    return points


# -- finding ----------------------------------------------------------------------------------------------


def test_a_scheme_finds_its_entry_point_in_any_case_and_loads_it_once(installed: list[EntryPoint]) -> None:
    installed += [point("fake", HERE), point("broken", "no_such_module:backend")]
    location = resolve("FAKE://name?depth=3", {"timeout": 2})
    assert location.provider is provider
    assert (location.scheme, location.name, location.text) == ("fake", "name", "fake://name")
    assert (location.options["depth"], location.options["timeout"], location.timeout) == (3, 2.0, 2.0)
    installed.clear()
    assert resolve("fake://", {}).provider is provider


def test_an_unknown_scheme_is_an_error_that_lists_the_known(installed: list[EntryPoint]) -> None:
    with pytest.raises(UnknownStore, match=r"no backend claims nope://.*is akv installed"):
        resolve("nope://", {})
    installed += [point("b", HERE), point("a", HERE)]
    register("c", FakeProvider())
    with pytest.raises(UnknownStore, match="nope://; installed are a://, b://, c://"):
        resolve("nope://", {})


def test_two_claimants_of_a_scheme_are_an_error_that_names_both(installed: list[EntryPoint]) -> None:
    installed += [point("fake", HERE, "first-akv"), point("fake", "elsewhere:backend", "second-akv")]
    with pytest.raises(UnknownStore) as caught:
        resolve("fake://", {})
    for owner in ("first-akv", "second-akv", HERE, "elsewhere:backend"):
        assert owner in str(caught.value)


def test_one_distribution_that_is_listed_twice_is_no_conflict(installed: list[EntryPoint]) -> None:
    installed += [point("fake", HERE), point("fake", HERE)]
    assert resolve("fake://", {}).provider is provider


def test_a_backend_that_misses_a_module_says_which(installed: list[EntryPoint]) -> None:
    installed.append(point("fake", "no_such_module_of_akv:backend"))
    with pytest.raises(BackendUnavailable, match=r"fake:// needs no_such_module_of_akv.*install") as caught:
        resolve("fake://", {})
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_backend_that_cannot_be_imported_says_why(
    installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: EntryPoint) -> Any:
        raise ImportError("libgpu.so.12: cannot open shared object file")

    monkeypatch.setattr(EntryPoint, "load", load)
    installed.append(point("fake", HERE))
    with pytest.raises(BackendUnavailable, match=r"fake://.*libgpu\.so\.12"):
        resolve("fake://", {})


def test_a_backend_can_be_registered_for_this_process_but_takes_no_ones_scheme(installed: list[EntryPoint]) -> None:
    mine = FakeProvider()
    register("mine", mine)
    assert resolve("mine://", {}).provider is mine
    installed.append(point("fake", HERE))
    for taken in ("mine", "fake"):
        with pytest.raises(UnknownStore, match=f"'{taken}' is taken"):
            register(taken, FakeProvider())
    assert resolve("mine://", {}).provider is mine


def test_options_are_checked_against_what_the_backend_knows(installed: list[EntryPoint]) -> None:
    installed.append(point("fake", HERE))
    with pytest.raises(InvalidArgument, match=r"unknown option 'shallow'.*depth, inline, max_queued, timeout"):
        resolve("fake://?shallow=1", {})
    with pytest.raises(InvalidArgument, match=r"unknown option 'timout', did you mean 'timeout'\?"):
        resolve("fake://?timout=1", {})


# -- sharing ----------------------------------------------------------------------------------------------


def opened(url: str, **settings: bool) -> tuple[FakeProvider, Any]:
    """A provider of one's own, and a function that opens a handle at `url`."""
    mine = FakeProvider(**settings)
    registry._registered[url.partition(":")[0]] = mine
    return mine, lambda: (resolve(url, {}), *share(resolve(url, {})))


@pytest.mark.parametrize(
    ("url", "settings", "stores"),
    [("x://name", {}, 1), ("x://name", {"lasting": True}, 1), ("x://", {}, 2), ("x://name", {"shared": False}, 2)],
)
def test_handles_on_a_name_share_a_store_where_the_backend_shares(
    installed: list[EntryPoint], url: str, settings: dict[str, bool], stores: int
) -> None:
    mine, handle = opened(url, **settings)
    first, second = handle(), handle()
    assert len(mine.opened) == stores
    assert (first[1] is second[1]) is (stores == 1)
    release(*first)
    assert mine.backends[0].closed == (stores == 2)
    release(*second)
    release(*second)
    lasts = settings.get("lasting", False)
    assert [backend.closed for backend in mine.backends] == [not lasts] * stores
    again = handle()
    assert len(mine.opened) == (1 if lasts else stores + 1)
    release(*again)
    registry._open.engines.pop(("x", "name"), None)


def test_the_backend_gets_the_name_and_all_options(installed: list[EntryPoint]) -> None:
    mine, handle = opened("x://some/name?depth=2&inline=no")
    location, engine, line = handle()
    ((name, options),) = mine.opened
    assert name == "some/name"
    assert options == {"depth": 2, "inline": False, "timeout": None, "max_queued": 1 << 16}
    op = Flush()
    op.line = line
    assert not engine.submit(op)  # the engine's own option
    mine.backends[0].end(op)
    release(location, engine, line)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("", "", None),
        ("?depth=3", "", None),
        ("?depth=3", "?depth=3", None),
        ("", "?depth=7", None),
        ("?depth=3&timeout=1", "?depth=3&timeout=2", None),
        ("?depth=3", "?depth=4", "x://name is open with depth=3, and cannot be opened with depth=4 as well"),
        ("", "?depth=3", "is open with depth=7, and cannot be opened with depth=3"),
        ("", "?inline=no", "is open with inline=True, and cannot be opened with inline=False"),
    ],
)
def test_options_of_a_second_handle_are_those_of_the_first_or_an_error(
    installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch, first: str, second: str, said: str | None
) -> None:
    mine, _ = opened("x://name")
    opener = resolve(f"x://name{first}", {})
    handle = share(opener)
    monkeypatch.setenv("AKV_DEPTH", "9")  # which is about all stores, and no word about this one
    other = resolve(f"x://name{second}", {"max_queued": None})
    try:
        if said is None:
            line = share(other)[1]
            release(other, handle[0], line)
        else:
            with pytest.raises(InvalidArgument, match=said):
                share(other)
    finally:
        release(opener, *handle)
    assert mine.backends[0].closed  # what was refused has left no handle
    assert len(mine.opened) == 1


def test_memory_with_a_name_is_shared_and_lasts_and_without_a_name_is_not() -> None:
    value = np.ones(2)
    with sync.connect("memory://test_registry") as first, sync.connect("memory://test_registry") as second:
        first.init("w", value)
        assert second.pull("w").tolist() == [1, 1]
    with pytest.raises(StoreClosed):
        first.pull("w")
    with sync.connect("memory://test_registry") as third:
        assert third.pull("w").tolist() == [1, 1]
        third.delete("w")
    with sync.connect("memory://") as alone, sync.connect("memory://") as another:
        alone.init("w", value)
        assert another.keys() == []


# -- importing --------------------------------------------------------------------------------------------


def test_importing_akv_imports_no_backend_and_no_other_array_library() -> None:
    script = """
import sys, akv, akv.sync
print(*{name.partition(".")[0] for name in sys.modules})
akv.sync.connect("memory://").close()
assert "akv_memory" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert "akv" in imported
    assert not [name for name in imported if name.startswith("akv_")]
    assert not imported & {"torch", "jax", "numba", "ml_dtypes", "cupy", "scipy", "uvloop", "msgpack", "safetensors"}
