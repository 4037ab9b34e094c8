"""Data-parallel training in rounds: the same workers in several processes, or in one, by changing the URL only.

    python examples/train_processes.py                                    # starts a server, and four workers
    python examples/train_processes.py --url memory://digits              # the same four in one process
    python examples/train_processes.py --url tcp://HOST:7070/digits --rank 0        # one of them, on any machine

In every step each worker pushes the gradients of its own share of the images. A round is applied when those of all are
there, summed in the order of the ranks: so the weights in the end are the same bits, wherever the workers run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Generator
from time import perf_counter

import numpy as np
from digits import Batch, Network, batches, cross_entropy, load

import akv

BATCH = 16


async def work(given: argparse.Namespace, rank: int) -> None:
    """Train as one worker; rank 0 tells how it goes."""
    train, test = load(given.seed)
    share = train.take(np.arange(rank, len(train.labels), given.workers))
    steps = len(train.labels) // given.workers // BATCH
    upcoming = batches(share, BATCH, given.seed + rank)
    async with akv.connect(given.url, workers=given.workers, rank=rank) as kv:
        network = Network(given.seed)
        for n, layer in enumerate(network.layers):
            network.layers[n] = await kv.broadcast(keys(n), layer)
        await kv.set_optimizer(akv.optim.SGD(learning_rate=0.05, momentum=0.9, rescale_grad=1 / given.workers))
        await kv.barrier()
        start = perf_counter()
        for epoch in range(1, given.epochs + 1):
            for batch in (next(upcoming) for _ in range(steps)):
                await step(kv, network, batch)
            if rank == 0:
                print(f"epoch {epoch:2}: {network.accuracy(Batch.of(test)):.1%} of the held-out images", flush=True)
        if rank == 0:
            seconds = perf_counter() - start
            print(f"{given.epochs * steps} rounds of {kv.num_workers} workers took {seconds:.1f} s")
            print(f"the weights are {digest(network)}")
        await kv.barrier()


async def step(kv: akv.KVStore, network: Network, batch: Batch) -> None:
    """Push the gradients of a batch as soon as they are known; go on with the weights of the round."""
    values = network.forward(batch.inputs)
    _, error = cross_entropy(values[-1], batch.labels)
    # The next forward pass needs the first layer first.
    moves = [kv.push(keys(n), grads, priority=-n) for n, grads in network.backward(values, error)]
    moves += [kv.pull(keys(n), out=layer, priority=-n) for n, layer in enumerate(network.layers)]
    await asyncio.gather(*moves)


def keys(layer: int) -> list[str]:
    return [f"layer{layer}.weight", f"layer{layer}.bias"]


def digest(network: Network) -> str:
    """A short name for these very bits."""
    return hashlib.sha256(b"".join(array.tobytes() for layer in network.layers for array in layer)).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------ where they run


async def in_one_process(given: argparse.Namespace) -> None:
    async with asyncio.TaskGroup() as group:
        for rank in range(given.workers):
            group.create_task(work(given, rank))


def in_processes(given: argparse.Namespace) -> None:
    """Start this script once for each worker, as a launcher on a cluster would."""
    same = [f"--{name}={value}" for name, value in vars(given).items() if name != "rank"]
    workers = [subprocess.Popen([sys.executable, __file__, *same, f"--rank={rank}"]) for rank in range(given.workers)]
    ends = [worker.wait() for worker in workers]
    if any(ends):
        sys.exit("a worker has failed")


@contextlib.contextmanager
def server() -> Generator[str]:
    """A server of our own, at a port that is free."""
    command = [sys.executable, "-m", "akv", "serve", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1] + "/digits"
        finally:
            process.terminate()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a digit classifier in rounds: several processes, one store.")
    parser.add_argument("--url", help="the store; without, a server is started on this machine")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--epochs", type=int, default=5, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the batches, and what is held out")
    parser.add_argument("--rank", type=int, metavar="N", help="be this worker only; the others are started elsewhere")
    given = parser.parse_args()
    if given.workers < 1 or given.epochs < 1:
        parser.error("there is at least one worker, and one epoch")
    return given


def run(given: argparse.Namespace) -> None:
    if given.rank is not None:
        akv.run(work(given, given.rank))
    elif given.url is None:
        with server() as given.url:
            in_processes(given)
    elif given.url.startswith("memory:"):
        akv.run(in_one_process(given))
    else:
        in_processes(given)


def main() -> None:
    problem = ""
    try:
        run(arguments())
    except* akv.AkvError as errors:
        problem = str(errors.exceptions[0])  # of the workers' errors, one will do
    if problem:
        sys.exit(problem)


if __name__ == "__main__":
    main()
