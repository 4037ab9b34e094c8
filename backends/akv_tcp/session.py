"""What a server keeps of one client across its connections: each request is carried out once, and answered."""

from __future__ import annotations

import asyncio
from typing import Protocol

from akv import operations as ops
from akv.compression import Scheme
from akv.engine import Engine
from akv.errors import AkvError, InvalidArgument, ProtocolError
from akv.operations import Operation

from . import wire as w
from .client_requests import REPEATABLE
from .memory_budget import Share
from .records import Record
from .server_requests import bound, operation, refusal
from .slots import HALF, SLOTS, is_later, slot_of
from .small import small_answer, small_operation
from .transfers import TRANSFERS, Transfers
from .work import Work, charge_of

__all__ = ["Responder", "Session"]


class Responder(Protocol):
    """The connection on which a client is answered."""

    @property
    def heard(self) -> float:
        """The loop's time at which the client was last heard of, or now where nobody listens."""
        ...

    def say(self, message: w.Message | w.Outgoing, priority: int) -> None:
        """Send an answer, or drop it where the connection has ended. Raises InvalidArgument: it cannot be sent."""
        ...

    def withdraw(self, request: int) -> w.Withdrawn:
        """Stop sending an answer."""
        ...

    def hold(self) -> None:
        """Bring no more requests, until `go_on`."""
        ...

    def go_on(self) -> None:
        """Bring the next requests."""
        ...

    def displace(self) -> None:
        """The client has a new connection."""
        ...


