"""Versions that move by themselves: a backend whose values others change reports it, and the waiting are woken."""

from __future__ import annotations

import pytest
from engine_cases import FakeBackend, House, until, waiting_for_room

from akv.backend.protocol import Report
from akv.errors import QueueFull, WorkerLost
from akv.operations import Operation, Pull, Wait
from akv.scheduler import DONE, NEW, STARTED, WITHDRAWN


class MovingBackend(FakeBackend):
    """Its versions are moved by the test."""

    def report(self, moved: Report) -> None:
        self.moved = moved

    def move(self, **versions: int) -> None:
        self.versions.update(versions)
        self.moved(versions)


def moving() -> tuple[House, MovingBackend]:
    backend = MovingBackend(queued=3)
    return House(backend), backend


def test_a_report_wakes_those_whose_version_is_there() -> None:
    house, backend = moving()
    waits: list[Operation] = [Wait("a", 1), Pull(["a", "b"], None, 0, 1), Wait("b", 2)]
    for op in waits:
        house.submit(op)
    backend.move(a=1)
    assert [op.state for op in waits] == [DONE, NEW, NEW]
    backend.move(a=1, b=1)
    assert [op.state for op in waits] == [DONE, STARTED, NEW]
    backend.end(waits[1])
    assert house.ear.told == waits[:2]
    assert all(house.ear.locked)


def test_an_error_ends_all_waits_and_nothing_else() -> None:
    house, backend = moving()
    push, error = house.push(), WorkerLost("rank 1 is gone")
    waits = [house.wait("a", 1), house.wait("b", 1)]
    backend.moved((), error)
    assert [(op.state, op.error) for op in waits] == [(WITHDRAWN, error)] * 2
    assert house.ear.told == waits
    assert push.state is STARTED
    backend.end(push)
    assert push.error is None
    assert house.is_idle()


@pytest.mark.parametrize("lost", [False, True])
def test_a_report_makes_room_for_waits(lost: bool) -> None:
    house, backend = moving()
    for _ in range(3):
        house.wait("a", 1)
    with pytest.raises(QueueFull):
        house.wait("a", 1)
    aside = waiting_for_room(house, Wait("a", 2))
    if lost:
        backend.moved((), WorkerLost("rank 1 is gone"))
    else:
        backend.move(a=1)
    assert aside.join() is True
    until(lambda: house.engine._crowd == 0)


class RemoteBackend(MovingBackend):
    """It is told what to look out for."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: list[Operation] = []

    def look_out(self, op: Operation) -> None:
        self.watched.append(op)

    def look_away(self, op: Operation) -> None:
        self.watched = [watched for watched in self.watched if watched is not op]

    def status(self) -> str:
        return "rank 1 was last heard of 3 s ago"

    async def wait_closed(self) -> None:
        """Nothing is ever left."""


def test_a_remote_backend_looks_out_for_who_waits_as_long_as_they_wait() -> None:
    backend = RemoteBackend()
    house = House(backend)
    queued, waits = house.push(), [house.wait("a", version) for version in (1, 2)]
    assert backend.watched == waits
    assert house.engine.expire(waits[0], 3)
    assert str(waits[0].error).endswith("'a' is at version 0; rank 1 was last heard of 3 s ago")
    assert backend.watched == waits[1:]
    house.engine.close_line(house.line)
    assert backend.watched == []
    assert queued.state is STARTED
