"""Every error akv raises: one root, each class also a builtin's kin, so that generic handlers work.

The text of an error names the key, the numbers, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    "InvalidArgument",
    "KeyExists",
    "KeyNotFound",
    "KeyTypeError",
    "NonFinite",
    "NotAnArray",
    "ProtocolError",
    "QueueFull",
    "RowOutOfRange",
    "SessionExpired",
    "ShapeMismatch",
    "StoreClosed",
    "UnknownStore",
    "UpdaterConflict",
    "WorkerLost",
    "WrongLoop",
]


class AkvError(Exception):
    """The root of all errors that akv raises.

    Attributes:
        applied: the keys of the call that were done before the error.
        ranks: the workers that the call has waited for in vain, where that is known; waited: for so many seconds.
    """

    applied: Sequence[str | int] = ()
    ranks: Sequence[int] = ()
    waited: float | None = None


class KeyNotFound(AkvError, KeyError):
    """The store holds no value under this key."""

    # KeyError prints the repr of its argument; a sentence should read as one.
    __str__ = Exception.__str__


class KeyExists(AkvError, ValueError):
    """The key is already initialised: by this handle, or with another shape or dtype."""


class KeyTypeError(AkvError, TypeError):
    """A key is neither a string nor a 64-bit integer, or the two kinds were mixed."""


class NotAnArray(AkvError, TypeError):
    """A value is neither an array, nor a RowSparse, nor a list of them."""


class ShapeMismatch(AkvError, ValueError):
    """An array has another shape than the stored value."""


class DTypeMismatch(AkvError, TypeError):
    """An array has another dtype than the stored value, or one that no store can hold."""


class RowOutOfRange(AkvError, IndexError):
    """A row id lies outside the table."""


class NonFinite(AkvError, ValueError):
    """A pushed value holds NaN or infinity and the store rejects those."""


class InvalidArgument(AkvError, ValueError):
    """An argument, or a combination of them, has no meaning."""


class UpdaterConflict(AkvError, ValueError):
    """The store already runs another optimizer."""


class CompressionConflict(AkvError, ValueError):
    """The store compresses gradients in another way than this handle does."""


class QueueFull(AkvError, RuntimeError):
    """Too many operations are waiting for their turn."""


class StoreClosed(AkvError, RuntimeError):
    """The handle is closed, or was closed while the operation waited."""


class WrongLoop(AkvError, RuntimeError):
    """An async handle was used outside the event loop that it was opened on."""


class ForkedProcess(AkvError, RuntimeError):
    """A handle was used in a child process made by fork; open a new one there."""


class UnknownStore(AkvError, ValueError):
    """No backend claims this scheme, no store has this name, or two backends claim it."""


class BackendUnavailable(AkvError, RuntimeError):
    """The backend is known, but something it needs is missing on this machine."""


class AkvTimeout(AkvError, TimeoutError):
    """The time given to a call has passed."""


class ConnectionLost(AkvError, ConnectionError):
    """The connection to a server broke and was not restored in time."""


class WorkerLost(AkvError, RuntimeError):
    """A worker that this call depends on has left, died or frozen."""


class SessionExpired(AkvError, RuntimeError):
    """The server has forgotten this client, so it cannot tell what was applied."""


class ProtocolError(AkvError, ValueError):
    """A peer sent bytes that are not this protocol, or exceed its limits."""


class AuthError(AkvError, PermissionError):
    """The peer refused the credentials, or they are missing."""


class BadCheckpoint(AkvError, ValueError):
    """A checkpoint is damaged, cut short, or no checkpoint of akv's; nothing of it was loaded."""


class DiskError(AkvError, OSError):
    """The system refused to read or write a checkpoint; `errno` says why."""

    def __str__(self) -> str:
        # OSError would begin with the number.
        return self.strerror or super().__str__()
