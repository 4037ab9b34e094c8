"""Optimizers, learning-rate schedules and sums: the arithmetic that a store runs where the weights live."""

from __future__ import annotations

from akv.optim.adagrad import AdaDelta, AdaGrad
from akv.optim.adam import Adam, AdamW
from akv.optim.base import Optimizer
from akv.optim.blocks import Kernel
from akv.optim.ftrl import Ftrl
from akv.optim.kernels import sum_into
from akv.optim.lamb import LAMB
from akv.optim.lars import LARS
from akv.optim.layerwise import Layerwise
from akv.optim.nesterov import NAG, DiLoCo
from akv.optim.registry import from_dict, register
from akv.optim.rmsprop import RMSProp
from akv.optim.schedules import CosineScheduler, FactorScheduler, LRScheduler, MultiFactorScheduler, PolyScheduler
from akv.optim.settings import Settings
from akv.optim.sgd import SGD, Test
from akv.optim.signum import Signum

__all__ = [
    "LAMB",
    "LARS",
    "NAG",
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "CosineScheduler",
    "DiLoCo",
    "FactorScheduler",
    "Ftrl",
    "Kernel",
    "LRScheduler",
    "Layerwise",
    "MultiFactorScheduler",
    "Optimizer",
    "PolyScheduler",
    "RMSProp",
    "Settings",
    "Signum",
    "Test",
    "from_dict",
    "register",
    "sum_into",
]