class Session:
    """One client's requests on one store.

    Attributes:
        responder: where answers go now; None while the client is away.
        away_since: the loop's time at which it went.
        last_heard: when it was heard of before that.
        crowd: how many requests are being carried out, without those that wait for versions.
        owed: bytes that their answers will bring, as far as is known.
        reads_only: whether only requests that change nothing are carried out.
        preparing: a thread is making the operation of a large request. None that comes after it must be taken before
            that is in its place, whatever connection it comes on.
    """

    reads_only = preparing = False

    def __init__(self, job: str, client: bytes, engine: Engine) -> None:
        self.place = (job, client)
        self.engine = engine
        self.line = engine.open_line()
        self.responder: Responder | None = None
        self.loop = asyncio.get_running_loop()
        self.away_since = self.last_heard = self.loop.time()
        self.owed = self.crowd = 0
        self._work: dict[int, Work] = {}
        self._records: dict[int, Record] = {}
        self._refusal: AkvError | None = None
        self._scheme: Scheme | None = None  # how the client packs
        self.transfers = Transfers(self.loop)

    @property
    def busy(self) -> int:
        """How many requests are being carried out."""
        return len(self._work)

    def take(self, request: w.Request, share: Share) -> None:
        """A request has come whole, and holds its part of `share`. It may be one that came before."""
        number, cost = request.request, charge_of(request)
        slot = slot_of(number)
        record = self._records.get(slot) if slot else None
        if number in self._work:  # whoever sent it again gets the answer when it is there
            share.give_back(cost)
            return
        work = Work(self, request, cost, share)
        if record is None or is_later(number, record.number):
            if slot:
                self._records[slot] = Record(number)
            self._begin(work)
        elif record.number == number and not record.is_kept:
            work.again = True
            self._begin(work)
        elif record.number == number and work.large:
            self._work[number], work.record = work, record
            work.aside(work.repeat, self._answer)
        else:
            share.give_back(cost)
            self._say(request, record.answer if record.number == number else refusal(request, _too_old(record)))

    def answer(self, small: w.SmallMessage) -> bytes | None:
        """The answer to a request that is new and can be carried out at once; None: nothing has happened, `take` it."""
        record = self._records.get(small.request % SLOTS)
        if record is None or not 0 < small.request - record.number < HALF:
            return None  # `is_later`, but where numbers start anew
        if self._refusal is not None or self.reads_only:
            return None
        try:
            op = None if self._scheme is not None else small_operation(small)
            # What has failed has changed nothing: on the long way it fails again, and more is said about it.
            if op is None or not self._attempt(op):
                return None
            record.renew(small.request, op.result if op.writes else None)
            return small_answer(op, small.request)
        except Exception:  # of any kind, and once more on the long way
            return None

    def _attempt(self, op: Operation) -> bool:
        op.line = self.line
        return self.engine.attempt(op, w.INLINE - 1) and op.error is None

    def cancel(self, number: int) -> None:
        """The client no longer waits for this request: take it back, or have it end soon."""
        work = self._work.get(number)
        op = None if work is None else work.op
        if op is not None:
            self.engine.cancel(op, AkvError(f"{op} was cancelled"))
        elif self._has_changed_something(number):
            return  # which its answer has to say
        elif self.responder is not None and self.responder.withdraw(number) is w.Withdrawn.UNSENT:
            self.responder.say(w.Error(number, w.code_of(AkvError()), "cancelled"), 0)

    def _has_changed_something(self, number: int) -> bool:
        record = self._records.get(slot_of(number))
        return record is not None and record.number == number and record.is_result

    def silence(self) -> float:
        """The seconds since the client was last heard of; from any thread."""
        responder = self.responder
        return self.loop.time() - (self.last_heard if responder is None else responder.heard)

    def attached(self) -> bool:
        """Whether the client has a connection; from any thread."""
        return self.responder is not None

    def held(self, op: Operation) -> None:
        """Other clients are waited for: what this one brought counts no longer as what it may send; from any thread.

        Else it could be kept from sending what those others wait for. It holds at most one operation so per key.
        """
        try:
            self.loop.call_soon_threadsafe(self._let_go, op)
        except RuntimeError:
            return  # the loop is closed

    def _let_go(self, op: Operation) -> None:
        for work in self._work.values():
            if work.op is op:
                work.let_go()

    def stop(self, error: AkvError) -> None:
        """Begin nothing more, and end what waits for something to happen."""
        self._refusal = error
        for work in list(self._work.values()):
            op = work.op
            if op is not None and (op.min_version or isinstance(op, ops.Barrier)):
                self.engine.cancel(op, error)

    def close(self) -> None:
        """Forget the client."""
        self.transfers.close()
        self.engine.close_line(self.line)

    # -- how it is done ---------------------------------------------------------------------------------------

    def _begin(self, work: Work) -> None:
        self._work[work.request.request] = work
        if work.large:
            self.preparing = True
            if self.responder is not None:
                self.responder.hold()
            work.aside(work.submit, self._prepared)
        else:
            work.submit()
            self._follow(work)

    def _prepared(self, work: Work) -> None:
        """A large request is in its place among all others."""
        self.preparing = False
        self._follow(work)
        if self._refusal is not None:  # since a moment ago
            self.stop(self._refusal)
        if self.responder is not None:
            self.responder.go_on()

    def operation(self, request: w.Request, share: Share) -> Operation:
        """What a request asks for; from any thread, but for those that are about streams.

        Raises:
            Exception: of any kind; it cannot be done.
        """
        if self._refusal is not None:
            raise self._refusal
        if self.reads_only and not isinstance(request, REPEATABLE):
            raise InvalidArgument("a handle with role=reader changes nothing")
        if type(request) in TRANSFERS:
            op = self.transfers.operation(request, share.stream_budget, self.attached)
        else:
            op = operation(request, self.line.number, self.engine.backend, self._scheme)
            bound(request, op, share.most)
        op.line = self.line
        return op

    def _follow(self, work: Work) -> None:
        """The engine has the operation, or never will."""
        op, engine = work.op, self.engine
        if op is None or work.error is not None or work.done or not engine.listen(op, work):
            self.finish(work)
            return
        if op.min_version:
            work.let_go()  # as in `held`: the version may come of what this client sends next
        else:
            work.crowds = 1
            self.crowd, self.owed = self.crowd + 1, self.owed + work.owes
        if (timeout := work.request.timeout) is not None:
            work.timer = self.loop.call_later(timeout, engine.expire, op, timeout)

    def finish(self, work: Work) -> None:
        """An operation has ended."""
        op = work.op
        if op is not None:
            if isinstance(op, ops.SetCompression) and op.error is None and work.error is None:
                self._scheme = op.scheme
            op.listener = None  # it refers back to the request, and that to the memory of what was pushed
        if work.timer is not None:
            work.timer.cancel()
        if work.is_long:
            work.aside(work.reply_at_length, self._answer)
        else:
            work.reply = work.answer()
            self._answer(work)

    def _answer(self, work: Work) -> None:
        request, reply = work.request, work.reply
        del self._work[request.request]
        if work.crowds:
            self.crowd, self.owed = self.crowd - 1, self.owed - work.owes
        work.share.give_back(work.cost)
        slot = slot_of(request.request)
        record = self._records.get(slot)
        if record is not None and record.number == request.request:
            if work.record is not None:
                self._records[slot] = work.record
            elif isinstance(reply, w.Message):
                record.keep(request, reply)
        self._say(request, reply)

    def _say(self, request: w.Request, message: w.Message | w.Outgoing | None) -> None:
        if self.responder is None or message is None:
            return
        try:
            self.responder.say(message, request.priority)
        except AkvError as error:  # it is larger than a message may be, say
            self.responder.say(refusal(request, error), request.priority)


def _too_old(record: Record) -> ProtocolError:
    return ProtocolError(f"request {record.number} came before, so its slot is no longer free for older ones")
