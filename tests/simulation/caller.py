"""A process with a handle: it calls verbs, and takes down what becomes of them."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import akv
from akv.errors import AkvError, ConnectionLost, KeyExists, SessionExpired, StoreClosed
from simulation.history import Call, Reading
from simulation.loop import Node

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["DIRT", "Caller", "Quit"]

T = TypeVar("T")

# What is in an array that nobody may read or write any more.
DIRT = 77


class Quit(Exception):
    """An error of the program's own."""


class Caller(ABC):
    """One process with one handle at a time. It goes on with a new handle when one is of no use any more.

    Attributes:
        number: different for all clients of a run.
        returned: arrays of ours that akv has let go of.
    """

    kv: akv.KVStore

    def __init__(self, world: World, number: int) -> None:
        self.node = Node(f"c{number}")
        self.number = number
        self.returned: list[np.ndarray] = []
        self.world = world
        self.plan = world.plan
        self.chance: random.Random = world.chance
        self.useless = False  # the handle is
        self.under_way: dict[asyncio.Future[Any], Call] = {}
        self._handles = 0

    @property
    def name(self) -> str:
        return self.node.name

    async def live(self) -> None:
        """Do all there is to do."""
        while self.has_work():
            self._handles += 1
            self.useless = False
            call = self.begin("connect")
            try:
                self.kv = await akv.connect(self.world.url, **self.options())
            except AkvError as error:
                self.world.history.end(call, error)
                await self.sleep(1.0)
                continue
            self.world.history.end(call)
            await self._use()
        self.say("has done its work")

    async def _use(self) -> None:
        try:
            async with self.kv:
                if await self.prepare():
                    await self.work()
        except (AkvError, Quit) as error:
            self.say(f"leaves with {error!r}")

    async def prepare(self) -> bool:
        """Make the values, unless they are there; each client would make different ones."""
        for key in self.plan.keys:
            call = self.begin("init", key)
            if not await self.follow(call, self.kv.init(key, self.mine())) and not isinstance(call.error, KeyExists):
                return False
        return await self.follow(self.begin("set_updater", "add"), self.kv.set_updater("add"))

    # -- what each kind of client has of its own --------------------------------------------------------------

    @abstractmethod
    def has_work(self) -> bool:
        """Whether there is something left to do."""

    @abstractmethod
    async def work(self) -> None:
        """Do it, on the handle that is there now, until that is of no use any more."""

    def options(self) -> dict[str, Any]:
        """Of the next handle."""
        return {"timeout": self.pick(self.plan.timeouts), "reconnect": self.pick(self.plan.patience)}

    @abstractmethod
    def mine(self) -> np.ndarray:
        """A value as this client would initialise it."""

    # -- calls ------------------------------------------------------------------------------------------------

    def begin(self, verb: str, *keys: str, **options: Any) -> Call:
        return self.world.history.begin(self.name, self._handles, verb, *keys, **options)

    async def follow(self, call: Call, pending: asyncio.Future[Any]) -> bool:
        self.track(call, pending)
        await asyncio.wait([pending])
        return call.fine

    def track(self, call: Call, pending: asyncio.Future[Any], *arrays: np.ndarray) -> None:
        """The arrays are akv's until the call has ended; then they may change."""
        self.under_way[pending] = call
        pending.add_done_callback(partial(self._ended, call, arrays))

    def _ended(self, call: Call, arrays: tuple[np.ndarray, ...], pending: asyncio.Future[Any]) -> None:
        del self.under_way[pending]
        error = asyncio.CancelledError() if pending.cancelled() else pending.exception()
        if error is None:
            _record(call, pending.result())
        if isinstance(error, (ConnectionLost, SessionExpired, StoreClosed)):
            self.useless = True
        for array in arrays:
            array[:] = DIRT
            self.returned.append(array)
        self.world.history.end(call, error)

    def cancel_later(self, pending: asyncio.Future[Any]) -> None:
        seconds = self.pick([0.0, self.chance.random() * 0.02, self.chance.random() * 3])
        asyncio.get_running_loop().call_later(seconds, self._cancel_now, pending)

    def _cancel_now(self, pending: asyncio.Future[Any]) -> None:
        if (call := self.under_way.get(pending)) is not None:
            self.world.history.note(f"cancels {call}")
            call.cancelled = True
            pending.cancel()

    # -- chance -----------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.world.history.note(f"{self.name} {text}")

    async def sleep(self, most: float) -> None:
        await asyncio.sleep(self.chance.random() ** 2 * most)

    def pick(self, things: Sequence[T]) -> T:
        return self.chance.choice(things)


def _record(call: Call, result: Any) -> None:
    """What a call has returned."""
    several = result if isinstance(result, list) else [result]
    match call.verb:
        case "push" | "wait":
            call.versions = dict(zip(call.keys, several, strict=True))
        case "info":
            call.versions = {call.keys[0]: result.version}
        case "pull" | "pushpull":
            pairs = zip(call.keys, several, strict=True)
            call.readings = [Reading(key, value.copy()) for key, value in pairs]
