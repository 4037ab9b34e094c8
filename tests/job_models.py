"""akv.job against models that are flat and slow: who gave what for which version, recomputed from scratch."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from job_cases import Driver, Part, Reading

from akv.errors import KeyNotFound, ProtocolError, WorkerLost
from akv.job import Fail, Job, Limits, Settings

NAMES = "abcd"
KEYS = ("x", "y")
AHEAD = 3
names, keys = st.sampled_from(NAMES), st.sampled_from(KEYS)


class Machine(RuleBasedStateMachine):
    """What both models share: workers that come and go, and calls that are given up."""

    consistencies: ClassVar[list[dict[str, Any]]]

    def __init__(self, job_class: type[Job] = Job) -> None:
        super().__init__()
        self.job_class = job_class

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.policy = data.draw(st.sampled_from(["abort", "drop", "wait"]))
        self.rules = data.draw(st.sampled_from(self.consistencies))
        settings = Settings(on_worker_loss=self.policy, worker_timeout=10.0, **self.rules)
        self.driver = Driver(self.job_class(settings, 0.0, Limits(ahead=AHEAD)), eager=False)
        self.members: dict[str, str] = {}  # name: "live" or "lost"
        self.pulls: dict[int, Any] = {}  # ticket: what it waits for
        self.untold: set[tuple[str, str]] = set()
        for key in KEYS:
            self.driver.create(key)
        self.begin()
        for name in NAMES[:2]:
            self.come(name)

    def counted(self) -> set[str]:
        return {name for name, state in self.members.items() if state == "live" or self.policy != "drop"}

    def lost(self) -> set[str]:
        return {name for name, state in self.members.items() if state == "lost" and self.policy == "abort"}

    @precondition(lambda self: len(self.members) < len(NAMES))
    @rule(name=names)
    def come(self, name: str) -> None:
        if name not in self.members:
            welcome = self.driver.outcome(self.driver.join(name, rank=NAMES.index(name)))
            assert welcome.rank == NAMES.index(name)
            late = name not in self.counted()
            self.members[name] = "live"
            self.untold -= {(name, key) for key in KEYS}
            self.came(name, late)

    @rule(order=st.lists(st.tuples(names, keys), min_size=4, max_size=12))
    def work(self, order: list[tuple[str, str]]) -> None:
        for name, key in order:
            self.push(name, key)
            self.compare()

    @rule(key=keys)
    def finish(self, key: str) -> None:
        while key in self.driver.folding:
            self.fold(key)
            self.compare()

    @rule(name=names)
    def leave(self, name: str) -> None:
        # The last one would empty the job, which is a test of its own.
        if self.members.get(name) == "live" and sum(state == "live" for state in self.members.values()) > 1:
            self.driver.leave(name)
            del self.members[name]
            self.went(name)

    @rule(name=names)
    def lose(self, name: str) -> None:
        if self.members.get(name) == "live" and sum(state == "live" for state in self.members.values()) > 1:
            self.driver.lose(name)
            self.members[name] = "lost"
            if self.policy == "drop":
                self.went(name)
            elif self.policy == "abort":
                self.missed(name)

    def alive(self, name: str) -> bool:
        """A call of a lost worker brings it back."""
        if self.members.get(name) == "lost":
            late = name not in self.counted()
            self.members[name] = "live"
            self.came(name, late)
        return name in self.members

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A pull that is withdrawn harms nobody."""
        if self.pulls:
            ticket = data.draw(st.sampled_from(sorted(self.pulls)))
            assert self.withdrawn(ticket)
            del self.pulls[ticket]

    def withdrawn(self, ticket: int) -> bool:
        error = self.driver.withdraw(ticket)
        outcome = self.driver.outcome(ticket)
        return isinstance(outcome, Fail) and outcome.error is error

    @invariant()
    def books_are_in_order(self) -> None:
        if hasattr(self, "driver"):
            self.driver.audit()
            self.compare()

    def fails(self, ticket: int, error: type[Exception]) -> bool:
        outcome = self.driver.outcome(ticket)
        return isinstance(outcome, Fail) and isinstance(outcome.error, error)

    def push(self, name: str, key: str) -> None: ...

    def fold(self, key: str) -> None: ...

    def begin(self) -> None: ...

    def came(self, name: str, late: bool) -> None: ...

    def went(self, name: str) -> None: ...

    def missed(self, name: str) -> None: ...

    def compare(self) -> None: ...


