"""A job of several workers, as a machine without I/O: events in, effects out.

`Job` (core) knows who the workers are, whose contribution to which key is there, and who waits for what. It never sees
a byte of a tensor: a contribution is any object of the driver's. The driver is `LocalJob` (local), on a store of this
process: it turns what its handles or a server's clients ask into events, and carries the effects out.

The flow of one push (sync, three workers, key "w" at version 7):

1.  A worker's push comes to `flows`, once: what a network repeats, a server's sessions know before this. Its shape and
    dtype are held against what is stored. If `job.ahead` says that the worker has pushed to the next round already, it
    waits for version 8 (`job.wait`). Then its values are looked at, and copied. What is not good ends here.
2.  `job.push(ticket, session, "w", contribution, now)`, under the driver's lock. The contribution joins the oldest
    round of "w" that still counts this worker and has nothing from it: this round, or the next, if the worker is ahead
    of the others. `Answer(ticket, 8)`: accepted, part of version 8.
3.  If it was the last one that the round waited for: `Fold("w", (c0, c1, c2))`, in the order of the ranks. When it is
    the turn of "w" the driver has the storage apply the sum, and reports `job.committed("w", 8, now)` (or `broken`).
    One fold per key at a time.
4.  Whoever waited for that round goes on, and if the next round is complete already its fold follows.

Under ssp and async a round is one push: step 2 puts it into a queue when the clocks of the others allow it, and its
Answer comes with step 4.

The flow of one pull: `job.pull(ticket, session, "w", now)`. If some round that is not applied yet has a contribution of
this session, the call waits for the newest of those, else nothing keeps it: `Read(ticket, "w")`, and the driver reads
the current version. What waits ends by step 4; by `tick` when a worker's lease is over (`Fail` with WorkerLost: missing
ranks, seconds waited); or by `withdraw`, with the driver's error, such as that of a time-out.

Every ticket ends in exactly one effect, every contribution in exactly one Fold or Discard, and everything that is kept
is bounded (`Limits`).
"""

from __future__ import annotations

from akv.job.core import Job
from akv.job.effects import Answer, Create, Discard, Effect, Fail, Fold, Read, Ticket, Welcome
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
    "Read",
    "Settings",
    "Ticket",
    "Welcome",
    "Wishes",
]
