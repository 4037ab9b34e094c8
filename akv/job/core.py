"""The rules of a job as a machine: events in (calls of methods), effects out (what they return, in order)."""

from __future__ import annotations

from typing import Any

from akv.errors import AkvError, ConnectionLost, ProtocolError
from akv.job.barriers import Barriers
from akv.job.clocks import FreeTrack
from akv.job.effects import Answer, Discard, Effect, Fail, Read, Ticket, Welcome
from akv.job.keys import Keys
from akv.job.members import Members
from akv.job.roster import Roster
from akv.job.rounds import SyncTrack
from akv.job.sessions import Role
from akv.job.settings import Limits, Settings, Wishes
from akv.job.track import Track
from akv.job.waiting import Desk, Waiter
from akv.values.keys import Key

__all__ = ["Job"]

_DEFAULTS = Limits()
_NO_WISHES = Wishes()


class Job:
    """One job: its members, sessions, keys and barriers; see the text of `akv.job`.

    Every event returns the effects to carry out, in order. `ticket` names a call: hashable, and different from those
    of all calls that still wait; it comes back in exactly one Answer, Fail, Read, Create or Welcome. `now` is the
    driver's clock in seconds, never going back; a `deadline` is a time on it. Nothing is raised: what is wrong with a
    call stands in its Fail.
    """

    def __init__(self, settings: Settings, now: float, limits: Limits = _DEFAULTS) -> None:
        self.settings = settings
        self.members = Members(settings, now)
        self._limits = limits
        self._desk = Desk(limits.waiting)
        self._barriers = Barriers(limits.barriers, self.members, self._desk)
        self._keys = Keys(self._new_track, self._barriers)
        self._roster = Roster(settings.on_worker_loss, limits, self.members, self._desk, self._keys)
        self._window = 2 if settings.consistency == "sync" else limits.ahead

    # -- members ----------------------------------------------------------------------------------------------

    def join(
        self,
        ticket: Ticket,
        session: bytes,
        now: float,
        *,
        role: Role = "worker",
        rank: int | None = None,
        wishes: Wishes = _NO_WISHES,
        resume: bool = False,
    ) -> list[Effect]:
        """A client is there, or is back after its connection broke (`resume`: it has sent numbered calls before)."""
        self._desk.now = now
        try:
            self.settings.check(wishes)
            resumed = self._roster.admit(session, role, rank, resume)
            seat = self._roster.member(session).rank
        except AkvError as error:
            return self._refused(ticket, error)
        return [Welcome(ticket, seat, self.members.number, self.settings, resumed), *self._desk.take()]

    def heard(self, session: bytes, now: float, silence: float = 0.0) -> list[Effect]:
        """A sign of life, `silence` seconds ago. Every other call of a session is one as well, for now.

        One of a lost worker brings it back.
        """
        self._desk.now = now
        self._roster.heard(session, now - silence)
        return self._desk.take()

    def is_lost(self, session: bytes) -> bool:
        """Whether the session is that of a worker who is lost."""
        return self._roster.is_lost(session)

    def leave(self, ticket: Ticket, session: bytes, now: float) -> list[Effect]:
        """The client ends its session by intention; the others go on without it."""
        self._desk.now = now
        self._roster.leave(session)
        self._desk.effects.append(Answer(ticket, 0))
        return self._desk.take()

    def lose(self, session: bytes, now: float) -> list[Effect]:
        """The driver knows that a worker is dead, before its lease is over."""
        self._desk.now = now
        self._roster.lose(session)
        return self._desk.take()

    # -- keys -------------------------------------------------------------------------------------------------

    def init(
        self, ticket: Ticket, session: bytes, key: Key, now: float, *, deadline: float | None = None
    ) -> list[Effect]:
        """Init of a worker: the first rank's counts, the others wait for it, and are then held against it."""
        self._desk.now = now
        try:
            waiter = Waiter("init", ticket, self._roster.worker(session), key, now, deadline)
            self._keys.track(key).init(waiter)
            self._keys.tidy(key)
        except AkvError as error:
            return self._refused(ticket, error, key)
        return self._desk.take()

    def created(self, key: Key, version: int, now: float) -> list[Effect]:
        """The key exists now, and has this version (also: from before the job, or because it was loaded)."""
        self._desk.now = now
        self._keys.track(key).created(version)
        return self._desk.take()

    def deleted(self, key: Key, now: float) -> list[Effect]:
        """The key is gone, and what was pushed to it and not applied; a fold under way is still to be reported."""
        self._desk.now = now
        self._keys.track(key).deleted()
        self._keys.tidy(key)
        return self._desk.take()

    def push(
        self,
        ticket: Ticket,
        session: bytes,
        key: Key,
        contribution: Any,
        now: float,
        *,
        number: int | None = None,
        deadline: float | None = None,
    ) -> list[Effect]:
        """A whole contribution of a worker; it comes back in one Fold or Discard.

        Args:
            number: counts the session's pushes on this key from 1 on, so that one that is sent twice is applied once;
                None where nothing is sent twice.
        """
        self._desk.now = now
        taken = False
        try:
            waiter = self._numbered("push", ticket, session, key, deadline, number, self._window)
            taken = waiter is not None and self._push(waiter, contribution)
        except AkvError as error:
            self._desk.effects.append(Fail(ticket, error, key))
        if not taken:
            self._desk.effects.append(Discard(key, contribution))
        return self._desk.take()

    def _push(self, waiter: Waiter, contribution: Any) -> bool:
        try:
            return self._keys.existing("push", waiter.key).push(waiter, contribution)
        except ProtocolError:
            raise  # the client may send this number again
        except AkvError as error:
            self._desk.fail(waiter, error)
            return False

    def ahead(self, session: bytes, key: Key) -> int:
        """The version that has to be there before this worker may push to the key again; 0: it may now.

        A driver that can hold calls asks this; a client on a network knows from the answers to its pushes.
        """
        known = self._roster.find(session)
        track = self._keys.tracks.get(key)
        return 0 if track is None or known is None or known.rank is None else track.ahead(known.rank)

    def refuse(
        self, ticket: Ticket, session: bytes, key: Key, error: AkvError, now: float, *, number: int | None = None
    ) -> list[Effect]:
        """The driver refuses a push: of a wrong shape, not finite, cut off, ... Its number is used up by that."""
        self._desk.now = now
        try:
            waiter = self._numbered("push", ticket, session, key, None, number, self._window)
            if waiter is not None:
                self._desk.fail(waiter, error)
        except AkvError as refusal:
            return self._refused(ticket, refusal, key)
        return self._desk.take()

    def committed(self, key: Key, version: int, now: float) -> list[Effect]:
        """The fold of a key is done, and gave this version."""
        self._desk.now = now
        self._keys.tracks[key].committed(version)
        return self._desk.take()

    def broken(self, key: Key, error: AkvError, now: float) -> list[Effect]:
        """The fold of a key has failed and changed nothing; those who pushed to it hear of it."""
        self._desk.now = now
        self._keys.tracks[key].broken(error)
        return self._desk.take()

    def pull(
        self,
        ticket: Ticket,
        session: bytes,
        key: Key,
        now: float,
        *,
        version: int = 0,
        deadline: float | None = None,
    ) -> list[Effect]:
        """A pull waits for the rounds that this session has pushed to, and for `version`; then it is to be read."""
        self._desk.now = now
        try:
            waiter = Waiter("pull", ticket, self._roster.member(session), key, now, deadline, version=version)
            if version or key in self._keys.tracks:
                self._keys.track(key).pull(waiter)
                self._keys.tidy(key)
            else:
                self._desk.effects.append(Read(ticket, key))
        except AkvError as error:
            return self._refused(ticket, error, key)
        return self._desk.take()

    def wait(
        self,
        ticket: Ticket,
        session: bytes,
        key: Key,
        version: int,
        now: float,
        *,
        deadline: float | None = None,
    ) -> list[Effect]:
        """Answer when the key has reached a version, also for a key that does not exist yet."""
        self._desk.now = now
        try:
            waiter = Waiter("wait", ticket, self._roster.member(session), key, now, deadline, version=version)
            track = self._keys.track(key)
            track.tell(waiter)
            track.wait(waiter)
            self._keys.tidy(key)
        except AkvError as error:
            return self._refused(ticket, error, key)
        return self._desk.take()

    # -- barriers, deadlines ----------------------------------------------------------------------------------

    def barrier(
        self,
        ticket: Ticket,
        session: bytes,
        name: str,
        now: float,
        *,
        number: int | None = None,
        deadline: float | None = None,
    ) -> list[Effect]:
        """A worker has come to a barrier. `number` counts the session's calls for this name, from 1 on."""
        self._desk.now = now
        try:
            waiter = self._numbered("barrier", ticket, session, name, deadline, number, 1)
            if waiter is not None:
                self._arrive(waiter, name)
        except AkvError as error:
            return self._refused(ticket, error, name)
        return self._desk.take()

    def _arrive(self, waiter: Waiter, name: str) -> None:
        try:
            self._barriers.arrive(waiter, name)
        except AkvError as error:
            self._desk.fail(waiter, error)

    def withdraw(self, ticket: Ticket, error: AkvError, now: float) -> list[Effect]:
        """Nobody waits for this call any more: it fails with `error`, unless it is too late to undo it."""
        self._desk.now = now
        self._withdraw(self._desk.waiting.get(ticket), error)
        return self._desk.take()

    def withdraw_all(self, error: AkvError, now: float) -> list[Effect]:
        """The driver stops: the same for all calls that wait."""
        self._desk.now = now
        for waiter in list(self._desk.waiting.values()):
            self._withdraw(waiter, error)
        return self._desk.take()

    def _withdraw(self, waiter: Waiter | None, error: AkvError) -> None:
        if waiter is None or waiter.cause is None:
            return
        ranks, waited = waiter.cause.missing(), self._desk.now - waiter.since
        if waiter.cause.withdraw(waiter):
            self._desk.fail(waiter, error, ranks, waited)
            self._keys.tidy(waiter.key)

    def detach(self, ticket: Ticket, now: float) -> list[Effect]:
        """The connection of this call is gone. What can be sent again is forgotten; a numbered call goes on."""
        self._desk.now = now
        waiter = self._desk.waiting.get(ticket)
        if waiter is not None and waiter.verb in ("init", "pull", "wait"):
            self._desk.leave(waiter)
            self._keys.tidy(waiter.key)
        return self._desk.take()

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: leases and deadlines that are over take effect."""
        self._desk.now = now
        self._roster.expire()
        for waiter in self._desk.due():
            if waiter.cause is not None:
                self._desk.time_out(waiter)
                self._keys.tidy(waiter.key)
        return self._desk.take()

    @property
    def wake_at(self) -> float | None:
        """When the next tick is due; None: not before another event."""
        times = [time for time in (self._desk.next_deadline, self.members.next_expiry) if time is not None]
        return min(times, default=None)

    # -- how it is done ---------------------------------------------------------------------------------------

    def _numbered(
        self,
        verb: str,
        ticket: Ticket,
        session: bytes,
        key: Key,
        deadline: float | None,
        number: int | None,
        window: int,
    ) -> Waiter | None:
        """A worker's call, to be carried out; None when it was sent before, and has been answered or will be."""
        worker, now = self._roster.worker(session), self._desk.now
        if number is None:
            return Waiter(verb, ticket, worker, key, now, deadline)
        ledger = worker.ledger(verb, key, window)
        before = ledger.look(number)
        if before is None:
            return Waiter(verb, ticket, worker, key, now, deadline, ledger, number)
        if isinstance(before, Waiter):
            self._attach(before, ticket)
        elif isinstance(before, Fail):
            self._desk.effects.append(Fail(ticket, before.error, before.key, before.ranks, before.waited))
        else:
            self._desk.effects.append(Answer(ticket, before))
        return None

    def _attach(self, waiter: Waiter, ticket: Ticket) -> None:
        if ticket != waiter.ticket:
            text = f"{waiter.verb} of {waiter.key!r} was sent again on another connection, which gets the answer"
            self._desk.effects.append(Fail(self._desk.attach(waiter, ticket), ConnectionLost(text), waiter.key))

    def _new_track(self, key: Key) -> Track:
        kind = SyncTrack if self.settings.consistency == "sync" else FreeTrack
        return kind(key, self.settings, self._limits, self.members, self._desk)

    def _refused(self, ticket: Ticket, error: AkvError, key: Key | None = None) -> list[Effect]:
        if key is not None:
            self._keys.tidy(key)
        self._desk.effects.append(Fail(ticket, error, key))
        return self._desk.take()

    def validate(self) -> None:
        """Check the invariants; tests call it after every event."""
        self._desk.validate()
        self._roster.validate()
        self._barriers.validate()
        self._keys.validate()
