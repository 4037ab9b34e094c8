"""A request on its way through the store. What takes long for many keys is done here, and may be done by a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from akv.engine import INLINE_KEYS
from akv.errors import AkvError
from akv.operations import Operation

from . import wire as w
from .memory_budget import Share
from .outcomes import answer
from .records import Record, once_more
from .server_requests import expected, refusal
from .transfers import TRANSFERS

if TYPE_CHECKING:
    from .session import Session

__all__ = ["LARGE", "Work", "charge_of"]

# A key takes 10-20 us on its way in and out again. Small ones of one array have a way of their own, see `small`.
LARGE = INLINE_KEYS


class Work:
    """A request that is being carried out; listens for the end of its operation, in whatever thread that comes.

    Attributes:
        again: it was carried out before, but what it has read was not kept.
        cost: bytes that it holds of `share`; owes: those that its answer will bring; crowds: 1 where it counts.
        done: the operation is done already, or `error`: it could not be made.
        record: what is to be remembered of it, where a thread has made its answer.
        reply: that answer.
    """

    __slots__ = (
        "again",
        "cost",
        "crowds",
        "done",
        "error",
        "large",
        "op",
        "owes",
        "record",
        "reply",
        "request",
        "session",
        "share",
        "timer",
    )

    def __init__(self, session: Session, request: w.Request, cost: int, share: Share) -> None:
        self.session = session
        self.request = request
        self.cost = cost
        self.share = share
        self.again = False
        self.large = len(getattr(request, "entries", ())) > LARGE
        self.crowds = self.owes = 0
        self.done = False
        self.op: Operation | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.error: Exception | None = None
        self.record: Record | None = None
        self.reply: w.Message | w.Outgoing | None = None

    def let_go(self) -> None:
        """Count it no longer among what its connection holds."""
        cost, self.cost = self.cost, 0
        self.share.give_back(cost)

    def aside(self, step: Callable[[], None], then: Callable[[Work], object]) -> None:
        """Have a thread do `step`, which must not raise, and the server's loop then go on with `then`."""

        def run() -> None:
            step()
            self._tell(then)

        self.share.aside.submit(run)

    def operation_done(self, op: Operation) -> None:
        """Go on, on the server's loop."""
        self._tell(self.session.finish)

    def _tell(self, then: Callable[[Work], object]) -> None:
        try:
            self.session.loop.call_soon_threadsafe(then, self)
        except RuntimeError:
            return  # the loop is closed

    # -- what a thread may do ---------------------------------------------------------------------------------

    def submit(self) -> None:
        """Make the operation, and hand it to the engine."""
        session = self.session
        try:
            if self.again:
                self.request = once_more(self.request)
            # Before it is submitted: it may have to wait for other clients, and be asked for, at once.
            self.op = op = session.operation(self.request, self.share)
            self.done = session.engine.submit(op)
            if not (self.done or op.min_version):
                self.owes = expected(self.request, op, session.engine.backend)
        except Exception as error:  # of any kind: what a client sends must not end the server
            self.error = error

    @property
    def is_long(self) -> bool:
        """Whether a thread has to make the answer, for the sake of others."""
        result = None if self.op is None else self.op.result
        return self.large or (type(result) is list and len(result) > LARGE)

    def answer(self) -> w.Message:
        """What has become of it."""
        request, op = self.request, self.op
        try:
            if self.error is not None:
                raise self.error
            assert op is not None
            if type(request) in TRANSFERS:
                return self.session.transfers.answer(request, op)
            return answer(request, op)
        except Exception as error:
            return refusal(request, error)

    def reply_at_length(self) -> None:
        """Make the frames of the answer, and let go of all else."""
        self._pack(self.answer())

    def repeat(self) -> None:
        """The same for what is remembered of it."""
        message = None if self.record is None else self.record.answer
        assert message is not None
        self._pack(message)

    def _pack(self, message: w.Message) -> None:
        request = self.request
        if self.record is None:
            self.record = Record(request.request)
            self.record.keep(request, message)
        try:
            self.reply = w.encode_answer(message)
        except AkvError as error:  # it is larger than a message may be, say
            self.reply = refusal(request, error)
        # Here, since to free them for 65,536 keys takes 20 ms.
        self.op = None
        if isinstance(request, (w.Batch, w.Read)):
            request.entries, request.data = (), ()


def charge_of(request: w.Request) -> int:
    """The bytes that a request has taken from its connection's share."""
    return w.cost_of(request) if isinstance(request, (w.Batch, w.Read)) else 0
