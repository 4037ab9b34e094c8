"""Clients of a store whose pushes are applied one by one: random calls, several under way at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from simulation.caller import Caller, Quit
from simulation.history import HEIRS, SIZE, Call

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["TAIL", "Client"]

# What is behind the elements that count.
TAIL = np.arange(1 << 18, dtype=np.uint8)


class Client(Caller):
    """Does something at random, so many times."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._steps = self.plan.steps

    def has_work(self) -> bool:
        return self._steps > 0

    async def work(self) -> None:
        while self._steps > 0 and not self.useless:
            self._steps -= 1
            await self._step()
        while self.under_way and not self.useless:
            await asyncio.wait(list(self.under_way), return_when=asyncio.FIRST_COMPLETED)

    # -- one step ---------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        act = self.pick(self.plan.acts)
        getattr(self, "_" + act.replace(" ", "_"))()
        width = self.plan.width
        if len(self.under_way) >= width or self.chance.random() < 2 / width:
            await self._settle()
        elif self.chance.random() < 3 / width:
            await self.sleep(0.2)

    async def _settle(self) -> None:
        if self.under_way:
            some = self.chance.sample(list(self.under_way), self.chance.randint(1, len(self.under_way)))
            await asyncio.wait(some)

    def _key(self) -> str:
        return self.pick([*self.plan.keys, self.plan.passing]) if self._rarely() else self._staying()

    def _staying(self) -> str:
        return self.pick(self.plan.keys)

    def _push(self) -> None:
        key = self._key()
        if not self.world.history.is_full(key):
            call = self.begin("push", key, pushes=True)
            (value,) = self._ones(call)
            self.track(call, self.kv.push(key, value, self._priority()), value)

    def _push_many(self) -> None:
        keys = [key for key in self.plan.keys if not self.world.history.is_full(key)]
        if keys:
            call = self.begin("push", *keys, pushes=True)
            values = self._ones(call)
            self.track(call, self.kv.push(keys, values, self._priority()), *values)

    def _pushpull(self) -> None:
        key = self._staying()
        if not self.world.history.is_full(key):
            call = self.begin("pushpull", key, pushes=True)
            (value,) = self._ones(call)
            self.track(call, self.kv.pushpull(key, value, priority=self._priority()), value)

    def _pull(self) -> None:
        key = self._key()
        self.track(self.begin("pull", key), self.kv.pull(key, priority=self._priority()))

    def _pull_into(self) -> None:
        key, out = self._staying(), self.mine()
        self.track(self.begin("pull", key), self.kv.pull(key, out), out)

    def _pull_many(self) -> None:
        keys = list(self.plan.keys)
        self.track(self.begin("pull", *keys), self.kv.pull(keys))

    def _pull_from(self) -> None:
        key = self._staying()
        version = self._version(key)
        pending = self.kv.pull(key, min_version=version)
        self._wait_for(self.begin("pull", key, min_version=version), pending)

    def _wait(self) -> None:
        key = self._staying()
        version = self._version(key)
        pending = self.kv.wait_version(key, version)
        self._wait_for(self.begin("wait", key, min_version=version), pending)

    def _version(self, key: str) -> int:
        """One that is there, or will be, or would be."""
        return max(1, self.world.history.newest(key) + self.chance.randint(-2, 2))

    def _wait_for(self, call: Call, pending: asyncio.Future[Any]) -> None:
        self.track(call, pending)
        if call.min_version > self.world.history.newest(call.keys[0]):
            self.cancel_later(pending)

    def _info(self) -> None:
        key = self._key()
        self.track(self.begin("info", key), self.kv.info(key))

    def _keys(self) -> None:
        self.track(self.begin("keys"), self.kv.keys())

    def _flush(self) -> None:
        self.track(self.begin("flush"), self.kv.flush())

    def _barrier(self) -> None:
        self.track(self.begin("barrier"), self.kv.barrier())

    def _delete(self) -> None:
        """Or make it anew."""
        key = self.plan.passing
        if self.chance.random() < 0.4:
            self.track(self.begin("delete", key), self.kv.delete(key))
        else:
            value = self.mine()
            self.track(self.begin("init", key), self.kv.init(key, value), value)

    def _watch(self) -> None:
        """A few versions of a key."""
        key = self._staying()
        call = self.begin("watch", key)
        task = asyncio.get_running_loop().create_task(self._look_on(key, call))
        self.track(call, task)
        self.cancel_later(task)

    async def _look_on(self, key: str, call: Call) -> None:
        last = 0
        async for version in self.kv.watch(key):
            assert version > last, f"{call} went back from {last} to {version}"
            last = call.versions[key] = version

    def _cancel(self) -> None:
        if self.under_way:
            self.cancel_later(self.pick(list(self.under_way)))

    def _quit(self) -> None:
        """Leave with an error: what is queued is withdrawn."""
        if self.chance.random() < 0.1:
            for call in self.under_way.values():
                call.cancelled = True
            raise Quit

    # -- arrays -----------------------------------------------------------------------------------------------

    def mine(self) -> np.ndarray:
        """A value as this client would initialise it."""
        value = np.zeros(SIZE + self.plan.large, np.uint8)
        value[self.number % HEIRS] = 1
        value[SIZE:] = TAIL[: self.plan.large]
        return value

    def _ones(self, call: Call) -> list[np.ndarray]:
        """What `call` pushes, for each of its keys."""
        values = [np.zeros(SIZE + self.plan.large, np.uint8) for _ in call.marks]
        for value, mark in zip(values, call.marks.values(), strict=True):
            value[mark] = 1
        return values

    def _priority(self) -> int:
        return self.pick([0, 0, 0, 1, -3])

    def _rarely(self) -> bool:
        return self.chance.random() < 0.15
