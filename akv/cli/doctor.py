"""`akv doctor`: what is installed, and what is missing for what, in words that one can act on."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

import akv
from akv.backend.registry import GROUP

__all__ = ["Finding", "add", "examine", "release"]

# Packages that a backend brings to look after what it needs: functions without arguments that give (name, is there,
# text, advice) for each step.
PROBES = "akv.probes"

# What is optional, and what is lacking without it.
_OPTIONAL = {
    "numba": "optimizers and sums take several passes over memory; pip install numba",
    "ml_dtypes": "no bfloat16 and no float8; pip install ml_dtypes",
    "torch": "",
    "jax": "",
}


class Finding(NamedTuple):
    """One line: what, whether it is there (None: it need not be), what was found, and what to do if not."""

    name: str
    good: bool | None
    text: str
    advice: str = ""


def add(commands: Any) -> None:
    """Add the command to a parser."""
    text = "look at what akv finds on this machine: Python, libraries, event loop, backends, GPUs"
    parser = commands.add_parser("doctor", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run=lambda chosen: _print())


def _print() -> int:
    signs = {True: "ok", False: "no", None: "--"}
    for finding in examine():
        print(f"{signs[finding.good]:3} {finding.name:12} {finding.text}")
        if finding.advice and not finding.good:
            print(f"{'':16} -> {finding.advice}")
    return 0


def examine() -> Iterator[Finding]:
    """All findings, one after the other."""
    yield Finding("Python", True, f"{platform.python_version()}, {sys.executable}")
    yield Finding("akv", True, release())
    yield Finding("numpy", True, _version("numpy"))
    yield _loop()
    for name, without in _OPTIONAL.items():
        if importlib.util.find_spec(name) is not None:
            yield Finding(name, True, _version(name))
        elif without:
            yield Finding(name, None, "not installed", without)
    yield from _backends()
    for point in entry_points(group=PROBES):
        yield from _probed(point)


def _loop() -> Finding:
    if importlib.util.find_spec("uvloop") is None:
        advice = "" if sys.platform == "win32" else "pip install uvloop: round trips are shorter with it"
        return Finding("event loop", None, "asyncio's, in akv.run: there is no uvloop", advice)
    if os.environ.get("AKV_UVLOOP") == "0":
        return Finding("event loop", None, "asyncio's, in akv.run: AKV_UVLOOP=0 , though there is uvloop")
    return Finding("event loop", True, f"uvloop {_version('uvloop')}, in akv.run")


def _backends() -> Iterator[Finding]:
    points = list(entry_points(group=GROUP))
    if not points:
        yield Finding("backends", False, "none is installed", "install akv-store again: pip install .")
    for point in sorted(points, key=lambda point: point.name):
        try:
            point.load()
        except Exception as error:  # a backend's import may raise anything
            yield Finding(f"{point.name}://", False, f"cannot be imported: {error}", "install what is missing")
        else:
            yield Finding(f"{point.name}://", True, point.value)


def _probed(point: EntryPoint) -> Iterator[Finding]:
    try:
        probe: Callable[[], Iterator[tuple[str, bool, str, str]]] = point.load()
        for name, good, text, advice in probe():
            yield Finding(f"{point.name}: {name}", good, text, advice)
    except Exception as error:  # a doctor does not die of what he finds
        yield Finding(f"{point.name}", False, f"the probe failed: {type(error).__name__}: {error}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(name), "__version__", "of an unknown version"))


def release() -> str:
    """Which akv this is, and where; in a checkout that nobody installed there is no version."""
    folder = os.path.dirname(akv.__file__)
    try:
        return f"{importlib.metadata.version('akv-store')} from {folder}"
    except importlib.metadata.PackageNotFoundError:
        return f"not installed, only imported from {folder}"
