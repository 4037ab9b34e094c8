"""Workers that come to harm: each runs in a process of its own, and tells the test how far it is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import akv
from akv import sync
from akv_tcp.wire.sender import Sender

__all__ = ["SIZE", "breed", "dies", "goes_on", "runs_ahead"]

# 2 MiB in float32: more than two batches of the sender's.
SIZE = 512 << 10
HALF = 2


def breed(number: int) -> None:
    """Fork a victim for each message on a socket: a process that has imported everything is there in milliseconds."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=number) as orders:
        while order := socket.recv_fds(orders, 4096, 1):
            text, (told, *_) = order[0], order[1] or [0]
            if not text:
                return
            pid = os.fork()
            if not pid:
                orders.close()
                _live(told, *json.loads(text))
            os.close(told)
            orders.send(str(pid).encode())


def _live(told: int, name: str, *args: str) -> None:
    try:
        url, phase = args
        {"dies": dies, "goes_on": goes_on, "runs_ahead": runs_ahead}[name](url, phase, Connection(told))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def dies(url: str, phase: str, told: Connection) -> None:
    """Take part in one round; then end by SIGKILL before, within or after the push to the next."""
    kv = _joined(url, told)
    if phase == "half-sent":
        _at_batch(HALF, signal.SIGKILL)
    elif phase == "before":
        _strike(signal.SIGKILL)
    kv.push("w", _ones(2.0))
    _strike(signal.SIGKILL)


def goes_on(url: str, phase: str, told: Connection) -> None:
    """Take part in one round, and then in others until one fails; the test stops this process and has it continue."""
    kv = _joined(url, told)
    if phase == "half-sent":
        _at_batch(HALF, signal.SIGSTOP)
    elif phase == "before":
        _strike(signal.SIGSTOP)
    try:
        version = kv.push("w", _ones(2.0))
        if phase == "after":
            _strike(signal.SIGSTOP)
        told.send(("pushed", version))
        told.send(("pulled", float(kv.pull("w").max())))
        told.recv()  # the others have time to end their round without
        told.send(("pushpulled", _whole(kv.pushpull("w", _ones(2.0)))))
        kv.close()
    except akv.AkvError as error:
        told.send((type(error).__name__, str(error)))
        os._exit(0)


def runs_ahead(url: str, phase: str, told: Connection) -> None:
    """Push further ahead than one may, so that the server holds a push; then end by SIGKILL."""

    async def main() -> None:
        kv = await akv.connect(url, rank=1)
        await kv.init("w", np.zeros(4, np.float32))
        pushes = [kv.push("w", np.ones(4, np.float32)) for _ in range(3)]
        await pushes[1]
        with contextlib.suppress(akv.KeyNotFound):
            await kv.info("v")  # behind the third push on the connection
        told.send("ready")
        _strike(signal.SIGKILL)

    akv.run(main())


def _joined(url: str, told: Connection) -> sync.KVStore:
    kv = sync.connect(url, rank=1, timeout=20)
    kv.init("w", np.zeros(SIZE, np.float32))
    kv.push("w", _ones(2.0))
    assert _whole(kv.pull("w")) == 3.0
    told.send("ready")
    return kv


def _at_batch(number: int, what: signal.Signals) -> None:
    """Send a signal to this process when the transport asks for the next batch but `number`."""
    next_batch, count = Sender.next_batch, [0]

    def struck(self: Sender) -> Any:
        buffers = next_batch(self)
        count[0] += bool(buffers)
        if count[0] == number:
            _strike(what)
        return buffers

    Sender.next_batch = struck  # type: ignore[method-assign]


def _strike(what: signal.Signals) -> None:
    """Sent to the process, SIGSTOP could reach another thread, and this one some milliseconds later."""
    signal.pthread_kill(threading.get_ident(), what)


def _ones(value: float) -> np.ndarray:
    return np.full(SIZE, value, np.float32)


def _whole(array: np.ndarray) -> float:
    """The value that all elements have."""
    assert (array == array[0]).all()
    return float(array[0])
