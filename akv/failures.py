"""The errors that nobody has seen: what a `flush` has to raise, without the arrays of the calls that failed."""

from __future__ import annotations

from itertools import count
from traceback import format_exception
from typing import TYPE_CHECKING, Any
from weakref import ref

from akv.errors import AkvError

if TYPE_CHECKING:
    from akv.loop import Pending

__all__ = ["Failures"]


class Failures:
    """The failed awaitables of one handle whose error nobody has seen: they belong to `flush`, not to the log.

    An awaitable is known for as long as its caller holds it, and its error from then on: it itself would keep the
    caller's arrays alive.
    """

    # More than this nobody reads; the oldest say what went wrong first.
    _MOST = 1000

    def __init__(self) -> None:
        self._numbers = count()
        # By number. Copied to be gone through, since a garbage collection may call `drop` at any time.
        self._kept: dict[int, ref[Pending[Any]] | BaseException] = {}

    def add(self, pending: Pending[Any]) -> None:
        """Keep a failed awaitable in mind."""
        pending.number = next(self._numbers)
        if len(self._kept) >= self._MOST:
            self._forget_seen()
        if len(self._kept) < self._MOST:
            self._kept[pending.number] = ref(pending)

    def drop(self, pending: Pending[Any]) -> None:
        """Nobody holds a failed awaitable any more; called by its finalizer, in any thread."""
        if pending.number not in self._kept:
            return
        if (error := _unseen(pending)) is None:
            self._kept.pop(pending.number, None)
        else:
            self._kept[pending.number] = _lightened(error)

    def take(self) -> BaseException | None:
        """The first error nobody has retrieved; it counts as retrieved from now on."""
        for number, kept in self._kept.copy().items():
            if isinstance(kept, BaseException):
                error: BaseException | None = kept
            elif (pending := kept()) is not None:
                error = _unseen(pending)
            else:
                continue  # its finalizer is at work
            self._kept.pop(number, None)
            if error is not None:
                return error
        return None

    def forget(self) -> None:
        """Count all errors as retrieved."""
        self._kept.clear()

    def _forget_seen(self) -> None:
        for number, kept in self._kept.copy().items():
            pending = None if isinstance(kept, BaseException) else kept()
            if pending is not None and not pending._log_traceback:
                self._kept.pop(number, None)


def _unseen(pending: Pending[Any]) -> BaseException | None:
    """The error that nobody has retrieved, which is retrieved by that."""
    # asyncio's own mark of an exception that has been set and not retrieved.
    return pending.exception() if pending._log_traceback else None


def _lightened(error: BaseException) -> BaseException:
    """Make text of the traceback: its frames, and all that called them, keep the caller's arrays alive."""
    if not isinstance(error, AkvError):  # akv's own say where, and what
        error.add_note(f"As it was raised, in a call that nobody awaited:\n{''.join(format_exception(error))}")
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
