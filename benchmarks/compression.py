"""How fast gradients are packed and restored, by one core, in GB/s of float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from akv.compression import Compression, from_spec
from benchmarks.measure import Row, best, engines

SPECS = [
    {"type": "1bit"},
    {"type": "2bit", "threshold": 0.5},
    {"type": "fp16"},
    {"type": "bf16"},
    {"type": "int8"},
    {"type": "topk", "ratio": 0.01},
]


def run(smoke: bool) -> list[Row]:
    """Each codec with and without numba. smoke: 1 MiB once instead of 64 MiB 5 times."""
    size, repeats = (1 << 18, 1) if smoke else (1 << 24, 5)
    grad = (np.random.default_rng(0).standard_normal(size) * 0.3).astype(np.float32)
    return [row for engine in engines() for spec in SPECS for row in _rows(engine, from_spec(spec), grad, repeats)]


def _rows(engine: str, codec: Compression, grad: np.ndarray, repeats: int) -> Iterator[Row]:
    packed = np.empty(codec.packed_nbytes(grad.size), np.uint8)
    residual, out = np.zeros_like(grad), np.zeros_like(grad)
    steps: dict[str, Callable[[], object]] = {
        "encode with feedback": lambda: codec.encode(grad, residual, packed),
        "decode": lambda: codec.decode(packed, out),
        "add decoded": lambda: codec.add_decoded(packed, out),
    }
    if not codec.needs_residual:
        steps["encode"] = lambda: codec.encode(grad, None, packed)
    smaller = f"{grad.nbytes / packed.nbytes:.1f} times smaller"
    for name, step in steps.items():
        yield Row(f"{codec.name} {engine} {name}", f"{grad.nbytes / 1e9 / best(step, repeats):.1f} GB/s", "", smaller)


if __name__ == "__main__":
    print(*run(smoke=False), sep="\n")
