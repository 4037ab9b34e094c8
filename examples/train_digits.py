"""Asynchronous data-parallel training: several workers, one set of weights, which live in the store.

    python examples/train_digits.py --workers 4 --epochs 20

Each worker has its own share of the images and its own handle. In every step it pushes the gradients of a layer as soon
as they are known, asks for the new weights, prepares its next batch meanwhile, and goes on when the weights are there.
The optimizer runs in the store. With another --url the same code trains on another store.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
from digits import Batch, Images, Network, batches, cross_entropy, load
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import akv

BATCH = 16
PLOT = Path(__file__).resolve().parents[1] / "build" / "train_digits.png"


@dataclass
class Job:
    """What all workers agree on, and what they report.

    Attributes:
        losses: of every mini-batch of every worker, by epoch.
        accuracies: on the held-out images, at the end of each epoch.
    """

    url: str
    workers: int
    epochs: int
    seed: int
    train: Images
    test: Batch
    losses: list[list[float]] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Mini-batches per worker and epoch: the same for all, or some would wait for others that have ended."""
        return len(self.train.labels) // self.workers // BATCH

    def optimizer(self) -> akv.optim.Optimizer:
        # A worker's gradient is the mean over its own batch. Divided by the number of workers, what all of them push
        # adds up to the mean over all batches, whether the store applies the pushes one by one or their sum at once.
        return akv.optim.SGD(learning_rate=0.05, momentum=0.9, rescale_grad=1 / self.workers)


async def work(job: Job, number: int, progress: Callable[[], None]) -> None:
    """Train as worker `number`, from 0 on."""
    share = job.train.take(np.arange(number, len(job.train.labels), job.workers))
    upcoming = batches(share, BATCH, job.seed + number)
    async with akv.connect(job.url) as kv:
        network = await joined(kv, job)
        batch = next(upcoming)
        for epoch in range(job.epochs):
            for _ in range(job.steps):
                values = network.forward(batch.inputs)
                loss, error = cross_entropy(values[-1], batch.labels)
                job.losses[epoch].append(loss)
                # The next forward pass needs the first layer first, so the first layer is the most urgent.
                moves = [kv.push(keys(n), grads, priority=-n) for n, grads in network.backward(values, error)]
                moves += [kv.pull(keys(n), out=layer, priority=-n) for n, layer in enumerate(network.layers)]
                batch = next(upcoming)  # prepared while gradients and weights are on their way
                await asyncio.gather(*moves)
                progress()
            if number == 0:
                job.accuracies.append(network.accuracy(job.test))


async def joined(kv: akv.KVStore, job: Job) -> Network:
    """A network with the weights that are in the store: those of the worker that came first."""
    network = Network(job.seed)
    for n, layer in enumerate(network.layers):
        network.layers[n] = await kv.broadcast(keys(n), layer)
    await kv.set_optimizer(job.optimizer())
    return network


def keys(layer: int) -> list[str]:
    return [f"layer{layer}.weight", f"layer{layer}.bias"]


async def train(job: Job, progress: Callable[[], None]) -> float:
    """Run all workers; the accuracy, on the held-out images, of the weights they leave in the store."""
    job.losses = [[] for _ in range(job.epochs)]
    async with asyncio.TaskGroup() as group:
        for number in range(job.workers):
            group.create_task(work(job, number, progress))
    network = Network(job.seed)
    async with akv.connect(job.url) as kv:
        for n, layer in enumerate(network.layers):
            await kv.pull(keys(n), out=layer)
    return network.accuracy(job.test)


# ------------------------------------------------------------------------------------------------ what is shown


def report(job: Job, accuracy: float) -> Table:
    table = Table(title=f"{job.workers} workers on {job.url}")
    for name in ("epoch", "training loss", "test accuracy"):
        table.add_column(name, justify="right")
    for epoch, (losses, correct) in enumerate(zip(job.losses, job.accuracies, strict=True), start=1):
        table.add_row(str(epoch), f"{np.mean(losses):.4f}", f"{correct:.1%}")
    table.add_section()
    table.add_row("in the end", "", f"{accuracy:.1%}", style="bold")
    return table


def plot(job: Job, path: Path) -> None:
    """Draw the loss of every mini-batch, its mean by epoch, and the accuracy."""
    figure = Figure(figsize=(7, 4), layout="constrained")  # not of pyplot: it draws by Agg, and needs no display
    axes = figure.subplots()
    share = axes.twinx()
    each = np.concatenate(job.losses)
    ends = np.cumsum([len(losses) for losses in job.losses])
    axes.semilogy(np.arange(1, len(each) + 1), each, ".", markersize=3, color="0.75", label="loss of a mini-batch")
    axes.semilogy(ends, [np.mean(losses) for losses in job.losses], "o-", color="C0", label="mean of an epoch")
    share.plot(ends, job.accuracies, "s-", color="C1", label="test accuracy (right)")
    axes.set(xlabel="mini-batches pushed, by all workers", ylabel="training loss")
    axes.set_title(f"{job.workers} workers on {job.url}")
    share.set(ylabel="test accuracy", ylim=(min(0.8, *job.accuracies), 1))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a digit classifier: several workers, one store.")
    parser.add_argument("--url", default="memory://digits", help="the store, with a name, so that all share it")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the batches, and what is held out")
    parser.add_argument("--plot", type=Path, default=PLOT, metavar="PATH", help="where the loss curve goes, a PNG file")
    given = parser.parse_args()
    if given.workers < 1 or given.epochs < 1:
        parser.error("there is at least one worker, and one epoch")
    if given.url.partition("?")[0].endswith("://"):
        parser.error(f"{given.url} has no name: each worker would get a store of its own; try {given.url}digits")
    return given


def main() -> None:
    given, console = arguments(), Console()
    train_images, test_images = load(given.seed)
    job = Job(given.url, given.workers, given.epochs, given.seed, train_images, Batch.of(test_images))
    if not job.steps:
        sys.exit(f"{job.workers} workers are too many: each needs {BATCH} of the {len(train_images.labels)} images")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    start = perf_counter()
    problem, accuracy = "", 0.0
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=job.workers * job.epochs * job.steps)
        try:
            accuracy = akv.run(train(job, lambda: bar.advance(task)))
        except* akv.AkvError as errors:
            problem = str(errors.exceptions[0])  # of the workers' errors, one will do
    if problem:
        sys.exit(problem)
    seconds = perf_counter() - start
    console.print(report(job, accuracy))
    print(f"Trained on {len(train_images.labels)} images, tested on {len(test_images.labels)} others.")
    print(f"{job.workers * job.epochs * job.steps} mini-batches of {BATCH} images took {seconds:.1f} s.")
    plot(job, given.plot)
    print(f"The loss curve is in {given.plot}")


if __name__ == "__main__":
    main()
