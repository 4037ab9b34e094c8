"""Two optimizers that are not the same one, in a line: for the texts of errors."""

from __future__ import annotations

from typing import Any

from akv.optim.base import Optimizer
from akv.optim.parameters import names_of
from akv.optim.settings import Multipliers

__all__ = ["contrast"]

# Factors of one parameter that are shown; there may be one for each key of a model.
_SHOWN = 3


def contrast(one: Optimizer, other: Optimizer) -> tuple[str, str]:
    """The name of each, with those parameters of both that differ: SGD(momentum=0.9) and SGD(momentum=0.5)."""
    shared = set(names_of(other))
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names_of(one) if name in shared]
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    ours = [f"{name}={_text(mine, its)}" for name, mine, its in differing]
    theirs = [f"{name}={_text(its, mine)}" for name, mine, its in differing]
    return f"{type(one).__name__}({', '.join(ours)})", f"{type(other).__name__}({', '.join(theirs)})"


def _text(value: Any, other: Any) -> str:
    if not isinstance(value, Multipliers):
        return f"{value!r:.200}"
    differing = [f"{key!r}: {factor}" for key, factor in value.items() if other.get(key) != factor]
    more = f", ... ({len(differing)} that differ)" if len(differing) > _SHOWN else ""
    return f"{{{', '.join(differing[:_SHOWN])}{more}}}"
