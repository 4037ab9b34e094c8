"""`akv serve`: put stores on the network. The server itself comes from a backend, by the entry points `akv.servers`."""

from __future__ import annotations

import argparse
import ipaddress
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from akv.errors import BackendUnavailable, InvalidArgument

__all__ = ["add"]

GROUP = "akv.servers"
DEFAULT_BIND = "127.0.0.1:7070"


def add(commands: Any) -> None:
    """Add the command to a parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="run a server",
        description="Run a server until SIGTERM or Ctrl-C; each job is a store of its own.",
    )
    parser.add_argument(
        "--bind", default=DEFAULT_BIND, metavar="HOST:PORT", help=f"default {DEFAULT_BIND}; port 0 picks one"
    )
    parser.add_argument(
        "--advertise",
        metavar="HOST:PORT",
        help="the address to print, for clients that reach the server by another one than the bound one",
    )
    parser.add_argument(
        "--backend", default="memory://", metavar="URL", help="what holds the values; default memory://"
    )
    parser.add_argument(
        "--import",
        action="append",
        default=[],
        dest="modules",
        metavar="MODULE",
        help="import a module first, such as one that registers an optimizer; may be said several times",
    )
    parser.add_argument("--insecure", action="store_true", help="allow a bind beyond loopback, without TLS and tokens")
    parser.set_defaults(run=_serve)


def _serve(chosen: argparse.Namespace) -> int:
    if not chosen.bind.rpartition(":")[0]:
        raise InvalidArgument(f"--bind {chosen.bind} is no HOST:PORT, such as {DEFAULT_BIND}")
    if not chosen.insecure and not is_loopback(chosen.bind):
        raise InvalidArgument(
            f"--bind {chosen.bind} is open to other machines, and anybody there could read and change the stores; "
            "bind to 127.0.0.1, or say --insecure"
        )
    for name in chosen.modules:
        _import(name)
    points = entry_points(group=GROUP, name="tcp")
    if not points:
        raise BackendUnavailable("no server is installed: the distribution akv-store brings akv_tcp")
    status: int = next(iter(points)).load()(chosen.bind, chosen.advertise, chosen.backend)
    return status


def _import(name: str) -> None:
    try:
        import_module(name)
    except ImportError as error:
        raise BackendUnavailable(f"--import {name}: {error}") from error


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, and any other could mean any address
        return host == "localhost"
