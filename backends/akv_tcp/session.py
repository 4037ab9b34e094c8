"""What a server keeps of one client across its connections: each request is carried out once, and answered."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from typing import Protocol

from akv import operations as ops
from akv.compression import Scheme
from akv.engine import Engine
from akv.errors import AkvError, InvalidArgument, ProtocolError
from akv.operations import Operation

from . import wire as w
from .brief import brief_answer, brief_operation
from .questions import REPEATABLE
from .requests import answer, bound, expected, operation, refusal
from .room import Share
from .slots import SLOTS, is_later, slot_of
from .transfers import TRANSFERS, Transfers

__all__ = ["Mouth", "Session", "charge_of"]

_FEW = 16


class Mouth(Protocol):
    """The connection on which a client is answered."""

    @property
    def heard(self) -> float:
        """The loop's time at which the client was last heard of, or now where nobody listens."""
        ...

    def say(self, message: w.Message, priority: int) -> None:
        """Send an answer, or drop it where the connection has ended. Raises InvalidArgument: it cannot be sent."""
        ...

    def withdraw(self, request: int) -> w.Withdrawn:
        """Stop sending an answer."""
        ...

    def displace(self) -> None:
        """The client has a new connection."""
        ...


class Session:
    """One client's requests on one store.

    Attributes:
        mouth: where answers go now; None while the client is away.
        away_since: the loop's time at which it went.
        last_heard: when it was heard of before that.
        crowd: how many requests are being carried out, without those that wait for versions.
        owed: bytes that their answers will bring, as far as is known.
        reads_only: whether only requests that change nothing are carried out.
    """

    reads_only = False

    def __init__(self, job: str, client: bytes, engine: Engine) -> None:
        self.place = (job, client)
        self.engine = engine
        self.line = engine.open_line()
        self.mouth: Mouth | None = None
        self.loop = asyncio.get_running_loop()
        self.away_since = self.last_heard = self.loop.time()
        self.owed = self.crowd = 0
        self._work: dict[int, _Work] = {}
        self._records: dict[int, _Record] = {}
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
        elif record is None or is_later(number, record.number):
            if slot:
                self._records[slot] = _Record(number)
            self._begin(_Work(self, request, cost, share))
        elif record.number == number and record.answer is None:
            self._begin(_Work(self, _once_more(request), cost, share))
        else:
            share.give_back(cost)
            self._say(request, record.answer if record.number == number else refusal(request, _too_old(record)))

    def answer(self, brief: w.Brief) -> bytes | None:
        """The answer to a request that is new and can be carried out at once; None: nothing has happened, `take` it."""
        record = self._records.get(brief.request % SLOTS)
        if record is None or brief.request <= record.number or self._refusal is not None or self.reads_only:
            return None
        try:
            op = None if self._scheme is not None else brief_operation(brief)
            # What has failed has changed nothing: on the long way it fails again, and more is said about it.
            if op is None or not self._attempt(op):
                return None
            record.renew(brief.request, op.result if op.writes else None)
            return brief_answer(op, brief.request)
        except Exception:  # of any kind, and once more on the long way
            return None

    def _attempt(self, op: Operation) -> bool:
        op.line = self.line
        return self.engine.attempt(op, w.INLINE - 1) and op.error is None

    def cancel(self, number: int) -> None:
        """The client no longer waits for this request: take it back, or have it end soon."""
        work = self._work.get(number)
        if work is not None and work.op is not None:
            self.engine.cancel(work.op, AkvError(f"{work.op} was cancelled"))
        elif self._has_changed_something(number):
            return  # which its answer has to say
        elif self.mouth is not None and self.mouth.withdraw(number) is w.Withdrawn.UNSENT:
            self.mouth.say(w.Error(number, w.code_of(AkvError()), "cancelled"), 0)

    def _has_changed_something(self, number: int) -> bool:
        record = self._records.get(slot_of(number))
        return record is not None and record.number == number and record.is_result

    def silence(self) -> float:
        """The seconds since the client was last heard of; from any thread."""
        mouth = self.mouth
        return self.loop.time() - (self.last_heard if mouth is None else mouth.heard)

    def attached(self) -> bool:
        """Whether the client has a connection; from any thread."""
        return self.mouth is not None

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
            if work.op is not None and (work.op.min_version or isinstance(work.op, ops.Barrier)):
                self.engine.cancel(work.op, error)

    def close(self) -> None:
        """Forget the client."""
        self.transfers.close()
        self.engine.close_line(self.line)

    # -- how it is done ---------------------------------------------------------------------------------------

    def _begin(self, work: _Work) -> None:
        request, engine = work.request, self.engine
        self._work[request.request] = work
        try:
            if self._refusal is not None:
                raise self._refusal
            if self.reads_only and not isinstance(request, REPEATABLE):
                raise InvalidArgument("a handle with role=reader changes nothing")
            work.op = op = self._operation(request, work.share)
            op.line = self.line
            done = engine.submit(op)
        except Exception as error:  # of any kind: what a client sends must not end the server
            self._answer(work, refusal(request, error))
            return
        if done or not engine.listen(op, work):
            self.finish(work)
            return
        if op.min_version:
            work.let_go()  # as in `held`: the version may come of what this client sends next
        else:
            work.crowds, work.owes = 1, expected(request, op, engine.backend)
            self.crowd, self.owed = self.crowd + 1, self.owed + work.owes
        if request.timeout is not None:
            work.timer = self.loop.call_later(request.timeout, engine.expire, op, request.timeout)

    def _operation(self, request: w.Request, share: Share) -> Operation:
        if type(request) in TRANSFERS:
            return self.transfers.operation(request, share.depot, self.attached)
        op = operation(request, self.line.number, self.engine.backend, self._scheme)
        bound(request, op, share.most)
        return op

    def finish(self, work: _Work) -> None:
        """An operation has ended."""
        op = work.op
        assert op is not None
        if isinstance(op, ops.SetCompression) and op.error is None:
            self._scheme = op.scheme
        op.listener = None  # it refers back to the request, and that to the memory of what was pushed
        if work.timer is not None:
            work.timer.cancel()
        try:
            message = self._outcome(work.request, op)
        except Exception as error:
            message = refusal(work.request, error)
        self._answer(work, message)

    def _outcome(self, request: w.Request, op: Operation) -> w.Message:
        if type(request) in TRANSFERS:
            return self.transfers.answer(request, op)
        return answer(request, op)

    def _answer(self, work: _Work, message: w.Message) -> None:
        request = work.request
        del self._work[request.request]
        self.crowd, self.owed = self.crowd - work.crowds, self.owed - work.owes
        work.share.give_back(work.cost)
        record = self._records.get(slot_of(request.request))
        if record is not None and record.number == request.request and _is_kept(request, message):
            record.keep(message)
        self._say(request, message)

    def _say(self, request: w.Request, message: w.Message | None) -> None:
        if self.mouth is None or message is None:
            return
        try:
            self.mouth.say(message, request.priority)
        except AkvError as error:  # it is larger than a message may be, say
            self.mouth.say(refusal(request, error), request.priority)


