"""The rules of a job as a machine: events in (calls of methods), effects out (what they return, in order)."""

from __future__ import annotations

from typing import Any

from akv.errors import AkvError
from akv.job.barriers import Barriers
from akv.job.clocks import FreeTrack
from akv.job.effects import Answer, Discard, Effect, Fail, Read, Ticket, Welcome
from akv.job.keys import Keys
from akv.job.members import Members
from akv.job.roster import Roster
from akv.job.rounds import SyncTrack
from akv.job.sessions import Role
from akv.job.settings import Limits, Settings
from akv.job.track import Track
from akv.job.waiting import Waiter, WaitList
from akv.values.keys import Key

__all__ = ["Job"]

_DEFAULTS = Limits()


class Job:
    """One job: its members, sessions, keys and barriers; see the text of `akv.job`.

    Every event returns the effects to carry out, in order. `ticket` names a call: hashable, and different from those
    of all calls that still wait; it comes back in exactly one Answer, Fail, Read, Create or Welcome. `now` is the
    driver's clock in seconds, never going back. Nothing is raised: what is wrong with a call stands in its Fail.
    """

    def __init__(self, settings: Settings, now: float, limits: Limits = _DEFAULTS) -> None:
        self.settings = settings
        self.members = Members(settings, now)
        self._limits = limits
        self._waitlist = WaitList(limits.waiting)
        self._barriers = Barriers(limits.barriers, self.members, self._waitlist)
        self._keys = Keys(self._new_track, self._barriers)
        self._roster = Roster(settings.on_worker_loss, limits, self.members, self._waitlist, self._keys)

    # -- members ----------------------------------------------------------------------------------------------

    def join(
        self,
        ticket: Ticket,
        session: bytes,
        now: float,
        *,
        role: Role = "worker",
        rank: int | None = None,
    ) -> list[Effect]:
        """A client is there, or is back."""
        self._waitlist.now = now
        try:
            self._roster.admit(session, role, rank)
            seat = self._roster.member(session).rank
        except AkvError as error:
            return self._refused(ticket, error)
        return [Welcome(ticket, seat), *self._waitlist.take()]

    def heard(self, session: bytes, now: float, silence: float = 0.0) -> list[Effect]:
        """A sign of life, `silence` seconds ago. Every other call of a session is one as well, for now.

        One of a lost worker brings it back.
        """
        self._waitlist.now = now
        self._roster.heard(session, now - silence)
        return self._waitlist.take()

    def is_lost(self, session: bytes) -> bool:
        """Whether the session is that of a worker who is lost."""
        return self._roster.is_lost(session)

    def leave(self, ticket: Ticket, session: bytes, now: float) -> list[Effect]:
        """The client ends its session by intention; the others go on without it."""
        self._waitlist.now = now
        self._roster.leave(session)
        self._waitlist.effects.append(Answer(ticket, 0))
        return self._waitlist.take()

    def lose(self, session: bytes, now: float) -> list[Effect]:
        """The driver knows that a worker is dead, before its lease is over."""
        self._waitlist.now = now
        self._roster.lose(session)
        return self._waitlist.take()

    # -- keys -------------------------------------------------------------------------------------------------

    def init(self, ticket: Ticket, session: bytes, key: Key, now: float) -> list[Effect]:
        """Init of a worker: the first rank's counts, the others wait for it, and are then held against it."""
        self._waitlist.now = now
        try:
            waiter = Waiter("init", ticket, self._roster.worker(session), key, now)
            self._keys.track(key).init(waiter)
            self._keys.tidy(key)
        except AkvError as error:
            return self._refused(ticket, error, key)
        return self._waitlist.take()

    def created(self, key: Key, version: int, now: float) -> list[Effect]:
        """The key exists now, and has this version (also: from before the job, or because it was loaded)."""
        self._waitlist.now = now
        self._keys.track(key).created(version)
        return self._waitlist.take()

    def deleted(self, key: Key, now: float) -> list[Effect]:
        """The key is gone, and what was pushed to it and not applied; a fold under way is still to be reported."""
        self._waitlist.now = now
        self._keys.track(key).deleted()
        self._keys.tidy(key)
        return self._waitlist.take()

    def push(self, ticket: Ticket, session: bytes, key: Key, contribution: Any, now: float) -> list[Effect]:
        """A whole contribution of a worker; it comes back in one Fold or Discard."""
        self._waitlist.now = now
        taken = False
        try:
            waiter = Waiter("push", ticket, self._roster.worker(session), key, now)
            taken = self._keys.existing(key).push(waiter, contribution)
        except AkvError as error:
            self._waitlist.effects.append(Fail(ticket, error))
        if not taken:
            self._waitlist.effects.append(Discard(key, contribution))
        return self._waitlist.take()

    def ahead(self, session: bytes, key: Key) -> int:
        """The version that has to be there before this worker may push to the key again; 0: it may now."""
        known = self._roster.find(session)
        track = self._keys.tracks.get(key)
        return 0 if track is None or known is None or known.rank is None else track.ahead(known.rank)

    def committed(self, key: Key, version: int, now: float) -> list[Effect]:
        """The fold of a key is done, and gave this version."""
        self._waitlist.now = now
        self._keys.tracks[key].committed(version)
        return self._waitlist.take()

    def broken(self, key: Key, error: AkvError, now: float) -> list[Effect]:
        """The fold of a key has failed and changed nothing; those who pushed to it hear of it."""
        self._waitlist.now = now
        self._keys.tracks[key].broken(error)
        return self._waitlist.take()

    def pull(self, ticket: Ticket, session: bytes, key: Key, now: float) -> list[Effect]:
        """A pull waits for the rounds that this session has pushed to; then it is to be read."""
        self._waitlist.now = now
        try:
            waiter = Waiter("pull", ticket, self._roster.member(session), key, now)
            if (track := self._keys.tracks.get(key)) is not None:
                track.pull(waiter)
                self._keys.tidy(key)
            else:
                self._waitlist.effects.append(Read(ticket, key))
        except AkvError as error:
            return self._refused(ticket, error, key)
        return self._waitlist.take()

    def wait(self, ticket: Ticket, session: bytes, key: Key, version: int, now: float) -> list[Effect]:
        """Answer when the key has reached a version, also for a key that does not exist yet."""
        self._waitlist.now = now
        try:
            waiter = Waiter("wait", ticket, self._roster.member(session), key, now, version)
            track = self._keys.track(key)
            track.raise_untold(waiter)
            track.wait(waiter)
            self._keys.tidy(key)
        except AkvError as error:
            return self._refused(ticket, error, key)
        return self._waitlist.take()

    # -- barriers, and the end of waiting ---------------------------------------------------------------------

    def barrier(self, ticket: Ticket, session: bytes, name: str, now: float) -> list[Effect]:
        """A worker has come to a barrier."""
        self._waitlist.now = now
        try:
            self._barriers.arrive(Waiter("barrier", ticket, self._roster.worker(session), name, now))
        except AkvError as error:
            return self._refused(ticket, error)
        return self._waitlist.take()

    def withdraw(self, ticket: Ticket, error: AkvError, now: float) -> list[Effect]:
        """Nobody waits for this call any more: it fails with `error`, unless it is too late to undo it."""
        self._waitlist.now = now
        self._withdraw(self._waitlist.waiting.get(ticket), error)
        return self._waitlist.take()

    def withdraw_all(self, error: AkvError, now: float) -> list[Effect]:
        """The driver stops: the same for all calls that wait."""
        self._waitlist.now = now
        for waiter in list(self._waitlist.waiting.values()):
            self._withdraw(waiter, error)
        return self._waitlist.take()

    def _withdraw(self, waiter: Waiter | None, error: AkvError) -> None:
        if waiter is None or waiter.cause is None:
            return
        ranks, waited = waiter.cause.missing(), self._waitlist.now - waiter.since
        if waiter.cause.withdraw(waiter):
            self._waitlist.fail(waiter, error, ranks, waited)
            self._keys.tidy(waiter.key)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: leases that are over take effect."""
        self._waitlist.now = now
        self._roster.expire()
        return self._waitlist.take()

    # -- how it is done ---------------------------------------------------------------------------------------

    def _new_track(self, key: Key) -> Track:
        kind = SyncTrack if self.settings.consistency == "sync" else FreeTrack
        return kind(key, self.settings, self._limits, self.members, self._waitlist)

    def _refused(self, ticket: Ticket, error: AkvError, key: Key | None = None) -> list[Effect]:
        if key is not None:
            self._keys.tidy(key)
        self._waitlist.effects.append(Fail(ticket, error))
        return self._waitlist.take()

    def validate(self) -> None:
        """Check the invariants; tests call it after every event."""
        self._waitlist.validate()
        self._roster.validate()
        self._barriers.validate()
        self._keys.validate()
