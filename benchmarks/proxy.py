"""A link of limited rate: a TCP proxy that delays what goes through it, each way by itself.

python benchmarks/proxy.py 127.0.0.1:7070 125e6    prints the port it listens on; bytes per second
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from time import monotonic, sleep

# Bytes that are forwarded at a time; at 1 Gbit/s they take half a millisecond.
CHUNK = 64 << 10


def pump(source: socket.socket, sink: socket.socket, rate: float) -> None:
    """Forward until the source ends; each chunk leaves when a link of `rate` bytes per second would be done with it."""
    chunk = memoryview(bytearray(CHUNK))
    free = monotonic()
    while True:
        try:
            nbytes = source.recv_into(chunk, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:  # the link is idle; and only then, what was sent late is not made up for
            nbytes = source.recv_into(chunk)
            free = max(free, monotonic())
        if not nbytes:
            break
        free += nbytes / rate
        if (wait := free - monotonic()) > 0:
            sleep(wait)
        sink.sendall(chunk[:nbytes])
    sink.shutdown(socket.SHUT_WR)


def carry(source: socket.socket, sink: socket.socket, rate: float) -> None:
    """One way of a connection, until it ends."""
    with contextlib.suppress(OSError):
        pump(source, sink, rate)


def serve(target: tuple[str, int], rate: float) -> None:
    """Listen on a port of the system's choice, and print it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(target)
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=carry, args=(*pair, rate), daemon=True).start()


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    serve((host, int(port)), float(sys.argv[2]))
