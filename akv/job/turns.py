"""What the storage of a job does for all its workers: one write or several reads per key at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from akv.backend.local import LocalBackend
from akv.engine import INLINE_KEYS
from akv.job.agenda import Action, Agenda
from akv.job.steps import Step, WriteStep
from akv.operations import Operation
from akv.scheduler import Line, Scheduler

__all__ = ["Turns"]


class Turns:
    """Carries operations out when the turn of their keys has come: small ones in whatever thread brings that about.

    Args:
        backend: does the work.
        inline: whether small work may be done so, or all is left to the backend's threads.
        lock: the job's.
        agenda: the job's.
    """

    def __init__(self, backend: LocalBackend, inline: bool, lock: Lock, agenda: Agenda) -> None:
        self._backend, self._lock, self._agenda = backend, lock, agenda
        self._inline_nbytes = backend.inline_nbytes if inline else -1
        self._scheduler = Scheduler[Step](backend.budget)
        self._line = Line()

    def perform(self, op: Operation, then: Callable[[Step], list[Action]], after: Action) -> None:
        """Have the backend carry `op` out when the turn of its keys has come.

        Args:
            then: called under the lock when it is done, and returns what follows. Not for what has no keys and is
                small, from which nothing follows.
            after: called after that.
        """
        if not op.keys and self._is_small(op):
            self._backend.run(op)
            self._agenda.run([after])
            return
        step = (WriteStep if op.writes else Step)(op, self._line, then, after)
        with self._lock:
            if self._is_small(op) and self._scheduler.admits(step):
                self._scheduler.start(step)
                started = [step]
            else:
                started = self._scheduler.admit(step)
        self._agenda.run([lambda: self._start(started)])

    def _start(self, steps: Sequence[Step]) -> None:
        for step in steps:
            op = step.op
            if self._is_small(op):
                self._backend.run(op)
                self._finished(step)
            else:
                self._backend.start(op, step.finished(self._finished))

    def _is_small(self, op: Operation) -> bool:
        return (op.nbytes or self._backend.size(op)) <= self._inline_nbytes and len(op.keys) <= INLINE_KEYS

    def _finished(self, step: Step) -> None:
        op = step.op
        with self._lock:
            if op.wanted is not None and op.cancelled is None:
                # Not op.keys: by those its handle's own scheduler knows it.
                keys, op.wanted = op.wanted, None
                started, actions = self._scheduler.proceed(step, keys), []
            else:
                started, actions = self._scheduler.finish(step), [*step.then(step), step.after]
        self._agenda.run([*actions, lambda: self._start(started)])
