"""Finding backends by URL scheme, and the stores that are open in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from akv.backend.options import COMMON, Option, parse_url, settle
from akv.backend.protocol import Backend
from akv.engine import Engine
from akv.errors import BackendUnavailable, InvalidArgument, UnknownStore
from akv.scheduler import Line

__all__ = ["Location", "Provider", "register", "release", "resolve", "share"]

GROUP = "akv.backends"
# The options that each handle has for itself.
_OF_HANDLES = frozenset({"timeout"})


class Provider(Protocol):
    """What a backend's entry point names: the way to open a store.

    Attributes:
        options: what it understands beside the common options.
        shared: whether handles of this process on one name share a store here; else each has a connection of its own.
        lasting: whether a store with a name outlives its handles, until the process ends.
    """

    options: Mapping[str, Option]
    shared: bool
    lasting: bool

    def open(self, name: str, options: Mapping[str, Any]) -> Backend:
        """Open the store `name` (what stands between :// and ? in the URL).

        Raises:
            BackendUnavailable: something is missing on this machine; the text names the command that mends it.
            InvalidArgument: the name has no meaning.
        """
        ...


@dataclass(frozen=True)
class Location:
    """A URL, looked up: who opens it, and the options as they apply.

    Attributes:
        said: the options that the URL or an argument names; all others are defaults, or of the environment.
    """

    scheme: str
    name: str
    provider: Provider
    options: Mapping[str, Any]
    said: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The URL without its options."""
        return f"{self.scheme}://{self.name}"

    @property
    def shared(self) -> bool:
        """Whether the store may have several handles in this process. A worker of a job has a backend of its own."""
        return bool(self.name) and self.provider.shared and self.options.get("workers") is None

    @property
    def timeout(self) -> float | None:
        """The seconds after which a call that still waits gets AkvTimeout; None for ever."""
        seconds: float | None = self.options["timeout"]
        return seconds


_registered: dict[str, Provider] = {}


def register(scheme: str, provider: Provider) -> None:
    """Make a backend known for this process, without an entry point: for a script that brings its own.

    Raises:
        UnknownStore: the scheme is taken.
    """
    scheme = scheme.lower()  # as in URLs
    if scheme in _registered or scheme in _claims():
        raise UnknownStore(f"scheme {scheme!r} is taken; two backends cannot share it")
    _registered[scheme] = provider


def resolve(url: str, options: Mapping[str, object]) -> Location:
    """Look a URL up.

    Raises:
        UnknownStore: no backend claims the scheme, or two do. BackendUnavailable: it cannot be imported.
        InvalidArgument: the URL, an option or its value has no meaning.
    """
    scheme, name, in_url = parse_url(url)
    provider = _registered.get(scheme) or _load(scheme)
    said = frozenset(name for name, value in {**in_url, **options}.items() if value is not None)
    return Location(scheme, name, provider, settle({**COMMON, **provider.options}, options, in_url), said)


def _claims() -> dict[str, list[EntryPoint]]:
    claims: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        claims.setdefault(point.name, []).append(point)
    return claims


def _load(scheme: str) -> Provider:
    claims = _claims()
    points = claims.get(scheme, [])
    # One distribution may be listed twice, once from its source folder; the same object is no conflict.
    targets = {point.value: point for point in points}
    if not targets:
        known = ", ".join(f"{name}://" for name in sorted({*claims, *_registered}))
        raise UnknownStore(f"no backend claims {scheme}://; installed are {known or 'none: is akv installed?'}")
    if len(targets) > 1:
        owners = " and ".join(f"{value} ({_owner(point)})" for value, point in sorted(targets.items()))
        raise UnknownStore(f"{scheme}:// is claimed by {owners}; uninstall one of them")
    (point,) = targets.values()
    try:
        provider: Provider = point.load()
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            f"{scheme}:// needs {error.name}, which is not installed; install the extra of akv-store that brings it"
        ) from error
    except ImportError as error:
        raise BackendUnavailable(f"{scheme}:// cannot be imported here: {error}") from error
    _registered[scheme] = provider
    return provider


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown distribution"


class _Open:
    """The open stores of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engines: dict[tuple[str, str], Engine] = {}
        self.first: dict[tuple[str, str], Location] = {}  # what each of them was opened with


_open = _Open()

if hasattr(os, "register_at_fork"):
    # A child starts without stores, and with a lock that nobody holds.
    os.register_at_fork(after_in_child=_open.__init__)  # type: ignore[misc]


def share(location: Location) -> tuple[Engine, Line]:
    """Open a handle: the store of that name, if it is open, else a new one; stores without a name are never shared.

    Raises:
        InvalidArgument: the store is open with other options, or its provider refuses them. BackendUnavailable.
    """
    place = (location.scheme, location.name)
    with _open.lock:
        engine = _open.engines.get(place) if location.shared else None
        if engine is None:
            backend = location.provider.open(location.name, location.options)
            engine = Engine(backend, inline=location.options["inline"])
            if location.shared:
                _open.engines[place], _open.first[place] = engine, location
        else:
            _check_options(location, _open.first[place])
        return engine, engine.open_line()


def _check_options(location: Location, first: Location) -> None:
    """Raise InvalidArgument for an option that the store, which is open already, does not have."""
    for name in sorted(location.said - _OF_HANDLES):
        if location.options[name] != first.options[name]:
            raise InvalidArgument(
                f"{location.text} is open with {name}={first.options[name]!r}, and cannot be opened with "
                f"{name}={location.options[name]!r} as well; leave the option out, or take another name"
            )


def release(location: Location, engine: Engine, line: Line) -> None:
    """Close a handle, and the store with its last handle, unless it lasts."""
    with _open.lock:
        last = engine.close_line(line)
        if last and not (location.shared and location.provider.lasting):
            if location.shared:
                del _open.engines[location.scheme, location.name]
            engine.close()
