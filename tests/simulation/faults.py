"""The harm that is done to a run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from simulation.loop import Node
from simulation.network import Cable

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["Nemesis"]


class Nemesis:
    """Does one harmful thing after the other; `heal` undoes what can be undone."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self._over = False

    async def rage(self) -> None:
        """Until it is cancelled."""
        plan = self._world.plan
        while plan.faults:
            await self._world.sleep(self._chance.expovariate(1 / plan.rate))
            fault = self._chance.choice(plan.faults)
            getattr(self, "_" + fault.replace(" ", "_"))()

    def heal(self) -> None:
        """Let everybody go on, and connections be made. Those that are broken stay so."""
        self._over = True
        for node in [self._world.home, *[client.node for client in self._world.living]]:
            self._world.loop.thaw(node)
        self._world.network.unreachable.clear()

    def _say(self, text: str) -> None:
        self._world.trace.note(f"-- {text}")

    def _cable(self) -> Cable | None:
        cables = self._world.network.cables
        whole = [cable for cable in cables if not any(end.gone for end in cable.ends)]
        return self._chance.choice(whole or cables) if cables else None

    def _seconds(self, least: float, most: float) -> float:
        """Short ones more often."""
        return least + (most - least) * self._chance.random() ** 3

    def _cut(self) -> None:
        if cable := self._cable():
            lane, after = self._chance.choice([cable.up, cable.down]), self._chance.choice([0, self._some()])
            self._say(f"cut {cable.name} after {after}")
            cable.cut(lane, after)

    def _some(self) -> int:
        return self._chance.choice([self._chance.randint(1, 60), self._chance.randint(1, 1000)])

    def _tell(self) -> None:
        """One end is told that the connection is lost, the other one is not."""
        if cable := self._cable():
            told = self._chance.choice([cable.up, cable.down])
            self._say(f"tell one end of {cable.name}")
            told.reset()
            told.back.hole |= self._chance.random() < 0.5

    def _echo(self) -> None:
        """The client makes a new connection, while what it sent on the old one is still coming."""
        if cable := self._cable():
            seconds = self._seconds(0.01, 3.0)
            self._say(f"echo on {cable.name} for {seconds:.2f} s")
            cable.down.reset()
            cable.up.late = max(cable.up.late, self._world.loop.time() + seconds)

    def _hole(self) -> None:
        if cable := self._cable():
            lanes = self._chance.choice([(cable.up,), (cable.down,), (cable.up, cable.down)])
            self._say(f"hole in {cable.name}, {len(lanes)}")
            for lane in lanes:
                lane.hole = True

    def _stall(self) -> None:
        if cable := self._cable():
            seconds = self._seconds(0.1, 8.0)
            self._say(f"stall {cable.name} for {seconds:.2f} s")
            cable.stall(self._world.loop.time() + seconds)

    def _freeze(self) -> None:
        if living := self._world.living:
            client, seconds = self._chance.choice(living), self._seconds(0.1, 12.0)
            self._stop(client.node, seconds)

    def _freeze_server(self) -> None:
        self._stop(self._world.home, self._seconds(0.05, 4.0))

    def _stop(self, node: Node, seconds: float) -> None:
        if node.frozen:
            return
        self._say(f"freeze {node} for {seconds:.2f} s")
        self._world.loop.freeze(node)
        self._world.loop.call_later(seconds, self._go_on, node)

    def _go_on(self, node: Node) -> None:
        if not (self._over or self._world.is_dead(node)):
            self._world.loop.thaw(node)

    def _kill(self) -> None:
        self._crash(clean=True)

    def _vanish(self) -> None:
        self._crash(clean=False)

    def _crash(self, clean: bool) -> None:
        """Clean: its kernel closes its connections. Else nothing is heard of the machine any more."""
        world = self._world
        if len(world.clients) < 2 * world.plan.clients and (living := world.living):
            client = self._chance.choice(living)
            self._say(f"{'kill' if clean else 'lose'} {client.node}")
            world.crash(client, clean)

    def _isolate(self) -> None:
        if living := self._world.living:
            client, seconds = self._chance.choice(living), self._seconds(0.1, 10.0)
            self._say(f"isolate {client.node} for {seconds:.2f} s")
            until = self._world.loop.time() + seconds
            self._world.network.unreachable[client.node] = until
            for cable in self._world.network.of(client.node):
                cable.stall(until)
