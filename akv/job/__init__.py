"""A job of several workers, as a machine without I/O: events in, effects out.

`Job` (core) knows who the workers are, whose contribution to which key is there, who waits for what, and what was
answered already. It never sees a byte of a tensor: a contribution is any object of the driver's, and the driver, be it
a server on a network, `local` in one process, or a simulation, turns messages into events and effects into messages.

The flow of one push (sync, three workers, key "w" at version 7):

1.  A client sends a push. When all its bytes are there and are good, the driver calls
    `job.push(ticket, session, "w", contribution, now, number=5)`. (If they are bad, `job.refuse(...)`.)
2.  The ledger of (session, "w") says that 5 is new. Had it been sent before, its answer would be given again, or,
    while it is still in progress, the new ticket would take the place of the old one: never an early answer.
3.  The contribution joins the oldest round of "w" that still counts this worker and has nothing from it: this round,
    or the next, if the worker is ahead of the others. `Answer(ticket, 8)`: accepted, part of version 8.
4.  If it was the last one that the round waited for: `Fold("w", (0, 1, 2), (c0, c1, c2), 8)`. The driver has the
    storage apply the sum, in this order, and reports `job.committed("w", 8, now)` (or `broken`). One fold per key at
    a time.
5.  Whoever waited for that round goes on, and if the next round is complete already its fold follows.

Under ssp and async a round is one push: step 3 puts it into a queue when the clocks of the others allow it, and its
Answer comes with step 5.

The flow of one pull: `job.pull(ticket, session, "w", now)`. If some round that is not applied yet has a contribution of
this session, the call waits for the newest of those, else nothing keeps it: `Read(ticket, "w")`, and the driver reads
the current version and answers. What waits ends by step 5, by `tick` when its deadline or a worker's lease is over
(`Fail` with AkvTimeout or WorkerLost: key, missing ranks, seconds waited), or by `withdraw`.

Every ticket ends in exactly one effect, every contribution in exactly one Fold or Discard, and everything that is kept
is bounded (`Limits`).
"""

from __future__ import annotations

from akv.job.core import Job
from akv.job.effects import Answer, Create, Discard, Effect, Fail, Fold, Lost, Read, Ticket, Welcome
from akv.job.settings import Limits, Settings, Wishes

__all__ = [
    "Answer",
    "Create",
    "Discard",
    "Effect",
    "Fail",
    "Fold",
    "Job",
    "Limits",
    "Lost",
    "Read",
    "Settings",
    "Ticket",
    "Welcome",
    "Wishes",
]
