"""What every optimizer is: a frozen description, a name with numbers, that makes kernels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np

from akv.errors import DTypeMismatch
from akv.optim.blocks import FLOATS, Formula, Kernel, kernel
from akv.optim.parameters import (
    ANY,
    NOT_NEGATIVE,
    POSITIVE,
    check_fields,
    flag,
    names_of,
    number,
    optional_number,
)
from akv.optim.schedules import LRScheduler, as_schedule
from akv.optim.scratch import Array
from akv.optim.settings import NO_MULTIPLIERS, Multipliers, Settings, as_multipliers
from akv.values.dtypes import DType, accumulator
from akv.values.keys import Key

__all__ = ["Kernel", "Optimizer", "Settings"]

_REFUSED = (
    "key {key!r} has dtype {dtype}, which the optimizer {name} cannot update: store the weight as float16, bfloat16, "
    "float32 or float64, or use set_updater"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer(ABC):
    """A frozen description of an optimizer. It holds no state: weights, state arrays and counts belong to the store.

    learning_rate: None means the schedule's base_lr, or without a schedule the class's default.
    lr_scheduler: a schedule of the rate by the number of updates of a key; `learning_rate` replaces its base_lr.
    wd: weight decay, in the form that each optimizer documents.
    rescale_grad: every gradient is multiplied by it first.
    clip_gradient: rescaled gradients are clipped to [-clip_gradient, clip_gradient]; None does not clip.
    multi_precision: float16 and bfloat16 (and float8) weights get a float32 master copy among their state. All
    arithmetic and the rest of the state is float32 for them either way (MXNet keeps them in float16, where squares
    vanish).
    lr_mult, wd_mult: factors by key.
    lazy_update: whether a row-sparse gradient updates only the rows it names; otherwise it counts as a dense one. A
    parameter of those optimizers that can do both.

    Raises InvalidArgument, naming the parameter, its value and the allowed range. Parameter names and defaults are
    those of MXNet 1.9, python/mxnet/optimizer/optimizer.py.
    """

    name: ClassVar[str]
    elementwise: ClassVar[bool] = True
    """Whether each element's update needs nothing but that element, so that any slice may be updated on its own."""
    default_rate: ClassVar[float] = 0.01

    learning_rate: float | None = optional_number(NOT_NEGATIVE)
    lr_scheduler: LRScheduler | None = field(default=None, metadata={"parse": as_schedule})
    wd: float = number(0.0, NOT_NEGATIVE)
    rescale_grad: float = number(1.0, ANY)
    clip_gradient: float | None = optional_number(POSITIVE)
    multi_precision: bool = flag(False)
    lr_mult: Mapping[Key, float] = field(default=NO_MULTIPLIERS, metadata={"parse": as_multipliers})
    wd_mult: Mapping[Key, float] = field(default=NO_MULTIPLIERS, metadata={"parse": as_multipliers})
    lazy_update: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.learning_rate is None:
            base = self.lr_scheduler.base_lr if self.lr_scheduler else self.default_rate
            object.__setattr__(self, "learning_rate", base)

    @property
    def state_names(self) -> tuple[str, ...]:
        """What the arrays of a key's state are, without the master copy."""
        return ()

    @property
    @abstractmethod
    def formula(self) -> Formula:
        """The arithmetic, for arrays of one dtype."""

    @abstractmethod
    def scalars(self, key: Key, count: int, settings: Settings) -> tuple[float, ...]:
        """The numbers that the formula takes for update number `count` (the first is 1) of `key`."""

    @property
    def bound(self) -> float:
        """clip_gradient, or infinity."""
        return math.inf if self.clip_gradient is None else self.clip_gradient

    def check(self, key: Key, dtype: DType) -> None:
        """Raises DTypeMismatch if a weight of this dtype cannot be updated."""
        if accumulator(dtype) not in FLOATS:
            raise DTypeMismatch(_REFUSED.format(key=key, dtype=dtype, name=self.name))

    def create_state(self, weight: Array) -> tuple[Array, ...]:
        """The state before the first update: arrays of the weight's shape, C order, owned by the caller.

        With multi_precision and a float16 or bfloat16 weight the first is its float32 copy; then come `state_names`,
        zeros, float64 for a float64 weight and float32 for the others. The dtype is one that `check` accepts.
        """
        work = accumulator(weight.dtype)
        zeros = tuple(np.zeros_like(weight, dtype=work, order="C") for _ in self.state_names)
        if self.multi_precision and work != weight.dtype:
            return (weight.astype(work, order="C"), *zeros)
        return zeros

    def prepare(self, dtype: DType) -> None:
        """Import numba and compile what updates of weights of this dtype need, so that no push has to wait for it.

        dtype: one that `check` accepts. Call it off the event loop; without numba there is nothing to do.
        """
        weight = np.zeros(1, dtype)
        self.bind("", 1, Settings())(weight, np.zeros_like(weight), self.create_state(weight))

    def bind(self, key: Key, count: int, settings: Settings, *, norms: Array | None = None) -> Kernel:
        """The kernel of update number `count` of `key`; the first push has count 1.

        The kernel takes (weight, grad, state) and updates weight and state in place. They are numpy arrays of equal
        shape; weight and state are C-contiguous; grad may be strided and of another real dtype, is never written to,
        and may not overlap them. It may be used on slices (all cut alike), by several threads at once on disjoint
        ones, and is bound to the settings as they were at this call. It raises ShapeMismatch or InvalidArgument,
        before anything is changed, for arrays that are not so.

        norms: only for optimizers that are not elementwise, see `Layerwise`.
        """
        return kernel(self.formula, self.scalars(key, count, settings), self.multi_precision)

    def rate(self, key: Key, count: int, settings: Settings) -> float:
        """The learning rate of update number `count` of `key`: base, schedule, multiplier."""
        live = settings.learning_rate
        base = cast(float, self.learning_rate) if live is None else live
        if self.lr_scheduler is not None:
            base = self.lr_scheduler.rate(count, base)
        return base * _factor(key, settings.lr_mult, self.lr_mult)

    def decay(self, key: Key, settings: Settings) -> float:
        """The weight decay of `key`."""
        return self.wd and self.wd * _factor(key, settings.wd_mult, self.wd_mult)

    def to_dict(self) -> dict[str, object]:
        """Name and numbers, ready for msgpack; `from_dict` reads it back."""
        return {"name": self.name} | {name: _plain(getattr(self, name)) for name in names_of(self)}


def _factor(key: Key, live: Mapping[Key, float], own: Mapping[Key, float]) -> float:
    if own is NO_MULTIPLIERS and not live:  # it is not asked for its length, which takes 0.2 us
        return 1.0
    return live[key] if key in live else own.get(key, 1.0)


def _plain(value: Any) -> object:
    if isinstance(value, LRScheduler):
        return value.to_dict()
    # Pairs rather than a map: msgpack readers refuse integer keys of maps by default.
    return [list(pair) for pair in value.items()] if isinstance(value, Multipliers) else value
