"""Optimizers by name, so that a description can travel: never code, always a registered name and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar, cast

from akv.errors import InvalidArgument
from akv.optim.base import Optimizer
from akv.optim.parameters import build

__all__ = ["from_dict", "register"]

GROUP = "akv.optimizers"
_Class = TypeVar("_Class", bound=type[Optimizer])
_classes: dict[str, type[Optimizer]] = {}


def register(cls: _Class) -> _Class:
    """Class decorator, outside of `dataclass`: makes an Optimizer known under its `name`.

    A package announces its own under the entry-point group `akv.optimizers`; it is imported when the name is first
    asked for. Raises InvalidArgument if another class has this name.
    """
    known = _classes.get(cls.name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise InvalidArgument(f"optimizer name {cls.name!r} is claimed by {known!r} and {cls!r}; rename one of them")
    _classes[cls.name] = cls
    return cls


def from_dict(description: Mapping[str, object]) -> Optimizer:
    """The optimizer that `Optimizer.to_dict` described.

    Raises InvalidArgument if `description` is no mapping with a known "name", or a parameter is unknown, missing or
    out of range. Safe with what a client sent: nothing is executed but the named class's checks.
    """
    if not isinstance(cast(Any, description), Mapping):
        raise InvalidArgument(f"an optimizer is described by a mapping of name and numbers, not {description!r:.80}")
    numbers = dict(description)
    name = numbers.pop("name", None)
    if not isinstance(name, str):
        raise InvalidArgument(f"an optimizer's description needs a name, not {name!r:.80}")
    optimizer: Optimizer = build(_find(name), "optimizer", numbers)
    return optimizer


def _find(name: str) -> type[Optimizer]:
    if name not in _classes:
        for point in entry_points(group=GROUP, name=name):
            point.load()
    if name not in _classes:
        raise InvalidArgument(f"no optimizer is called {name!r:.80}; known are {', '.join(sorted(_classes))}")
    return _classes[name]
