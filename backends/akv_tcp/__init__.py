"""akv over TCP: `tcp://host:port/job` is the store of that name on a server; `akv serve` is the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from akv.backend.options import Option, seconds
from akv.errors import InvalidArgument
from akv.job.options import JOB_OPTIONS
from akv_tcp.address import read_address
from akv_tcp.client import TcpBackend
from akv_tcp.wire.limits import MAX_KEY

__all__ = ["Provider", "backend"]


class Provider:
    """Opens connections to a server; see akv.backend.registry.Provider.

    With `workers`, the job makes rounds; consistency is then sync where nobody says otherwise. Without, a client joins
    what is there, or else opens a store in which each push is applied by itself.
    """

    lasting = False
    shared = False
    options: Mapping[str, Option] = {"reconnect": Option(seconds, 30.0), **JOB_OPTIONS}

    def open(self, name: str, options: Mapping[str, Any]) -> TcpBackend:
        """Make a client for `host:port[/job]`.

        Raises:
            InvalidArgument: the name is nothing like that.
        """
        place, _, job = name.partition("/")
        if (nbytes := len(job.encode())) > MAX_KEY:
            raise InvalidArgument(f"the name of the job has {nbytes} bytes, the most is {MAX_KEY}: {job:.50}...")
        return TcpBackend(read_address(place), job, options)


backend = Provider()