class _Record:
    """The newest request of one slot, and its answer, if that is kept.

    Of a push of many keys only the versions are kept: entries take 18 times as much, 9 MB for 65,536.
    """

    __slots__ = ("_answer", "_versions", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._answer: w.Message | None = None
        self._versions: Sequence[int] | None = None

    @property
    def answer(self) -> w.Message | None:
        """What is answered when the request comes again."""
        if self._versions is None:
            return self._answer
        return w.Result(self.number, tuple([w.Entry(None, version=version) for version in self._versions]))

    @property
    def is_result(self) -> bool:
        """Whether that is a Result."""
        return self._versions is not None or isinstance(self._answer, w.Result)

    def renew(self, number: int, version: int | None) -> None:
        """There is a newer request in the slot: a push that led to a version, or something that is not kept."""
        self.number = number
        self._answer, self._versions = None, None if version is None else (version,)

    def keep(self, message: w.Message) -> None:
        """Remember the answer."""
        if isinstance(message, w.Result) and len(message.entries) > _FEW:
            self._versions = array("Q", [entry.version for entry in message.entries])
        else:
            self._answer = message


class _Work:
    """A request that is being carried out; listens for the end of its operation, in whatever thread that comes."""

    __slots__ = ("cost", "crowds", "op", "owes", "request", "session", "share", "timer")

    def __init__(self, session: Session, request: w.Request, cost: int, share: Share) -> None:
        self.session = session
        self.request = request
        self.cost = cost
        self.share = share
        self.crowds = self.owes = 0
        self.op: Operation | None = None
        self.timer: asyncio.TimerHandle | None = None

    def let_go(self) -> None:
        """Count it no longer among what its connection holds."""
        cost, self.cost = self.cost, 0
        self.share.give_back(cost)

    def operation_done(self, op: Operation) -> None:
        """Go on, on the server's loop."""
        try:
            self.session.loop.call_soon_threadsafe(self.session.finish, self)
        except RuntimeError:
            return  # the loop is closed


def charge_of(request: w.Request) -> int:
    """The bytes that a request has taken from its connection's share."""
    return w.cost_of(request) if isinstance(request, (w.Batch, w.Read)) else 0


def _is_kept(request: w.Request, message: w.Message) -> bool:
    """Whether this answer is given again when the request comes again. Values are not kept, but read again."""
    return isinstance(message, w.Error) or not isinstance(request, (*REPEATABLE, w.PushPull))


def _once_more(request: w.Request) -> w.Request:
    """What is left to do of a request that was carried out, but whose answer was not kept."""
    if isinstance(request, w.PushPull):
        entries = tuple([w.Entry(entry.key) for entry in request.entries])
        return w.Pull(request.request, request.priority, request.timeout, False, entries)
    return request


def _too_old(record: _Record) -> ProtocolError:
    return ProtocolError(f"request {record.number} came before, so its slot is no longer free for older ones")
