"""The desk by itself: what becomes of a request whose last word comes late."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from tcp_cases import serving

import akv
from akv.errors import AkvError, AkvTimeout, InvalidArgument, KeyNotFound, WorkerLost
from akv.operations import Operation, Pull
from akv_tcp import wire as w
from akv_tcp.contact import Contact
from akv_tcp.desk import Desk


class Nowhere:
    """A contact whose connection is broken at the moment."""

    where = "tcp://nowhere:1"
    connection = None


def desk_with(op: Operation) -> tuple[Desk, list[Operation]]:
    desk = Desk(lambda desk: cast(Contact, Nowhere()), lambda op, error: None)
    ended: list[Operation] = []
    desk.ask(op, ended.append)
    return desk, ended


@pytest.mark.parametrize(
    ("error", "kind"), [(WorkerLost("rank 1 was lost"), WorkerLost), (KeyNotFound("no such key"), AkvTimeout)]
)
async def test_a_time_out_does_not_swallow_the_loss_of_a_worker(error: AkvError, kind: type[AkvError]) -> None:
    op = Pull("w", None, 0)
    desk, ended = desk_with(op)
    ((number, asking),) = desk._asked.items()
    op.cancelled, asking.leaving = AkvTimeout("pull of key 'w' was not done within 1 s"), True
    desk.received(w.Error(number, w.code_of(error), str(error), None, (1,), 0.5))
    assert ended == [op]
    assert type(op.error) is kind
    assert cast(AkvError, op.error).ranks == (1,)


@pytest.mark.parametrize(("key", "priority"), [("k" * 2000, 0), ("w", 1 << 70)])
async def test_what_the_protocol_does_not_carry_is_an_error_of_that_call_alone(key: str, priority: int) -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", np.zeros(3))
        for refused in (kv.push(key, np.ones(3), priority), kv.pull(key, None, priority)):
            with pytest.raises(InvalidArgument):
                await refused
        assert await kv.push("w", np.ones(3)) == 2
