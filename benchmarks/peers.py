"""The limit of a network benchmark: the same bytes over blocking sockets, to a process of its own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

__all__ = ["Pairs", "akv_server", "placed", "placements", "process", "raw_server", "redis_pairs", "tuned"]

Pairs = Callable[[int], object]
"""Does so many SETs and GETs of 64 B."""

# Takes pushes (a length, then that many bytes, answered by eight bytes) and pulls (a zero, answered by the bytes).
RAW = r"""
import socket, sys
def tuned(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    except (OSError, AttributeError): pass
def exactly(sock, view):
    while len(view):
        got = sock.recv_into(view)
        if not got: sys.exit()
        view = view[got:]
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sock, _ = listener.accept()
tuned(sock)
head, value = bytearray(8), bytearray()
while True:
    exactly(sock, memoryview(head))
    size = int.from_bytes(head, "little")
    if size:
        if len(value) != size: value = bytearray(size)
        exactly(sock, memoryview(value))
        sock.sendall(head)
    else:
        sock.sendall(value)
"""


@contextmanager
def placed(cores: Collection[int] | None) -> Iterator[None]:
    """Run this process, and those it starts meanwhile, on these cores; None: wherever the system likes."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def placements() -> Iterator[tuple[str, Collection[int] | None, Collection[int] | None]]:
    """Where a server and its client may run, as far as this system lets one choose: a name, and the cores of each."""
    yield "free placement", None, None
    if hasattr(os, "sched_getaffinity"):
        first, *others = sorted(os.sched_getaffinity(0))
        yield "both ends on one core", [first], [first]
        if others:
            yield "each end on a core of its own", others[:1], [first]


@contextmanager
def raw_server() -> Iterator[socket.socket]:
    """A connection to the raw server."""
    with process([sys.executable, "-c", RAW]) as line, socket.create_connection(("127.0.0.1", int(line))) as sock:
        tuned(sock)
        yield sock


@contextmanager
def redis_pairs() -> Iterator[Pairs | None]:
    """Pairs in one pipeline of redis-py; None where that, or redis-server, is not installed."""
    binary = shutil.which("redis-server")
    if binary is None or importlib.util.find_spec("redis") is None:
        yield None
        return
    redis = importlib.import_module("redis")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with process([binary, "--port", str(port), "--save", "", "--appendonly", "no"]):
        client = redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 50))
        client.ping()

        def pairs(count: int) -> object:
            pipeline = client.pipeline(transaction=False)
            for number in range(count):
                pipeline.set(f"k{number}", bytes(64))
                pipeline.get(f"k{number}")
            return pipeline.execute()

        yield pairs
        client.close()


@contextmanager
def akv_server(backend: str = "memory://") -> Iterator[str]:
    """The address of an akv server, such as tcp://127.0.0.1:40000."""
    with process([sys.executable, "-m", "akv", "serve", "--bind", "127.0.0.1:0", "--backend", backend]) as line:
        yield line.split()[-1]


def tuned(sock: socket.socket) -> None:
    """What akv sets on its sockets."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    except (OSError, AttributeError):
        return


@contextmanager
def process(command: list[str]) -> Iterator[str]:
    """Run a process; its first line. It is ended afterwards."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=20)
