"""What one run is like: drawn from its seed, so that each run is good at something else (swarm testing)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from akv_tcp.terms import Terms

__all__ = ["ACTS", "FAULTS", "Plan"]

FAULTS = ("cut", "tell", "echo", "hole", "stall", "freeze", "freeze server", "kill", "vanish", "isolate")
ACTS = (
    "push", "push", "push", "pull", "pull", "pull into", "pull from", "pushpull", "push many", "pull many", "wait",
    "info", "cancel", "cancel", "keys", "flush", "barrier", "delete", "watch",
    "quit",
)  # fmt: skip


@dataclass(slots=True)
class Plan:
    """One run's choices.

    Attributes:
        faults: the kinds of harm, and `rate`: seconds between two of them, on average.
        acts: what clients do, `steps`: how often, and `width`: calls of one client that are under way.
        keys: the names of values that stay, and `passing`: of one that comes and goes.
        pace: seconds that bytes take, at least and at most; `windows`: how many may be on their way; `choppy`: the
            share of writes that arrive in pieces.
        inline: whether the server does small work at once; `slowest`: seconds that its threads take.
        large: bytes behind the elements that count.
        timeouts, patience: what clients choose their handles' options from.
        terms: the server's.
        wishes: of workers, for the options of a job; empty: each push is applied by itself, and anybody pushes.
        lossless: no worker is lost, and none gives up what it has begun.
        rounds: how many each worker takes part in; at `barriers` of them it waits for all others, and before the next
            one for its own calls with the probability `patient`.
        readers: clients that look on.
        relief: the last worker leaves after one round, and another one comes for so many.
    """

    seed: int
    faults: tuple[str, ...] = ()
    rate: float = 0.3
    acts: tuple[str, ...] = ACTS
    steps: int = 25
    width: int = 8
    clients: int = 3
    keys: tuple[str, ...] = ("a", "b")
    passing: ClassVar[str] = "p"
    pace: tuple[float, float] = (0.0005, 0.02)
    windows: tuple[int, ...] = (1 << 10, 1 << 14, 1 << 18)
    choppy: float = 0.2
    inline: bool = True
    slowest: float = 0.02
    large: int = 0
    timeouts: tuple[float | None, ...] = (None,)
    patience: tuple[float, ...] = (30.0,)
    terms: Terms = field(default_factory=Terms)
    wishes: dict[str, Any] = field(default_factory=dict)
    lossless: bool = False
    rounds: int = 6
    barriers: tuple[int, ...] = ()
    patient: float = 0.5
    readers: int = 0
    relief: int = 0

    @property
    def sync(self) -> bool:
        """Whether versions are rounds."""
        return self.wishes.get("consistency") == "sync"

    @classmethod
    def draw_job(cls, seed: int, chance: random.Random) -> Plan:
        """Any job of several workers."""
        pick = chance.choice
        plan = cls.draw(seed, chance)
        plan.large, plan.windows, plan.steps = 0, (1 << 10, 1 << 14, 1 << 18), 0
        plan.clients, plan.rounds, plan.patient = chance.randint(2, 4), chance.randint(2, 8), pick([0.2, 0.5, 1.0])
        plan.acts = (*("pull", "pull into") * 2, "nothing", "nothing", "nothing", "info", "cancel")
        consistency = pick(["sync", "sync", "sync", "ssp", "async"])
        plan.wishes = {"workers": plan.clients, "consistency": consistency}
        if consistency == "ssp":
            plan.wishes["staleness"] = chance.randint(0, 2)
        plan.readers = pick([0, 0, 1])
        if chance.random() < 0.6:
            plan.keep_all(chance)
        else:
            plan.lose_some(chance)
        return plan

    def keep_all(self, chance: random.Random) -> None:
        """Whatever is done to connections, nobody is counted out."""
        self.lossless, self.timeouts, self.patience = True, (None,), (100.0,)
        self.wishes["worker_timeout"] = 40.0
        self.terms = replace(self.terms, lease=40.0, connections=1024)
        self.faults = tuple([fault for fault in self.faults if fault not in ("kill", "vanish")])
        self.acts = (*[act for act in self.acts if act != "quit"], "wait")
        if chance.random() < 0.5:
            self.barriers = tuple([number for number in range(1, self.rounds + 1) if chance.random() < 0.3])
        else:
            self.relief = chance.randint(0, 3)
        if self.relief:
            # If a connection breaks while it is made, the server has a worker that nobody is. And who comes in the
            # midst of a round of one key, but before that of another, would wait for others that wait for it.
            self.faults, self.keys = (), ("a",)

    def lose_some(self, chance: random.Random) -> None:
        """Workers crash, are silent for too long, or give up."""
        self.wishes["on_worker_loss"] = chance.choice(["abort", "drop", "wait"])
        self.wishes["worker_timeout"] = chance.choice([1.0, 3.0])
        # Who was counted out for a while, or gives a push up, is a round behind on some keys, and waits for others that
        # wait for it.
        self.timeouts = (0.5, 3.0)
        self.patient = 1.0
        self.acts += ("quit",)

    @classmethod
    def draw(cls, seed: int, chance: random.Random) -> Plan:
        """Any."""
        pick = chance.choice
        faults = pick([FAULTS, *[tuple(chance.sample(FAULTS, count)) for count in (1, 2, 3)]])
        extra = tuple(chance.choices(ACTS, k=chance.randint(0, 12)))
        large = pick([0, 0, 0, 2_000, 140_000])
        plan = cls(
            seed,
            faults=() if chance.random() < 0.06 else faults,
            rate=pick([0.05, 0.2, 0.5, 1.0]),
            acts=ACTS + extra,
            steps=chance.randint(10, 30),
            width=pick([3, 8, 25]),
            clients=chance.randint(2, 4),
            keys=pick([("a",), ("a", "b"), ("a", "b", "c")]),
            pace=pick([(0.0001, 0.001), (0.0005, 0.02), (0.001, 0.2)]),
            # Terms.stall asks for some speed.
            windows=(1 << 10, 1 << 14, 1 << 18) if large < 10_000 else (1 << 17, 1 << 20),
            choppy=pick([0.0, 0.2, 0.8]) if large < 10_000 else 0.2,
            inline=chance.random() < 0.4,
            slowest=pick([0.001, 0.02, 0.3]),
            large=large,
            timeouts=pick([(None,), (None, 0.5, 3.0)]),
            patience=pick([(30.0,), (3.0, 30.0)]),
            terms=_terms(chance),
        )
        if chance.random() < 0.15:
            plan._narrow()
        return plan

    def _narrow(self) -> None:
        """Many answers under way, and connections that break before they are out."""
        self.width, self.steps, self.large, self.windows = 25, 30, 6_000, (600, 2_000)
        self.pace, self.inline, self.slowest = (0.001, 0.05), False, 0.3
        self.acts = ("push", "pull", "pull", "pull many", "pull into", "pushpull", "cancel", "watch", "wait")
        self.faults, self.rate = ("cut", "tell", "echo", "stall"), 0.3


def _terms(chance: random.Random) -> Terms:
    pick = chance.choice
    return Terms(
        heartbeat=pick([0.3, 2.0]),
        lease=pick([4.0, 20.0]),
        greeting=pick([1.0, 5.0]),
        stall=10.0,
        connections=pick([8, 1024]),
        held=pick([450_000, 1 << 30]),  # a push of three large values is one request
        window=pick([160_000, 1 << 30]),
        outbox=pick([4_000, 64 << 20]),
    )
