"""What a verb asks for, as data: checked arguments in one form, whatever form the call had.

Making one checks everything that can be known at the call, and raises there; `begin` checks the rest against what is
stored.
"""

from __future__ import annotations

from akv.operations.base import Operation
from akv.operations.checkpoint import Load, LoadOptimizerStates, Progress, Save, SaveOptimizerStates
from akv.operations.compression import CodedPull, CodedPush, CodedPushPull, SetCompression
from akv.operations.control import (
    Barrier,
    Delete,
    Describe,
    Flush,
    ListKeys,
    SetLearningRate,
    SetMultipliers,
    SetOptimizer,
    SetUpdater,
    Wait,
)
from akv.operations.cut import Restore, Staged, TakeCut
from akv.operations.data import Broadcast, Init, Pull, Push, PushPull, Snapshot
from akv.operations.rows import PullRows

__all__ = [
    "Barrier",
    "Broadcast",
    "CodedPull",
    "CodedPush",
    "CodedPushPull",
    "Delete",
    "Describe",
    "Flush",
    "Init",
    "ListKeys",
    "Load",
    "LoadOptimizerStates",
    "Operation",
    "Progress",
    "Pull",
    "PullRows",
    "Push",
    "PushPull",
    "Restore",
    "Save",
    "SaveOptimizerStates",
    "SetCompression",
    "SetLearningRate",
    "SetMultipliers",
    "SetOptimizer",
    "SetUpdater",
    "Snapshot",
    "Staged",
    "TakeCut",
    "Wait",
]
