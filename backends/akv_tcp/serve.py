"""A server as a process: what `akv serve` runs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal

from akv.loop import run
from akv_tcp.address import read_address
from akv_tcp.hosting import host, host_rounds
from akv_tcp.server import Server

__all__ = ["calm_collector", "serve"]


def serve(bind: str, advertise: str | None, backend: str) -> int:
    """Serve until SIGTERM or SIGINT; print one line when ready. The second signal ends the process at once.

    Raises:
        InvalidArgument, UnknownStore, BackendUnavailable: the arguments have no meaning here.
        OSError: the address cannot be bound.
    """
    run(_serve(bind, advertise, backend))
    return 0


def calm_collector() -> None:
    """Have garbage collections hold no request up for long; for a process that only serves, once it has started.

    Collecting takes up to 0.4 us for each object that is looked at. By Python's thresholds requests of a thousand keys
    brought a collection of the oldest generation now and then: 45-90 ms, nearly all of it for what imports leave. That
    never becomes garbage, so it is frozen.

    The thresholds bound the rest. A request of a thousand keys makes fewer than 10,000 objects, and sets them free
    without any collection; one of the young takes 4 ms, one of the second generation, of 40,000 at most, 15. What has
    become old is looked at after a million new objects, if it has grown by a quarter: cycles do not pile up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 2, 25)


async def _serve(bind: str, advertise: str | None, backend: str) -> None:
    server = Server(host(backend), make_rounds=host_rounds(backend))
    stopped = _on_signals()
    name, port = await server.start(*read_address(bind))
    calm_collector()
    shown = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    print(f"akv serving tcp://{advertise or shown}", flush=True)
    await stopped.wait()
    await server.stop()


def _on_signals() -> asyncio.Event:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            os._exit(1)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopped
