"""Two workers that add their gradients up: pushpull in sync mode, against an all_reduce of torch's gloo."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import numpy as np

import akv
from akv.loop import new_event_loop
from benchmarks.measure import Row
from benchmarks.peers import akv_server

WORKERS = 2
# Bytes, and the goal against gloo.
SIZES = ((16 << 20, 1.0), (64 << 20, 1.3))


def run(smoke: bool) -> list[Row]:
    """Ratios to gloo where torch is installed, else the times; with NaN rejected and allowed, and SGD on the server."""
    sizes = ((1 << 20, 1.0),) if smoke else SIZES
    rows = []
    has_torch = importlib.util.find_spec("torch") is not None and not smoke
    for nonfinite in ("reject", "allow"):
        with akv_server(f"memory://?on_nonfinite={nonfinite}") as url, workers(url, has_torch) as ask:
            for nbytes, goal in sizes:
                rows += _compare(ask, nbytes, goal, nonfinite, has_torch, 2 if smoke else 9)
    return rows


def _compare(
    ask: Callable[[str], float], nbytes: int, goal: float, nonfinite: str, has_torch: bool, repeats: int
) -> list[Row]:
    kinds = ["sum", "sgd", *(["gloo"] if has_torch else [])]
    took = dict.fromkeys(kinds, float("inf"))
    for _ in range(repeats):
        for kind in kinds:
            took[kind] = min(took[kind], ask(f"{kind} {nbytes}"))
    rows = []
    for kind, what in (("sum", "pushpull"), ("sgd", "pushpull with SGD on the server")):
        name = f"{what} of {nbytes >> 20} MiB by {WORKERS} workers, on_nonfinite={nonfinite}"
        number, detail = f"{took[kind] * 1e3:.1f} ms", "torch is not installed: no gloo to compare with"
        if has_torch:
            number = f"{took[kind] / took['gloo']:.2f} x"
            detail = f"{took[kind] * 1e3:.1f} ms against {took['gloo'] * 1e3:.1f} ms for gloo's all_reduce"
        is_goal = kind == "sum" and nonfinite == "reject" and has_torch
        rows.append(Row(name, number, f"<= {goal} x" if is_goal else "", detail))
    return rows


@contextmanager
def workers(url: str, has_torch: bool) -> Iterator[Callable[[str], float]]:
    """Worker processes; the function has all of them do something, and returns the seconds of the slowest."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.rounds", url, str(port if has_torch else 0)]
    with ExitStack() as stack:
        processes = [_start([*command, str(rank)], stack) for rank in range(WORKERS)]

        def ask(line: str) -> float:
            for process in processes:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            return max([float(process.stdout.readline()) for process in processes])

        yield ask
        for process in processes:
            process.communicate("end\n", timeout=60)


def _start(command: list[str], stack: ExitStack) -> Any:
    process = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
    )
    stack.callback(process.kill)
    return process


# -- a worker -------------------------------------------------------------------------------------------------


def work(url: str, port: int, rank: int) -> None:
    """Do what the lines of standard input say; print the seconds."""
    reduce = _gloo(port, rank) if port else None
    # As in training, where gradients are written to the same memory in each step: no page faults for either.
    memory: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        handles: dict[str, akv.KVStore] = {}
        for line in sys.stdin:
            kind, *rest = line.split()
            if kind == "end":
                break
            nbytes = int(rest[0])
            if kind == "gloo":
                assert reduce is not None
                seconds = reduce(nbytes)
            else:
                if nbytes not in memory:
                    memory[nbytes] = np.full(nbytes // 4, 0.5, np.float32), np.zeros(nbytes // 4, np.float32)
                place = f"{url}/{kind}?workers={WORKERS}&rank={rank}"
                seconds = runner.run(_pushpull(handles, place, kind, *memory[nbytes]))
            print(seconds, flush=True)
        for kv in handles.values():
            runner.run(kv.aclose())


async def _pushpull(handles: dict[str, akv.KVStore], url: str, kind: str, value: np.ndarray, out: np.ndarray) -> float:
    if kind not in handles:
        handles[kind] = await akv.connect(url)
        if kind == "sgd":
            await handles[kind].set_optimizer(akv.optim.SGD(learning_rate=0.1))
    kv = handles[kind]
    name = f"w{value.nbytes}"
    if name not in await kv.keys():
        await kv.init(name, np.zeros_like(value))
    out.fill(0)
    await kv.barrier()
    start = perf_counter()
    await kv.pushpull(name, value, out)
    seconds = perf_counter() - start
    assert kind == "sgd" or (out == WORKERS * 0.5).all()
    return seconds


def _gloo(port: int, rank: int) -> Callable[[int], float]:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORKERS)
    memory: dict[int, Any] = {}

    def reduce(nbytes: int) -> float:
        if nbytes not in memory:
            memory[nbytes] = torch.empty(nbytes // 4)
        value = memory[nbytes].fill_(0.5)
        distributed.barrier()
        start = perf_counter()
        distributed.all_reduce(value)
        return perf_counter() - start

    return reduce


if __name__ == "__main__":
    if len(sys.argv) == 4:
        work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        print(*run("--smoke" in sys.argv), sep="\n")