class SyncMachine(Machine):
    """Per key: for the two versions to come, who has given what; and whom the first of them needs."""

    consistencies: ClassVar = [{}]

    def begin(self) -> None:
        self.version = dict.fromkeys(KEYS, 1)
        self.parts: dict[str, list[dict[str, Part]]] = {key: [{}, {}] for key in KEYS}
        self.needs: dict[str, set[str] | None] = dict.fromkeys(KEYS)

    def folding(self, key: str) -> bool:
        needs = self.needs[key]
        return needs is not None and needs <= self.parts[key][0].keys()

    def went(self, name: str) -> None:
        for key in KEYS:
            needs = self.needs[key]
            if needs is not None and not self.folding(key):
                needs.discard(name)

    def missed(self, name: str) -> None:
        for key in KEYS:
            needs = self.needs[key]
            if needs is not None and not self.folding(key) and name in needs and name not in self.parts[key][0]:
                self.throw_away(key, 0)
            elif self.parts[key][1] and name not in self.parts[key][1]:
                self.throw_away(key, 1)

    def throw_away(self, key: str, first: int) -> None:
        whose = {name for parts in self.parts[key][first:] for name in parts}
        for parts in self.parts[key][first:]:
            parts.clear()
        if first == 0:
            self.needs[key] = None
        told = set()
        for ticket, (name, where, version) in list(self.pulls.items()):
            if where == key and version > self.version[key] + first:
                assert self.fails(ticket, WorkerLost)
                del self.pulls[ticket]
                told.add(name)
        self.untold |= {(name, key) for name in whose - told}

    @rule(name=names, key=keys)
    def push(self, name: str, key: str) -> None:
        if not self.alive(name):
            return
        ticket = self.driver.push(name, key)
        part = self.driver.given[-1]
        if (name, key) in self.untold or self.lost():
            self.untold.discard((name, key))
            assert self.fails(ticket, WorkerLost)
        elif (place := self.place(name, key)) is None:
            assert self.fails(ticket, ProtocolError)
        else:
            self.parts[key][place][name] = part
            if self.needs[key] is None:
                self.needs[key] = self.counted()
            assert self.driver.outcome(ticket) == self.version[key] + 1 + place

    def place(self, name: str, key: str) -> int | None:
        first, second = self.parts[key]
        needs = self.needs[key]
        if name not in first and not self.folding(key) and (needs is None or name in needs):
            return 0
        return None if name in second else 1

    @rule(name=names, key=keys)
    def pull(self, name: str, key: str) -> None:
        if not self.alive(name):
            return
        ticket = self.driver.pull(name, key)
        if (name, key) in self.untold:
            self.untold.discard((name, key))
            assert self.fails(ticket, WorkerLost)
            return
        given = [self.version[key] + 1 + place for place in (0, 1) if name in self.parts[key][place]]
        self.pulls[ticket] = (name, key, max(given, default=0))

    @rule(key=keys)
    def fold(self, key: str) -> None:
        if self.folding(key):
            self.driver.fold(key)
            first, second = self.parts[key]
            self.version[key] += 1
            assert self.driver.applied[key][-1] == tuple(first[name] for name in sorted(first))
            self.parts[key] = [second, {}]
            self.needs[key] = self.counted() if second else None

    def compare(self) -> None:
        assert self.driver.folding.keys() == {key for key in KEYS if self.folding(key)}
        for key, fold in self.driver.folding.items():
            first = self.parts[key][0]
            assert fold.contributions == tuple(first[name] for name in sorted(first))
        for ticket, (_, key, version) in list(self.pulls.items()):
            outcome = self.driver.outcome(ticket)
            assert (outcome is None) == (version > self.version[key])
            if outcome is not None:
                applied = frozenset(part for parts in self.driver.applied.get(key, []) for part in parts)
                assert outcome == Reading(self.version[key], applied)
                del self.pulls[ticket]


