"""A driver for akv.job in tests: it does what a server does, and keeps the books on tickets and contributions."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from typing import Any, NamedTuple

from akv.errors import AkvTimeout
from akv.job import Answer, Create, Discard, Effect, Fail, Fold, Job, Limits, Read, Settings, Welcome


class Part(NamedTuple):
    """A contribution: the serial number makes each different."""

    who: str
    key: Any
    serial: int


class Reading(NamedTuple):
    """What a pull saw: a version, and all contributions that were applied by then."""

    version: int
    parts: frozenset[Part]


class Driver:
    """Calls are named by tickets 1, 2, 3, ...; `outcome` says what became of each.

    Folds are carried out when `fold` says so, or at once with `eager`.
    """

    def __init__(self, job: Job | None = None, *, eager: bool = True, **settings: Any) -> None:
        self.job = job or Job(Settings(**settings), 0.0, Limits(sessions=8, waiting=64, barriers=4, ahead=4))
        self.now = 0.0
        self.eager = eager
        self.outcomes: dict[int, Any] = {}
        self.calls: set[int] = set()
        self.ranks: dict[str, int | None] = {}
        self.versions: Counter[Any] = Counter()
        self.applied: dict[Any, list[tuple[Part, ...]]] = {}
        self.folding: dict[Any, Fold] = {}
        self.ended: Counter[Part] = Counter()
        self.discarded: set[Part] = set()
        self.given: list[Part] = []
        self._tickets = itertools.count(1)
        self._serials = itertools.count(1)
        self._effects: deque[Effect] = deque()

    # -- events -----------------------------------------------------------------------------------------------

    def join(self, who: str, **options: Any) -> int:
        ticket = self._call(self.job.join, session(who), self.now, **options)
        if isinstance(welcome := self.outcomes[ticket], Welcome):
            self.ranks[who] = welcome.rank
        return ticket

    def leave(self, who: str) -> int:
        return self._call(self.job.leave, session(who), self.now)

    def lose(self, who: str) -> None:
        self._take(self.job.lose(session(who), self.now))

    def init(self, who: str, key: Any = "w") -> int:
        return self._call(self.job.init, session(who), key, self.now)

    def push(self, who: str, key: Any = "w", part: Part | None = None) -> int:
        part = part or Part(who, key, next(self._serials))
        self.given.append(part)
        return self._call(self.job.push, session(who), key, part, self.now)

    def pull(self, who: str, key: Any = "w") -> int:
        return self._call(self.job.pull, session(who), key, self.now)

    def wait(self, who: str, version: int, key: Any = "w") -> int:
        return self._call(self.job.wait, session(who), key, version, self.now)

    def barrier(self, who: str, name: str = "") -> int:
        return self._call(self.job.barrier, session(who), name, self.now)

    def withdraw(self, ticket: int) -> AkvTimeout:
        """Give a call up; the error is what it fails with, unless it is too late."""
        error = AkvTimeout(f"call {ticket}")
        self._take(self.job.withdraw(ticket, error, self.now))
        return error

    def tick(self, seconds: float, *alive: str) -> None:
        """Time passes; those that are alive give a sign of life at its end."""
        self.now += seconds
        for who in alive:
            self._take(self.job.heard(session(who), self.now))
        self._take(self.job.tick(self.now))

    def create(self, key: Any = "w") -> None:
        """The key exists from before the job."""
        self._created(key)
        self._run()

    def delete(self, key: Any = "w") -> None:
        self._take(self.job.deleted(key, self.now))

    def fold(self, key: Any = "w") -> None:
        """The fold that is under way is done."""
        fold = self.folding.pop(key)
        self.versions[key] += 1
        self.applied.setdefault(key, []).append(fold.contributions)
        self._take(self.job.committed(key, self.versions[key], self.now))

    def break_fold(self, error: Any, key: Any = "w") -> None:
        """The fold that is under way fails."""
        self.folding.pop(key)
        self._take(self.job.broken(key, error, self.now))

    # -- outcomes ---------------------------------------------------------------------------------------------

    def outcome(self, ticket: int) -> Any:
        """A version, a Reading, a Welcome or an error; None while it waits."""
        return self.outcomes.get(ticket)

    @property
    def lost(self) -> list[str]:
        """The workers who are lost."""
        return [who for who in self.ranks if self.job.is_lost(session(who))]

    def failure(self, ticket: int) -> Fail:
        failure = self.outcomes[ticket]
        assert isinstance(failure, Fail)
        return failure

    def rounds(self, key: Any = "w") -> list[list[str]]:
        """Who has contributed to the rounds that were applied, in the order of the sum."""
        return [[part.who for part in round_] for round_ in self.applied.get(key, [])]

    # -- effects ----------------------------------------------------------------------------------------------

    def _call(self, event: Any, *arguments: Any, **options: Any) -> int:
        ticket = next(self._tickets)
        self.calls.add(ticket)
        self._take(event(ticket, *arguments, **options))
        return ticket

    def _take(self, effects: list[Effect]) -> None:
        self.job.validate()
        self._effects.extend(effects)
        self._run()

    def _run(self) -> None:
        while self._effects:
            self._carry_out(self._effects.popleft())
        if self.eager and self.folding:
            self.fold(next(iter(self.folding)))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Fold():
                assert effect.key not in self.folding, "two folds of one key at a time"
                ranks = [self.ranks[part.who] for part in effect.contributions]
                assert ranks == sorted(set(ranks))
                self.folding[effect.key] = effect
                self.ended.update(effect.contributions)
            case Discard():
                self.ended[effect.contribution] += 1
                self.discarded.add(effect.contribution)
            case Create():
                self._end(effect.ticket, "create")
                if not self.versions[effect.key]:
                    self._created(effect.key)
            case Read():
                parts = frozenset(itertools.chain.from_iterable(self.applied.get(effect.key, [])))
                self._end(effect.ticket, Reading(self.versions[effect.key], parts))
            case Answer():
                self._end(effect.ticket, effect.version)
            case Fail() | Welcome():
                self._end(effect.ticket, effect)

    def _created(self, key: Any) -> None:
        self.versions[key] = 1
        self._effects.extend(self.job.created(key, 1, self.now))

    def _end(self, ticket: Any, outcome: Any) -> None:
        assert ticket in self.calls, "an answer to nothing"
        assert ticket not in self.outcomes, "a call was answered twice"
        self.outcomes[ticket] = outcome

    def audit(self) -> None:
        """Every contribution has ended at most once; those that have not are with the job."""
        assert all(count == 1 for count in self.ended.values())


def session(who: str) -> bytes:
    """The 128-bit id of a client."""
    return who.encode().ljust(16, b"\0")
