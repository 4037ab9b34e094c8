"""Workers of a job: in each round they push to all keys, in any order, and pull some."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from simulation.caller import Caller, Quit
from simulation.history import SIZE

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["GIFTS", "Reader", "Worker"]

# Elements behind those that count: their sums depend on the order of what is added.
GIFTS = 6


class Worker(Caller):
    """Has a rank, which a later one takes over, and some rounds to go.

    Args:
        rank: one that is free.
        rounds: how many.
    """

    def __init__(self, world: World, number: int, rank: int, rounds: int) -> None:
        super().__init__(world, number)
        self.rank = rank
        self.rounds = rounds
        self._round = 0
        world.ranks[self.name] = rank

    def has_work(self) -> bool:
        return self._round < self.rounds

    def options(self) -> dict[str, Any]:
        return {**super().options(), **self.plan.wishes, "rank": self.rank}

    async def work(self) -> None:
        while self._round < self.rounds and not self.useless:
            self._round += 1
            await self._go_round()
        while self.under_way and not self.useless:
            await asyncio.wait(list(self.under_way), return_when=asyncio.FIRST_COMPLETED)
        while self.rank < self.plan.clients - 1 and not self.world.relieved:
            await asyncio.sleep(0.05)  # when all have left, whoever comes waits for a new set of workers
        for key in () if self.useless else self.plan.keys:
            await self.follow(self.begin("pull", key), self.kv.pull(key))

    async def _go_round(self) -> None:
        """Nobody waits for others in the midst of it, or the others would wait for what they have not pushed yet."""
        for key in self.chance.sample(self.plan.keys, len(self.plan.keys)):
            if self.chance.random() < 0.3:
                await self.sleep(0.2)
            self._push(key)
            self._do_something(key)
        if self._round in self.plan.barriers:
            await self.follow(self.begin("barrier"), self.kv.barrier())
        elif self.under_way and self.chance.random() < self.plan.patient:
            await asyncio.wait(list(self.under_way))

    def _push(self, key: str) -> None:
        # Of a pushpull nobody is told the version, which the law of ssp asks for.
        both = self.plan.wishes["consistency"] != "ssp" and self.chance.random() < 0.25
        call = self.begin("pushpull" if both else "push", key, pushes=True)
        value = np.zeros(SIZE + GIFTS, np.float32)
        value[call.marks[key]] = 1
        value[SIZE:] = [self.chance.gauss(0, 1) * 10 ** self.chance.randint(-3, 4) for _ in range(GIFTS)]
        self.world.gifts[key, call.marks[key]] = value[SIZE:].copy()
        self.track(call, self.kv.pushpull(key, value) if both else self.kv.push(key, value), value)

    def _do_something(self, key: str) -> None:
        act = self.pick(self.plan.acts)
        if act == "pull":
            self.track(self.begin("pull", key), self.kv.pull(key))
        elif act == "pull into":
            out = self.mine()
            self.track(self.begin("pull", key), self.kv.pull(key, out), out)
        elif act == "wait":
            version = self.chance.randint(1, self._round + 1)
            self.track(self.begin("wait", key, min_version=version), self.kv.wait_version(key, version))
        elif act == "info":
            self.track(self.begin("info", key), self.kv.info(key))
        elif act == "cancel":
            self._cancel()
        elif act == "quit" and self.chance.random() < 0.1:
            for call in self.under_way.values():
                call.cancelled = True
            raise Quit

    def _cancel(self) -> None:
        """Not what the others need, if those wait for ever."""
        calls = self.under_way.items()
        pending = [pending for pending, call in calls if not (self.plan.lossless and call.marks)]
        if pending:
            self.cancel_later(self.pick(pending))

    def mine(self) -> np.ndarray:
        value = np.zeros(SIZE + GIFTS, np.float32)
        value[self.rank] = 1
        value[SIZE:] = (self.rank + 1) / 3
        return value


class Reader(Caller):
    """Takes part in nothing, and looks on."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._looks = 3 * self.plan.rounds

    def has_work(self) -> bool:
        return self._looks > 0

    def options(self) -> dict[str, Any]:
        return {**super().options(), **self.plan.wishes, "role": "reader"}

    async def prepare(self) -> bool:
        return True

    async def work(self) -> None:
        while self._looks > 0 and not self.useless:
            self._looks -= 1
            keys = self.chance.sample(self.plan.keys, self.chance.randint(1, len(self.plan.keys)))
            call = self.begin("pull", *keys, min_version=1)  # what nobody has initialised yet it waits for
            await self.follow(call, self.kv.pull(keys, min_version=1))
            await self.sleep(0.5)

    def mine(self) -> np.ndarray:
        return np.empty(0, np.float32)
