"""Training with compressed gradients gets as far as without."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

PLACE = Path(__file__).parents[1] / "benchmarks" / "compression_training.py"

pytest.importorskip("sklearn")


def training() -> Any:
    spec = importlib.util.spec_from_file_location("compression_training", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_accuracy_is_within_one_percent_of_dense() -> None:
    path = list(sys.path)
    try:
        page = training()
    finally:
        sys.path[:] = path
    steps = page.STEPS // 2  # by then none gets any better
    reached = {name: page.train(spec, steps, steps)[-1][1] for name, spec in page.SPECS.items()}
    assert reached["dense"] > 0.95
    assert {name for name, share in reached.items() if share < reached["dense"] - 0.01} == set()