class FreeMachine(Machine):
    """Per key: how many pushes each worker has made, those that are held, and those that are to be applied."""

    consistencies: ClassVar = [
        {"consistency": "async"},
        {"consistency": "ssp"},
        {"consistency": "ssp", "staleness": 1},
    ]

    def begin(self) -> None:
        self.made: dict[str, dict[str, int]] = {key: {} for key in KEYS}
        self.held: dict[str, list[tuple[str, Part]]] = {key: [] for key in KEYS}
        self.queue: dict[str, list[tuple[str, Part]]] = {key: [] for key in KEYS}
        self.tickets: dict[Part, int] = {}

    def behind(self, name: str, key: str) -> set[str]:
        if self.rules["consistency"] == "async":
            return set()
        made = self.made[key]
        least = made.get(name, 0) - self.rules.get("staleness", 0)
        return {each for each in self.counted() if made.get(each, 0) < least}

    def settle(self, key: str) -> None:
        held = self.held[key]
        while True:
            firsts: dict[str, Part] = {}
            for name, part in held:
                firsts.setdefault(name, part)
            ready = [(name, part) for name, part in held if firsts[name] is part and not self.behind(name, key)]
            if not ready:
                break
            name, part = ready[0]
            held.remove((name, part))
            self.queue[key].append((name, part))
            self.made[key][name] = self.made[key].get(name, 0) + 1
        for name, part in [each for each in held if self.behind(each[0], key) & self.lost()]:
            self.refused(key, name, part)

    def refused(self, key: str, name: str, part: Part) -> None:
        self.held[key].remove((name, part))
        assert self.fails(self.tickets.pop(part), WorkerLost)
        for ticket, (_, awaited) in list(self.pulls.items()):
            if awaited == part:
                assert self.fails(ticket, WorkerLost)
                del self.pulls[ticket]

    def came(self, name: str, late: bool) -> None:
        for key in KEYS:
            if late:
                others = [self.made[key].get(each, 0) for each in self.counted() - {name}]
                self.made[key][name] = min(others, default=0)

    def went(self, name: str) -> None:
        for key in KEYS:
            for each, part in [(each, part) for each, part in self.held[key] if each == name]:
                self.refused(key, each, part)
            self.made[key].pop(name, None)
            self.settle(key)

    def missed(self, name: str) -> None:
        for key in KEYS:
            self.settle(key)

    @rule(data=st.data())
    def give_up_a_push(self, data: st.DataObject) -> None:
        """It is taken back, unless it is being applied, or others may rely on it (ssp)."""
        if not self.tickets:
            return
        part = data.draw(st.sampled_from(list(self.tickets)))
        key, mine = part.key, (part.who, part)
        free = self.rules["consistency"] == "async" and mine in self.queue[key][1:]
        taken_back = self.withdrawn(self.tickets[part])
        assert taken_back == (mine in self.held[key] or free)
        if taken_back:
            del self.tickets[part]
            (self.queue if free else self.held)[key].remove(mine)
            own = [each for name, each in (*self.queue[key], *self.held[key]) if name == part.who]
            for pull, (where, awaited) in list(self.pulls.items()):
                if awaited == part:
                    self.pulls[pull] = (where, own[-1] if own else None)

    @rule(name=names, key=keys)
    def push(self, name: str, key: str) -> None:
        if not self.alive(name):
            return
        in_progress = sum(each == name for each, _ in (*self.held[key], *self.queue[key]))
        ticket = self.driver.push(name, key)
        if in_progress >= 3:
            assert self.fails(ticket, ProtocolError)
            return
        part = self.driver.given[-1]
        self.tickets[part] = ticket
        self.held[key].append((name, part))
        self.settle(key)

    @rule(name=names, key=keys)
    def pull(self, name: str, key: str) -> None:
        if self.alive(name):
            ticket = self.driver.pull(name, key)
            own = [part for each, part in (*self.queue[key], *self.held[key]) if each == name]
            self.pulls[ticket] = (key, own[-1] if own else None)

    @rule(key=keys)
    def fold(self, key: str) -> None:
        if self.queue[key]:
            self.driver.fold(key)
            _, part = self.queue[key].pop(0)
            assert self.driver.applied[key][-1] == (part,)
            ticket = self.tickets.pop(part)
            assert self.driver.outcome(ticket) == len(self.driver.applied[key]) + 1
            for pull, (_, awaited) in list(self.pulls.items()):
                if awaited == part:
                    self.pulls[pull] = (key, None)

    def compare(self) -> None:
        assert self.driver.folding.keys() == {key for key in KEYS if self.queue[key]}
        assert all(self.driver.outcome(ticket) is None for ticket in self.tickets.values()), (
            "an answer before the apply"
        )
        for ticket, (key, awaited) in list(self.pulls.items()):
            outcome = self.driver.outcome(ticket)
            assert (outcome is None) == (awaited is not None)
            if outcome is not None:
                assert not isinstance(outcome, Fail), KeyNotFound
                assert outcome.version == len(self.driver.applied.get(key, [])) + 1
                del self.pulls[ticket]
