"""What a server remembers of the requests that it has answered."""

from __future__ import annotations

from collections.abc import Sequence

from . import wire as w
from .client_requests import REPEATABLE

__all__ = ["Record", "once_more"]


class Record:
    """The newest request of one slot, and its answer, if that is kept.

    Of a push only the versions are kept: entries take 18 times as much, 9 MB for 65,536.
    """

    __slots__ = ("_answer", "_versions", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._answer: w.Message | None = None
        self._versions: Sequence[int] | None = None

    @property
    def is_kept(self) -> bool:
        """Whether there is an answer."""
        return self._versions is not None or self._answer is not None

    @property
    def answer(self) -> w.Message | None:
        """What is answered when the request comes again."""
        if self._versions is None:
            return self._answer
        return w.Result(self.number, w.Versions(self._versions))

    @property
    def is_result(self) -> bool:
        """Whether that is a Result."""
        return self._versions is not None or isinstance(self._answer, w.Result)

    def renew(self, number: int, version: int | None) -> None:
        """There is a newer request in the slot: a push that led to a version, or something that is not kept."""
        self.number = number
        self._answer, self._versions = None, None if version is None else (version,)

    def keep(self, request: w.Request, message: w.Message) -> None:
        """Remember the answer. Values are not kept, but read again."""
        if isinstance(request, (*REPEATABLE, w.PushPull)) and not isinstance(message, w.Error):
            return
        if isinstance(message, w.Result) and isinstance(message.entries, w.Versions):
            self._versions = message.entries.numbers
        else:
            self._answer = message


def once_more(request: w.Request) -> w.Request:
    """What is left to do of a request that was carried out, but whose answer was not kept."""
    if isinstance(request, w.PushPull):
        entries = tuple([w.Entry(entry.key) for entry in request.entries])
        return w.Pull(request.request, request.priority, request.timeout, False, entries)
    return request
