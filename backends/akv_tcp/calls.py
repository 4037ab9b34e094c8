"""The requests of one client that have no answer yet: made, sent, sent again, taken back, and answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from akv.errors import AkvError, AkvTimeout, StoreClosed, WorkerLost
from akv.job.flows import waiting_for
from akv.operations import Delete, Flush, Operation, SetCompression
from akv.values.keys import Key

from . import wire as w
from .agreed import is_packed
from .call import Call
from .channel import Channel
from .packing import Packing, Quantiser
from .slots import Slots
from .small import small_request, take_answer
from .version_waits import Arrive, VersionWaits

__all__ = ["Calls"]

# Seconds in which a server may say whom a call has waited for whose time is over, or that a packed push was applied.
_LAST_WORD = 0.25
_WORKER_LOST = w.code_of(WorkerLost())

Done = Callable[[Operation], None]


class Calls:
    """See channel.ChannelUser. They live on the loop that they are made on.

    Args:
        make_channel: makes the channel to the server, whose user the calls are.
        arrive: see version_waits.VersionWaits.
    """

    def __init__(self, make_channel: Callable[[Calls], Channel], arrive: Arrive) -> None:
        self._over: AkvError | None = None
        self.channel = make_channel(self)
        self._loop = asyncio.get_running_loop()
        self._slots = Slots()
        self._quantiser = Quantiser()
        self._by_number: dict[int, Call] = {}  # in the order in which they were asked
        self._by_op: dict[Operation, Call] = {}
        self._arrive = arrive
        self._version_waits = VersionWaits(self.say, arrive, self._error)
        self._bye = 0

    # -- requests ---------------------------------------------------------------------------------------------

    def ask(self, op: Operation, done: Done) -> None:
        """Make a request of `op`, and send it as soon as there is a connection; `done` is called once, at its end."""
        call = Call(self._slots.take(), op, done, self.channel.where)
        self._by_number[call.number] = self._by_op[op] = call
        # A flush is over when what came before it is, whatever became of that.
        if (error := op.cancelled or self._over) is not None and not isinstance(op, Flush):
            self._end(call, _about(op, error))
            return
        if self._post(call):
            return
        try:
            if call.prepare(self._quantiser):
                if call.packing is None:
                    self._send(call)
                else:
                    call.packing.start(self._loop, partial(self._packed, call, call.packing))
            else:
                op.result = op.outcome([])
                self._end(call)
        except AkvError as error:
            self._end(call, error)

    def _post(self, call: Call) -> bool:
        """Send a request that is small, if there is a connection, and nothing is packed."""
        connection = self.channel.connection
        if connection is None or not connection.open or self._quantiser.scheme is not None:
            return False
        frame = small_request(call.number, call.op)
        if frame is not None:
            connection.post(frame, call.number, call.op.priority)
        return frame is not None

    def _packed(self, call: Call, packing: Packing) -> None:
        """More is packed; or it came to nothing."""
        if call.leaving:
            return
        if packing.error is not None:
            self._break_off(call)
            self._end(call, packing.error)
        elif not packing.begun:
            packing.begun = True
            self._send(call)
        elif (connection := self.channel.connection) is not None:
            connection.wake()

    def _send(self, call: Call) -> None:
        connection = self.channel.connection
        if connection is None or not connection.open or call.leaving or not call.ready:
            return
        try:
            request = call.request or call.prepared()
            call.lent = connection.send(request, call.op.priority) and call.packing is None
        except AkvError as error:
            self._end(call, error)

    def say(self, message: w.Message) -> None:
        """Send a message that has no answer, if there is a connection."""
        if (connection := self.channel.connection) is not None and connection.open:
            connection.send(message, w.URGENT if isinstance(message, w.Cancel) else 0)

    def cancel(self, op: Operation) -> bool:
        """Let go of an operation's memory, and have the server stop; False where no request is made of it."""
        call = self._by_op.get(op)
        if call is not None and not call.unpacking:
            self._withdraw(call)
        return call is not None

    def _withdraw(self, call: Call) -> None:
        how = self._break_off(call)
        if call.lent:
            call.leaving = True  # as soon as the transport has let go
        elif how is w.Withdrawn.SENT and call.packing is not None:
            # Whether it was applied, and its residual with it, the answer tells.
            self._loop.call_later(_LAST_WORD, self._leave_in_doubt, call)
        elif how is w.Withdrawn.SENT and isinstance(call.op.cancelled, AkvTimeout):
            call.leaving = True  # as soon as the server has said whom it has waited for
            self._loop.call_later(_LAST_WORD, self._end, call, call.op.cancelled)
        else:
            self._end(call, call.op.cancelled)

    def _leave_in_doubt(self, call: Call) -> None:
        """End a packed push of which nobody knows whether it was applied, unless its answer has come.

        Its residual is dropped, as if it was not. The old one is of pushes that were acknowledged: to lose that would
        be silent. If it was applied after all, some of the old one counts twice, and what it left out itself is lost;
        but of this push the caller is told.
        """
        if self._by_number.get(call.number) is not call:
            return
        call.leaving = True
        self._break_off(call)  # it may have been sent again since, on another connection
        self._end(call, call.op.cancelled)

    def _break_off(self, call: Call) -> w.Withdrawn:
        """Stop sending a request, or what comes in answer to it; UNSENT also where there is no connection."""
        connection = self.channel.connection
        if connection is None or not call.ready:
            return w.Withdrawn.UNSENT
        how = connection.withdraw(call.number)
        if how is w.Withdrawn.UNSENT:
            call.lent = False
        elif how is w.Withdrawn.SENT:
            if call.packing is None or call.leaving:
                connection.decoder.discard(call.number)
            self.say(w.Cancel(call.number))
        return how

    def _end(self, call: Call, error: BaseException | None = None) -> None:
        if call.unpacking or self._by_number.get(call.number) is not call:
            return
        if call.packing is not None and not call.packing.release(partial(self._end, call, error)):
            call.leaving = True  # as soon as the thread has let go
            return
        if error is None:
            self._learn(call.op)
        del self._by_number[call.number], self._by_op[call.op]
        self._slots.give_back(call.number)
        call.end(error)

    def _learn(self, op: Operation) -> None:
        if isinstance(op, SetCompression):
            self._quantiser.scheme = op.scheme
        elif isinstance(op, Delete):
            self._quantiser.drop(op.keys)

    # -- waits for versions -----------------------------------------------------------------------------------

    def look_out(self, op: Operation) -> None:
        """Have the server tell when the keys that `op` awaits have its `min_version`."""
        if self._over is not None:
            self._arrive(op, _about(op, self._over))
        else:
            self._version_waits.begin(op)

    def look_away(self, op: Operation) -> None:
        """Nobody waits for that any more."""
        self._version_waits.stop(op)

    def version(self, key: Key) -> int | None:
        """What somebody who waits for the key was told; from any thread."""
        return self._version_waits.version(key)

    # -- answers ----------------------------------------------------------------------------------------------

    def landing(self, message: w.Message, index: int, nbytes: int) -> w.Buffer:
        """Memory for a part of an answer."""
        call = self._by_number.get(message.request) if isinstance(message, w.Result) else None
        if call is None or call.leaving:
            raise StoreClosed("nobody waits for this answer any more")
        call.answered = True
        return call.landing(message, index, nbytes)  # type: ignore[arg-type]

    def received(self, event: w.Event) -> None:
        """An answer has come, or cannot be taken."""
        if type(event) is w.SmallMessage:
            if self._take_small(event):
                return
            event = event.message()
        if isinstance(event, (w.Result, w.Error)):
            self._answered(event)
            return
        match event:
            case w.Refused(request, error, _):
                call = self._by_number.get(request)
                if call is not None and not call.leaving:
                    self._end(call, error)
            case _:
                return  # parts of answers, and answers that the server does not go on with

    def _take_small(self, small: w.SmallMessage) -> bool:
        """An answer to a request that went out as a frame; False: it is to be taken the long way."""
        call = self._by_number.get(small.request)
        if call is None or call.request is not None or call.leaving:
            return False
        try:
            taken = take_answer(call.op, small)
        except Exception as error:  # of any kind, such as an `out` that was made read-only: it is this call's alone
            self._end(call, error)
            return True
        if taken:
            del self._by_number[call.number], self._by_op[call.op]
            self._slots.give_back(call.number)
            call.done(call.op)
        return taken

    def _answered(self, message: w.Result | w.Error) -> None:
        call = self._by_number.get(message.request)
        if message.request == self._bye:
            self.channel.close()
        if call is None:
            self._version_waits.answered(message)
        if call is None or call.unpacking:
            return  # it was cancelled
        call.answered |= isinstance(message, w.Result)
        if call.leaving:
            self._part(call, message)
        elif isinstance(message, w.Error):
            self._end(call, self._error(message))
        elif is_packed(message):
            call.unpacking = True
            self._quantiser.pool.submit(partial(self._unpack, call, message))
        else:
            self._take(call, message)

    def _part(self, call: Call, message: w.Result | w.Error) -> None:
        """The last that is heard of an operation that was cancelled."""
        error = call.op.cancelled
        if call.lent or not isinstance(error, AkvTimeout):
            return
        if isinstance(message, w.Error) and message.code == _WORKER_LOST:
            error = self._error(message)  # which says more, and is said once
        elif isinstance(message, w.Error):
            error = AkvTimeout(f"{error}{waiting_for(message.ranks, message.waited)}")
            error.ranks, error.waited = message.ranks, message.waited
        self._end(call, error)

    def _error(self, message: w.Error) -> AkvError:
        error = w.error_from(message.code, f"{self.channel.where}: {message.text}")
        error.applied = [entry.key for entry in message.entries if entry.key is not None]
        error.ranks, error.waited = message.ranks, message.waited
        return error

    def _unpack(self, call: Call, message: w.Result) -> None:
        """In a thread: restore packed values."""
        try:
            plain: w.Result | AkvError = call.unpack(message, self._quantiser.pull_codec)
        except AkvError as error:
            plain = error
        self._soon(call, plain)

    def _soon(self, call: Call, plain: w.Result | AkvError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._unpacked, call, plain)
        except RuntimeError:
            return  # the loop is closed, and everything with it

    def _unpacked(self, call: Call, plain: w.Result | AkvError) -> None:
        call.unpacking = False
        if isinstance(plain, AkvError):
            self._end(call, plain)
        else:
            self._take(call, plain)

    def _take(self, call: Call, message: w.Result) -> None:
        try:
            if not call.take(message):
                self._end(call)
                return
            self._ask_more(call)
        except Exception as error:  # of any kind, as above
            self._end(call, error)

    def _ask_more(self, call: Call) -> None:
        del self._by_number[call.number]
        self._slots.give_back(call.number)
        number = self._slots.take()
        self._by_number[number] = call
        call.go_on(number)
        self._send(call)

    def released(self, messages: list[w.Message]) -> None:
        """The memory of requests is free."""
        for message in messages:
            call = self._by_number.get(getattr(message, "request", 0))
            if call is not None:
                self._let_go(call)

    def _let_go(self, call: Call) -> None:
        call.lent = False
        if call.leaving and call.op.cancelled is not None and call.packing is None:
            self._end(call, call.op.cancelled)

    # -- the connection; see channel.ChannelUser -------------------------------------------------------------

    def cut_off(self) -> None:
        """Nothing is lent any more."""
        for call in list(self._by_number.values()):
            self._let_go(call)

    def restored(self) -> None:
        """Ask again, in the same order, whatever has no answer: the server knows what it has done already."""
        for call in list(self._by_number.values()):
            self._send(call)
        self._version_waits.restored()

    def lost(self, error: AkvError) -> None:
        """There will be no answers any more."""
        self._over = self._over or error
        for call in list(self._by_number.values()):
            self._end(call, _about(call.op, error))
        self._version_waits.give_up(error)

    def leave(self) -> None:
        """Say good-bye: the server forgets this client."""
        self._over = self._over or StoreClosed("the handle is closed")
        connection = self.channel.connection
        if connection is None or not connection.open:
            self.channel.close()
        else:
            self._bye = self._slots.take()  # its answer comes when it has
            self.channel.leave()
            connection.send(w.Bye(self._bye))


def _about(op: Operation, error: AkvError) -> AkvError:
    return error if error is op.cancelled else type(error)(f"{op}: {error}")
