"""Backends that carry operations out in the wrong way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broken import caught_by

from akv.backend.local import LocalBackend
from akv.backend.storage import Storage, Transaction
from akv.backend.thread_pool import ThreadPool
from akv.operations import Operation
from akv.scheduler import Budget


@caught_by("test_the_urgent_goes_first")
class IgnoresPriority(LocalBackend):
    """It starts whatever comes, and does it in the order in which it came."""

    def __init__(self, storage: Storage, max_queued: int) -> None:
        super().__init__("broken", storage, max_queued)
        self.budget = Budget(8, 1 << 40, max_queued)
        self._pool = ThreadPool("akv-broken", 1)


@caught_by("test_what_has_begun_is_done_for_all_keys_or_for_none")
class LosesWhatIsCancelled(LocalBackend):
    def __init__(self, storage: Storage, max_queued: int) -> None:
        super().__init__("broken", storage, max_queued)

    def start(self, op: Operation, done: Callable[[Operation], None]) -> None:
        super().start(op, lambda op: None if op.cancelled else done(op))


@caught_by("test_what_has_begun_is_done_for_all_keys_or_for_none")
class StopsBetweenKeys(LocalBackend):
    def __init__(self, storage: Storage, max_queued: int) -> None:
        super().__init__("broken", storage, max_queued)

    def _run_sliced(self, op: Operation, first_step: bool, transaction: Transaction, first: bool) -> Any:
        if op.cancelled:
            raise op.cancelled
        return super()._run_sliced(op, first_step, transaction, first)
