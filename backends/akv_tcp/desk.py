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
from .asking import Asking
from .brief import question, take_answer
from .contact import Contact
from .packing import Packing, Quantiser
from .slots import Slots
from .vigils import Arrive, Vigils

__all__ = ["Desk"]

# Seconds in which a server may say whom a call has waited for whose time is over, or that a packed push was applied.
_LAST_WORD = 0.25
_WORKER_LOST = w.code_of(WorkerLost())

Done = Callable[[Operation], None]


class Desk:
    """See contact.Guest. Lives on the loop that it is made on.

    Args:
        make_contact: makes the contact with the server, whose guest the desk is.
        arrive: see vigils.Vigils.
    """

    def __init__(self, make_contact: Callable[[Desk], Contact], arrive: Arrive) -> None:
        self._over: AkvError | None = None
        self.contact = make_contact(self)
        self._loop = asyncio.get_running_loop()
        self._slots = Slots()
        self._quantiser = Quantiser()
        self._asked: dict[int, Asking] = {}  # in the order in which they were asked
        self._by_op: dict[Operation, Asking] = {}
        self._arrive = arrive
        self._vigils = Vigils(self.say, arrive, self._error)
        self._bye = 0

    # -- requests ---------------------------------------------------------------------------------------------

    def ask(self, op: Operation, done: Done) -> None:
        """Make a request of `op`, and send it as soon as there is a connection; `done` is called once, at its end."""
        asking = Asking(self._slots.take(), op, done, self.contact.where)
        self._asked[asking.number] = self._by_op[op] = asking
        # A flush is over when what came before it is, whatever became of that.
        if (error := op.cancelled or self._over) is not None and not isinstance(op, Flush):
            self._end(asking, _about(op, error))
            return
        if self._post(asking):
            return
        try:
            if asking.prepare(self._quantiser):
                if asking.packing is None:
                    self._send(asking)
                else:
                    asking.packing.start(self._loop, partial(self._packed, asking, asking.packing))
            else:
                op.result = op.outcome([])
                self._end(asking)
        except AkvError as error:
            self._end(asking, error)

    def _post(self, asking: Asking) -> bool:
        """Send a request that is brief, if there is a connection, and nothing is packed."""
        connection = self.contact.connection
        if connection is None or not connection.open or self._quantiser.scheme is not None:
            return False
        frame = question(asking.number, asking.op)
        if frame is not None:
            connection.post(frame, asking.number, asking.op.priority)
        return frame is not None

    def _packed(self, asking: Asking, packing: Packing) -> None:
        """More is packed; or it came to nothing."""
        if asking.leaving:
            return
        if packing.error is not None:
            self._break_off(asking)
            self._end(asking, packing.error)
        elif not packing.begun:
            packing.begun = True
            self._send(asking)
        elif (connection := self.contact.connection) is not None:
            connection.wake()

    def _send(self, asking: Asking) -> None:
        connection = self.contact.connection
        if connection is None or not connection.open or asking.leaving or not asking.ready:
            return
        try:
            request = asking.request or asking.prepared()
            asking.lent = connection.send(request, asking.op.priority) and asking.packing is None
        except AkvError as error:
            self._end(asking, error)

    def say(self, message: w.Message) -> None:
        """Send a message that has no answer, if there is a connection."""
        if (connection := self.contact.connection) is not None and connection.open:
            connection.send(message, w.URGENT if isinstance(message, w.Cancel) else 0)

    def cancel(self, op: Operation) -> bool:
        """Let go of an operation's memory, and have the server stop; False where no request is made of it."""
        asking = self._by_op.get(op)
        if asking is not None and not asking.unpacking:
            self._withdraw(asking)
        return asking is not None

    def _withdraw(self, asking: Asking) -> None:
        how = self._break_off(asking)
        if asking.lent:
            asking.leaving = True  # as soon as the transport has let go
        elif how is w.Withdrawn.SENT and asking.packing is not None:
            # Whether it was applied, and its residual with it, the answer tells.
            self._loop.call_later(_LAST_WORD, self._leave_in_doubt, asking)
        elif how is w.Withdrawn.SENT and isinstance(asking.op.cancelled, AkvTimeout):
            asking.leaving = True  # as soon as the server has said whom it has waited for
            self._loop.call_later(_LAST_WORD, self._end, asking, asking.op.cancelled)
        else:
            self._end(asking, asking.op.cancelled)

    def _leave_in_doubt(self, asking: Asking) -> None:
        """End a packed push of which nobody knows whether it was applied, unless its answer has come.

        Its residual is dropped, as if it was not. The old one is of pushes that were acknowledged: to lose that would
        be silent. If it was applied after all, some of the old one counts twice, and what it left out itself is lost;
        but of this push the caller is told.
        """
        if self._asked.get(asking.number) is not asking:
            return
        asking.leaving = True
        self._break_off(asking)  # it may have been sent again since, on another connection
        self._end(asking, asking.op.cancelled)

    def _break_off(self, asking: Asking) -> w.Withdrawn:
        """Stop sending a request, or what comes in answer to it; UNSENT also where there is no connection."""
        connection = self.contact.connection
        if connection is None or not asking.ready:
            return w.Withdrawn.UNSENT
        how = connection.withdraw(asking.number)
        if how is w.Withdrawn.UNSENT:
            asking.lent = False
        elif how is w.Withdrawn.SENT:
            if asking.packing is None or asking.leaving:
                connection.decoder.discard(asking.number)
            self.say(w.Cancel(asking.number))
        return how

    def _end(self, asking: Asking, error: BaseException | None = None) -> None:
        if asking.unpacking or self._asked.get(asking.number) is not asking:
            return
        if asking.packing is not None and not asking.packing.release(partial(self._end, asking, error)):
            asking.leaving = True  # as soon as the thread has let go
            return
        if error is None:
            self._learn(asking.op)
        del self._asked[asking.number], self._by_op[asking.op]
        self._slots.give_back(asking.number)
        asking.end(error)

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
            self._vigils.begin(op)

    def look_away(self, op: Operation) -> None:
        """Nobody waits for that any more."""
        self._vigils.stop(op)

    def version(self, key: Key) -> int | None:
        """What somebody who waits for the key was told; from any thread."""
        return self._vigils.version(key)

    # -- answers ----------------------------------------------------------------------------------------------

    def landing(self, message: w.Message, index: int, nbytes: int) -> w.Buffer:
        """Memory for a part of an answer."""
        asking = self._asked.get(message.request) if isinstance(message, w.Result) else None
        if asking is None or asking.leaving:
            raise StoreClosed("nobody waits for this answer any more")
        asking.answered = True
        return asking.landing(message, index, nbytes)  # type: ignore[arg-type]

    def received(self, event: w.Event) -> None:
        """An answer has come, or cannot be taken."""
        if type(event) is w.Brief:
            if self._take_brief(event):
                return
            event = event.message()
        if isinstance(event, (w.Result, w.Error)):
            self._answered(event)
            return
        match event:
            case w.Refused(request, error, _):
                asking = self._asked.get(request)
                if asking is not None and not asking.leaving:
                    self._end(asking, error)
            case _:
                return  # slices on their way, and answers that the server does not go on with

    def _take_brief(self, brief: w.Brief) -> bool:
        """An answer to a request that went out as a frame; False: it is to be taken the long way."""
        asking = self._asked.get(brief.request)
        if asking is None or asking.request is not None or asking.leaving:
            return False
        try:
            taken = take_answer(asking.op, brief)
        except Exception as error:  # of any kind, such as an `out` that was made read-only: it is this call's alone
            self._end(asking, error)
            return True
        if taken:
            del self._asked[asking.number], self._by_op[asking.op]
            self._slots.give_back(asking.number)
            asking.done(asking.op)
        return taken

    def _answered(self, message: w.Result | w.Error) -> None:
        asking = self._asked.get(message.request)
        if message.request == self._bye:
            self.contact.close()
        if asking is None:
            self._vigils.answered(message)
        if asking is None or asking.unpacking:
            return  # it was cancelled
        asking.answered |= isinstance(message, w.Result)
        if asking.leaving:
            self._part(asking, message)
        elif isinstance(message, w.Error):
            self._end(asking, self._error(message))
        elif is_packed(message):
            asking.unpacking = True
            self._quantiser.crew.submit(partial(self._unpack, asking, message))
        else:
            self._take(asking, message)

    def _part(self, asking: Asking, message: w.Result | w.Error) -> None:
        """The last that is heard of an operation that was cancelled."""
        error = asking.op.cancelled
        if asking.lent or not isinstance(error, AkvTimeout):
            return
        if isinstance(message, w.Error) and message.code == _WORKER_LOST:
            error = self._error(message)  # which says more, and is said once
        elif isinstance(message, w.Error):
            error = AkvTimeout(f"{error}{waiting_for(message.ranks, message.waited)}")
            error.ranks, error.waited = message.ranks, message.waited
        self._end(asking, error)

    def _error(self, message: w.Error) -> AkvError:
        error = w.error_from(message.code, f"{self.contact.where}: {message.text}")
        error.applied = [entry.key for entry in message.entries if entry.key is not None]
        error.ranks, error.waited = message.ranks, message.waited
        return error

    def _unpack(self, asking: Asking, message: w.Result) -> None:
        """In a thread: restore packed values."""
        try:
            plain: w.Result | AkvError = asking.unpack(message, self._quantiser.pull_codec)
        except AkvError as error:
            plain = error
        self._soon(asking, plain)

    def _soon(self, asking: Asking, plain: w.Result | AkvError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._unpacked, asking, plain)
        except RuntimeError:
            return  # the loop is closed, and everything with it

    def _unpacked(self, asking: Asking, plain: w.Result | AkvError) -> None:
        asking.unpacking = False
        if isinstance(plain, AkvError):
            self._end(asking, plain)
        else:
            self._take(asking, plain)

    def _take(self, asking: Asking, message: w.Result) -> None:
        try:
            if not asking.take(message):
                self._end(asking)
                return
            self._ask_more(asking)
        except Exception as error:  # of any kind, as above
            self._end(asking, error)

    def _ask_more(self, asking: Asking) -> None:
        del self._asked[asking.number]
        self._slots.give_back(asking.number)
        number = self._slots.take()
        self._asked[number] = asking
        asking.go_on(number)
        self._send(asking)

    def released(self, messages: list[w.Message]) -> None:
        """The memory of requests is free."""
        for message in messages:
            asking = self._asked.get(getattr(message, "request", 0))
            if asking is not None:
                self._let_go(asking)

    def _let_go(self, asking: Asking) -> None:
        asking.lent = False
        if asking.leaving and asking.op.cancelled is not None and asking.packing is None:
            self._end(asking, asking.op.cancelled)

    # -- the connection; see contact.Guest --------------------------------------------------------------------

    def cut_off(self) -> None:
        """Nothing is lent any more."""
        for asking in list(self._asked.values()):
            self._let_go(asking)

    def restored(self) -> None:
        """Ask again, in the same order, whatever has no answer: the server knows what it has done already."""
        for asking in list(self._asked.values()):
            self._send(asking)
        self._vigils.restored()

    def lost(self, error: AkvError) -> None:
        """There will be no answers any more."""
        self._over = self._over or error
        for asking in list(self._asked.values()):
            self._end(asking, _about(asking.op, error))
        self._vigils.give_up(error)

    def leave(self) -> None:
        """Say good-bye: the server forgets this client."""
        self._over = self._over or StoreClosed("the handle is closed")
        connection = self.contact.connection
        if connection is None or not connection.open:
            self.contact.close()
        else:
            self._bye = self._slots.take()  # its answer comes when it has
            self.contact.leave()
            connection.send(w.Bye(self._bye))


def _about(op: Operation, error: AkvError) -> AkvError:
    return error if error is op.cancelled else type(error)(f"{op}: {error}")
