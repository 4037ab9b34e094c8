"""akv's errors by number: what travels in REFUSE, ERROR and GOODBYE."""

from __future__ import annotations

from typing import Final

from akv import errors as e

from .limits import MAX_TEXT

__all__ = ["CODES", "code_of", "error_from", "fitting_text"]

CODES: Final[dict[int, type[e.AkvError]]] = {
    0: e.AkvError,
    1: e.KeyNotFound,
    2: e.KeyExists,
    3: e.KeyTypeError,
    4: e.NotAnArray,
    5: e.ShapeMismatch,
    6: e.DTypeMismatch,
    7: e.RowOutOfRange,
    8: e.NonFinite,
    9: e.InvalidArgument,
    10: e.UpdaterConflict,
    11: e.QueueFull,
    12: e.StoreClosed,
    13: e.WrongLoop,
    14: e.ForkedProcess,
    15: e.UnknownStore,
    16: e.BackendUnavailable,
    17: e.AkvTimeout,
    18: e.ConnectionLost,
    19: e.WorkerLost,
    20: e.SessionExpired,
    21: e.ProtocolError,
    22: e.AuthError,
    23: e.BadCheckpoint,
    24: e.DiskError,
    25: e.CompressionConflict,
}
"""A number keeps its meaning for ever; new errors get new numbers."""

_NUMBERS: Final = {kind: code for code, kind in CODES.items()}


def code_of(error: BaseException) -> int:
    """The number of an error, or of the nearest class above it; 0 for what is none of akv's."""
    return next((_NUMBERS[kind] for kind in type(error).__mro__ if kind in _NUMBERS), 0)


def error_from(code: int, text: str) -> e.AkvError:
    """The error that a number stands for. One that this side does not know (a newer peer's) becomes AkvError."""
    return CODES.get(code, e.AkvError)(text)


def fitting_text(text: str) -> str:
    """The text of an error, cut to what fits into a header, with unprintable surrogates replaced."""
    return text.encode(errors="replace")[:MAX_TEXT].decode(errors="ignore")
