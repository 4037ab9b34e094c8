"""Addresses of servers, as they stand in URLs and on command lines."""

from __future__ import annotations

from akv.errors import InvalidArgument

__all__ = ["read_address"]


def read_address(text: str) -> tuple[str, int]:
    """Read `host:port`, or `[v6]:port`.

    Raises:
        InvalidArgument: it is neither.
    """
    if "," in text:
        raise InvalidArgument(f"{text!r} names several servers; a store is on one, as in tcp://127.0.0.1:7070/job")
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidArgument(f"{text!r} is no address of a server: host:port, as in 127.0.0.1:7070")
    return host, int(port)
