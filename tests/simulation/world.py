"""One run: a server, its clients, what happens to them, and whether they saw what they may."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from tcp_cases import Running

import akv
from akv.errors import AkvError
from akv_tcp.hosting import host, host_rounds
from simulation.caller import DIRT, Caller
from simulation.clients import Client
from simulation.faults import Nemesis
from simulation.history import History, Reading
from simulation.job_laws import JobLaws
from simulation.lane import Pace
from simulation.laws import BOUND, Laws
from simulation.loop import Node, SimLoop
from simulation.network import Cable, Network
from simulation.plan import Plan
from simulation.seams import surroundings
from simulation.trace import Trace
from simulation.workers import Reader, Worker

__all__ = ["Broken", "World", "run"]

# Virtual seconds for which harm is done at most.
RAGE = 20.0
# More than anything is stalled or frozen for.
LONGEST = 15.0


class Broken(AssertionError):
    """A run went wrong. Says which, why, and what happened last."""


class World:
    """Everything of one run."""

    def __init__(self, plan: Plan, chance: random.Random, loop: SimLoop) -> None:
        self.plan, self.chance, self.loop = plan, chance, loop
        self.trace = Trace(loop)
        self.network = Network(loop, chance, self.trace, Pace(chance, *plan.pace), plan)
        self.history = History(loop, self.trace)
        self.laws = Laws(plan, self.history)
        self.home = Node("server")
        self.clients: list[Caller] = []
        self.ranks: dict[str, int] = {}  # of workers, by name
        self.gifts: dict[tuple[str, int], np.ndarray] = {}  # what workers add, by key and element
        self.sleep = asyncio.sleep
        self._tasks: dict[Caller, asyncio.Task[None]] = {}
        self._dead: dict[Caller, list[Cable]] = {}

    @property
    def url(self) -> str:
        return f"{self.server.url}/job"

    @property
    def living(self) -> list[Caller]:
        """The clients that have work to do."""
        return [client for client in self.clients if client not in self._dead and not self._tasks[client].done()]

    def is_dead(self, node: Node) -> bool:
        """Whether its process has ended before its work was done."""
        return any(client.node is node for client in self._dead)

    async def main(self) -> None:
        """All of it."""
        await self.at(self.home, self._serve())
        for place in range(self.plan.clients):
            leaves = self.plan.relief and place == self.plan.clients - 1
            self.start(place, 1 if leaves else self.plan.rounds)
        for _ in range(self.plan.readers):
            self._begin(Reader(self, len(self.clients)))
        await self._work()
        await self._audit()
        self.laws.check_ends(self.healed)
        self.laws.check_values()
        if self.plan.wishes:
            JobLaws(self.plan, self.history, self.ranks, self.gifts).check()
        self._check_arrays()
        await self._bury()
        await self._stop()

    def at(self, node: Node, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have a node do something."""
        return self.loop.create_task(work, context=node.context)

    async def _serve(self) -> None:
        store = f"memory://?inline={int(self.plan.inline)}"
        self.server = Running(host(store), self.plan.terms, host_rounds(store))
        await self.server.run()

    # -- clients ----------------------------------------------------------------------------------------------

    def start(self, rank: int, rounds: int) -> None:
        """One more client; a worker gets this rank, and so many rounds to go."""
        number = len(self.clients)
        self._begin(Worker(self, number, rank, rounds) if self.plan.wishes else Client(self, number))

    def _begin(self, client: Caller) -> None:
        self.clients.append(client)
        self._tasks[client] = self.at(client.node, client.live())

    async def _relieve(self, first: asyncio.Task[None]) -> None:
        """When the last worker has left, which does not stay to the end, another one takes its place."""
        await asyncio.wait([first])
        await asyncio.sleep(self.chance.random())
        self.start(self.plan.clients - 1, self.plan.relief)

    def crash(self, client: Caller, clean: bool) -> None:
        """A client ends in the midst of what it does; another one takes its place."""
        self._dead[client] = self.network.of(client.node)
        self.history.dead.add(client.name)
        self.loop.freeze(client.node)
        self.network.unreachable[client.node] = float("inf")
        for cable in self._dead[client]:
            if clean:
                cable.ends[0].die()
            else:
                cable.up.hole = cable.down.hole = True
        if not isinstance(client, Reader):
            self.start(self.ranks.get(client.name, 0), self.plan.rounds)

    def connected(self) -> set[str]:
        """The names of those who have had a handle."""
        return {call.who for call in self.history.calls if call.verb == "connect" and call.fine}

    @property
    def relieved(self) -> bool:
        """Whether whoever comes late has come."""
        return (
            len(self.connected()) == len(self.clients) > self.plan.clients + self.plan.readers or not self.plan.relief
        )

    async def _work(self) -> None:
        async with asyncio.timeout(BOUND):
            while self.plan.lossless and len(self.connected()) < self.plan.clients + self.plan.readers:
                await asyncio.sleep(0.01)
        nemesis = Nemesis(self, self.chance)
        raging = self.loop.create_task(nemesis.rage())
        if self.plan.relief:
            self.loop.create_task(self._relieve(self._tasks[self.clients[self.plan.clients - 1]]))
        end = self.loop.time() + RAGE
        while self.living and self.loop.time() < end:
            await asyncio.wait([self._tasks[client] for client in self.living], timeout=end - self.loop.time())
        raging.cancel()
        nemesis.heal()
        self.healed = self.loop.time()
        self.trace.note("-- all is well")
        # A call ends within the bound, and each client has some more to do then.
        tasks = [self._tasks[client] for client in self.clients if client not in self._dead]
        _, late = await asyncio.wait(tasks, timeout=3 * BOUND + 60)
        assert not late, f"{len(late)} clients do not end; calls: {', '.join(map(str, self.history.open()))}"
        for task in tasks:
            task.result()

    async def _audit(self) -> None:
        await asyncio.sleep(LONGEST)  # what crashed clients have sent is done, or lost
        try:
            await self.at(Node("auditor"), self._look())
        except AkvError as error:
            raise AssertionError(f"in the end: {error!r}") from error

    async def _look(self) -> None:
        async with akv.connect(self.url, role="reader") as kv:
            for key in self.plan.keys:
                call = self.history.begin("auditor", 0, "pull", key)
                call.readings = [Reading(key, await kv.pull(key))]
                self.history.end(call)
                call = self.history.begin("auditor", 0, "info", key)
                call.versions = {key: (await kv.info(key)).version}
                self.history.end(call)

    def _check_arrays(self) -> None:
        """Nobody has written to an array after it was given back."""
        for client in self.clients:
            if client not in self._dead:
                assert all((array == DIRT).all() for array in client.returned), (
                    f"{client.name}: an array was written to"
                )

    # -- the end ----------------------------------------------------------------------------------------------

    async def _bury(self) -> None:
        """Those that crashed end their tasks, unseen and unheard. The server forgets them."""
        await asyncio.sleep(self.plan.terms.lease + self.plan.wishes.get("worker_timeout", 0) + 10)
        assert not self.server.sessions, f"{len(self.server.sessions)} sessions are left"
        assert not self.server.connections, f"{self.server.connections} connections are left"
        assert self.server.budget.held == 0, f"{self.server.budget.held} bytes are held for nobody"
        assert self.server.budget.backlog == 0, f"{self.server.budget.backlog} bytes of answers are left"
        for client, cables in self._dead.items():
            self.loop.thaw(client.node)
            self._tasks[client].cancel()
            for cable in cables:
                cable.ends[0].bury()
        if self._dead:
            await asyncio.wait([self._tasks[client] for client in self._dead], timeout=BOUND)

    async def _stop(self) -> None:
        await self.at(self.home, self.server.stop())
        await asyncio.sleep(LONGEST)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert not tasks, f"tasks are left: {tasks}"
        assert not self.loop.agenda, f"timers are left: {self.loop.agenda}"
        assert self.loop.complaint is None, repr(self.loop.complaint)


def run(seed: int, change: Callable[[Plan], None] | None = None, *, job: bool = False) -> World:
    """Run one seed.

    Args:
        job: of workers, or else of clients of a store that applies each push by itself.
        change: makes of the plan what is not to be left to chance.

    Raises:
        Broken: a law was broken.
    """
    chance = random.Random(seed)
    plan = (Plan.draw_job if job else Plan.draw)(seed, chance)
    if change is not None:
        change(plan)
    loop = SimLoop()
    world = World(plan, chance, loop)
    try:
        with surroundings(loop, chance, plan.slowest):
            loop.run_until_complete(world.main())
    except Exception as error:
        text = f"seed {seed}: {type(error).__name__}: {error}"
        raise Broken("\n".join([text, *world.trace.tail, f"{plan}", text])) from error
    finally:
        _tidy(loop)
    return world


def _tidy(loop: SimLoop) -> None:
    """After a failure, too, nothing is left that would complain when it is collected."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    del loop.network  # by which it knows all handles, and akv.loop knows a loop as long as there are handles on it
