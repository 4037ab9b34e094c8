"""How long one request keeps a server's loop from all else: the loop of a process of its own ticks every millisecond.

The number is the processor time that the loop's thread spent between two ticks, so that a busy machine does not count;
the time that passed stands beside it.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, sleep, thread_time
from types import FrameType
from typing import Any

import numpy as np

import akv
from benchmarks.measure import Row

GOAL = 0.020
TICK = 0.001
Ask = Callable[[], tuple[float, float, str]]


def run(smoke: bool) -> list[Row]:
    """One row for each kind of request."""
    with _server() as (url, ask):
        return akv.run(_run(url, ask, 1 << 20 if smoke else 64 << 20, 100 if smoke else 1000, 1 if smoke else 3))


async def _run(url: str, ask: Ask, nbytes: int, count: int, repeats: int) -> list[Row]:
    large, out = np.ones(nbytes // 4, np.float32), np.empty(nbytes // 4, np.float32)
    keys, small = [f"key {number}" for number in range(count)], [np.ones(16, np.float32)] * count
    middle = [np.ones(15_000, np.float32)] * count
    many = [f"one of many {number}" for number in range(14 * count)]
    tiny = [np.ones(1, np.float32)] * len(many)
    size, rows = f"{nbytes >> 20} MiB", []
    async with akv.connect(f"{url}/plain") as kv, akv.connect(f"{url}/packed") as packed:
        await packed.init("w", large)
        await packed.set_gradient_compression({"type": "2bit", "threshold": 0.5})
        steps: dict[str, Callable[[], Awaitable[Any]]] = {
            f"init of {size}": lambda: kv.init("w", large),
            f"push of {size}": lambda: kv.push("w", large),
            f"pull of {size}": lambda: kv.pull("w", out),
            f"pushpull of {size}": lambda: kv.pushpull("w", large, out),
            f"compressed push of {size}": lambda: packed.push("w", large),
            f"delete of {size}": lambda: kv.delete("w"),
            f"init of {count} small keys": lambda: kv.init(keys, small),
            f"push of {count} small keys": lambda: kv.push(keys, small),
            f"pull of {count} small keys": lambda: kv.pull(keys),
            f"init of {count} keys of 60 kB": lambda: kv.init([f"{key}, 60 kB" for key in keys], middle),
            f"push of {count} keys of 60 kB": lambda: kv.push([f"{key}, 60 kB" for key in keys], middle),
            f"pull of {count} keys of 60 kB": lambda: kv.pull([f"{key}, 60 kB" for key in keys]),
            f"init of {len(many)} keys": lambda: kv.init(many, tiny),
            f"push of {len(many)} keys": lambda: kv.push(many, tiny),
            f"pull of {len(many)} keys": lambda: kv.pull(many),
            "keys": lambda: kv.keys(),
            f"set_optimizer with {len(many)} keys": lambda: kv.set_optimizer(akv.optim.Adam()),
            f"first push of {count} small keys with Adam": lambda: kv.push(keys, small),
            f"delete of {len(many)} keys": lambda: kv.delete(many),
        }
        for name, step in steps.items():
            again = not name.startswith(("init", "delete", "set_optimizer", "first"))
            worst = [await _worst(step, ask) for _ in range(repeats if again else 1)]
            spent, passed, where = max(worst)
            detail = f"{passed * 1e3:.1f} ms passed" + (f"; seen in {where}" if where else "")
            rows.append(Row(f"server's loop, {name}", f"{spent * 1e3:.1f} ms", f"<= {GOAL * 1e3:g} ms", detail))
    return rows


async def _worst(step: Callable[[], Awaitable[Any]], ask: Ask) -> tuple[float, float, str]:
    await asyncio.sleep(5 * TICK)
    ask()
    await step()
    await asyncio.sleep(5 * TICK)
    return ask()


@contextmanager
def _server() -> Iterator[tuple[str, Ask]]:
    """A server, and a function that tells its worst ticks since it was last called."""
    command = [sys.executable, "-m", "benchmarks.network_lag", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask() -> tuple[float, float, str]:
            stdin.write("\n")
            stdin.flush()
            spent, passed, where = stdout.readline().split(" ", 2)
            return float(spent), float(passed), where.strip()

        yield stdout.readline().split()[-1], ask
        stdin.close()


# -- the server -----------------------------------------------------------------------------------------------


class _Ticks:
    """The worst since the last report, and where the loop's thread was seen then."""

    def __init__(self) -> None:
        self.over = asyncio.Event()  # nobody will ask any more
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._clear()
        self._began, self._spent = perf_counter(), thread_time()
        gc.callbacks.append(self._collected)
        self._loop.call_later(TICK, self._tick)
        threading.Thread(target=self._look, daemon=True).start()

    def report(self) -> None:
        """Answer a line of standard input."""
        if not sys.stdin.readline():
            self._loop.remove_reader(sys.stdin)
            self.over.set()
            return
        print(*self._worst, self._where, flush=True)
        self._clear()

    def _clear(self) -> None:
        self._worst = (0.0, 0.0)
        self._where = self._seen = ""
        self._garbage = 0.0

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() == self._thread:
            self._garbage += thread_time() if phase == "stop" else -thread_time()

    def _tick(self) -> None:
        now, spent = perf_counter(), thread_time()
        worst = (spent - self._spent, now - self._began)
        if worst > self._worst:
            note = f" ({self._garbage * 1e3:.1f} ms of it for collecting garbage)" if self._garbage > GOAL / 10 else ""
            self._worst, self._where = worst, self._seen + note
        self._seen, self._garbage = "", 0.0
        self._began, self._spent = perf_counter(), thread_time()
        self._loop.call_later(TICK, self._tick)

    def _look(self) -> None:
        while True:
            sleep(GOAL / 4)
            if perf_counter() - self._began > GOAL / 4 and not self._seen:
                self._seen = _place(sys._current_frames().get(self._thread))


def _place(frame: FrameType | None) -> str:
    """The innermost functions of akv."""
    names = []
    while frame is not None and len(names) < 3:
        code = frame.f_code
        if "akv" in code.co_filename and "benchmarks" not in code.co_filename:
            names.append(code.co_qualname)
        frame = frame.f_back
    return " < ".join(names)


async def _serve() -> None:
    from akv_tcp.hosting import host
    from akv_tcp.serve import calm_collector
    from akv_tcp.server import Server

    server = Server(host("memory://"))
    name, port = await server.start("127.0.0.1", 0)
    calm_collector()  # as `akv serve` does
    print(f"tcp://{name}:{port}", flush=True)
    ticks = _Ticks()
    asyncio.get_running_loop().add_reader(sys.stdin, ticks.report)
    await ticks.over.wait()
    await server.stop()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        akv.run(_serve())
    else:
        print(*run(smoke=False), sep="\n")
