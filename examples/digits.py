"""What train_digits.py trains and on what: a small network in plain numpy, and scikit-learn's handwritten digits.

Nothing here knows of akv.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

Array = np.ndarray

PIXELS, CLASSES = 64, 10
HELD_OUT = 360  # of 1797 images, never trained on


class Images(NamedTuple):
    """Some images, `pixels` of 0 to 16 as uint8 (n, 64), and what they show, `labels` as int64 (n,)."""

    pixels: Array
    labels: Array

    def take(self, chosen: Array | slice) -> Images:
        return Images(self.pixels[chosen], self.labels[chosen])


class Batch(NamedTuple):
    """What the network eats: `inputs` float32 (n, 64) between 0 and 1, and `labels` (n,)."""

    inputs: Array
    labels: Array

    @classmethod
    def of(cls, images: Images) -> Batch:
        return cls(images.pixels.astype(np.float32) / 16, images.labels)


def load(seed: int) -> tuple[Images, Images]:
    """The images to train on and the ones held out, divided at random."""
    digits = load_digits()
    images = Images(digits.data.astype(np.uint8), digits.target)
    order = np.random.default_rng(seed).permutation(len(images.labels))
    return images.take(order[HELD_OUT:]), images.take(order[:HELD_OUT])


def batches(images: Images, size: int, seed: int) -> Iterator[Batch]:
    """Mini-batches without end, shuffled anew for each pass; what does not fill a batch is left out of the pass."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(images.labels))
        for start in range(0, len(order) - size + 1, size):
            yield Batch.of(images.take(order[start : start + size]))


class Network:
    """Fully connected layers, ReLU between them, and a softmax.

    Attributes:
        layers: the first one first; each a weight (inputs, outputs) and a bias (outputs,), float32.
    """

    def __init__(self, seed: int, sizes: tuple[int, ...] = (PIXELS, 128, 64, CLASSES)) -> None:
        rng = np.random.default_rng(seed)
        self.layers: list[list[Array]] = []
        for before, after in pairwise(sizes):
            # He et al. 2015, "Delving Deep into Rectifiers": with this scale the variance survives a ReLU
            weight = rng.normal(0, np.sqrt(2 / before), (before, after))
            self.layers.append([weight.astype(np.float32), np.zeros(after, np.float32)])

    def forward(self, inputs: Array) -> list[Array]:
        """What each layer gets, the first one the inputs; and at the end the logits."""
        values = [inputs]
        for number, (weight, bias) in enumerate(self.layers, start=1):
            sums = values[-1] @ weight + bias
            values.append(sums if number == len(self.layers) else np.maximum(sums, 0))
        return values

    def backward(self, values: list[Array], error: Array) -> Iterator[tuple[int, list[Array]]]:
        """The number of each layer with its gradients, each as soon as it is known: the last layer comes first.

        `values` are what `forward` returned; `error` is the gradient of the logits.
        """
        for number, (weight, _) in reversed(list(enumerate(self.layers))):
            gradients = [values[number].T @ error, error.sum(axis=0)]
            error = (error @ weight.T) * (values[number] > 0)
            yield number, gradients

    def accuracy(self, batch: Batch) -> float:
        """The share of the batch that is recognised."""
        return float((self.forward(batch.inputs)[-1].argmax(axis=1) == batch.labels).mean())


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """The mean cross-entropy of a batch, and its gradient with respect to the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    error = np.exp(logs)
    error[rows, labels] -= 1
    return float(-logs[rows, labels].mean()), error / np.float32(len(labels))
