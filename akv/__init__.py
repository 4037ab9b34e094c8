"""akv: a key-value store for tensors, made for asyncio."""

from __future__ import annotations

from akv import init, optim
from akv.backend.storage import Info
from akv.errors import (
    AkvError,
    AkvTimeout,
    AuthError,
    BackendUnavailable,
    BadCheckpoint,
    CompressionConflict,
    ConnectionLost,
    DiskError,
    DTypeMismatch,
    ForkedProcess,
    InvalidArgument,
    KeyExists,
    KeyNotFound,
    KeyTypeError,
    NonFinite,
    NotAnArray,
    ProtocolError,
    QueueFull,
    RowOutOfRange,
    SessionExpired,
    ShapeMismatch,
    StoreClosed,
    UnknownStore,
    UpdaterConflict,
    WorkerLost,
    WrongLoop,
)
from akv.loop import Pending, run
from akv.store import KVStore, connect
from akv.values.rowsparse import RowSparse
from akv.watch import Watch

__version__ = "0.1.0"

__all__ = [
    "AkvError",
    "AkvTimeout",
    "AuthError",
    "BackendUnavailable",
    "BadCheckpoint",
    "CompressionConflict",
    "ConnectionLost",
    "DTypeMismatch",
    "DiskError",
    "ForkedProcess",
    "Info",
    "InvalidArgument",
    "KVStore",
    "KeyExists",
    "KeyNotFound",
    "KeyTypeError",
    "NonFinite",
    "NotAnArray",
    "Pending",
    "ProtocolError",
    "QueueFull",
    "RowOutOfRange",
    "RowSparse",
    "SessionExpired",
    "ShapeMismatch",
    "StoreClosed",
    "UnknownStore",
    "UpdaterConflict",
    "Watch",
    "WorkerLost",
    "WrongLoop",
    "connect",
    "init",
    "optim",
    "run",
]
