"""What every backend has to do, as tests: subclass `BackendTests` in a test file, and pytest runs the contract.

    from akv.testing import BackendTests

    class TestMine(BackendTests):
        def url(self, folder):
            return f"mine://{folder}"

        def peek(self, url, key):
            return what_is_stored(url, key)   # not through the store

Needs pytest, pytest-asyncio and hypothesis. Each test runs through the async and the blocking face, with inlining on
and off. Which event loops it runs on is for `pytest_asyncio_loop_factories` in your conftest.py.
"""

from __future__ import annotations

from akv.testing.atomicity import AtomicityTests
from akv.testing.cancellation import CancellationTests
from akv.testing.checkpoints import CheckpointTests
from akv.testing.compression import CompressionTests
from akv.testing.concurrency import ConcurrencyTests
from akv.testing.errors import ErrorTests
from akv.testing.forms import FormTests
from akv.testing.harness import Hooks
from akv.testing.lifetime import LifetimeTests
from akv.testing.model import ModelTests
from akv.testing.optimizers import OptimizerTests
from akv.testing.order import OrderTests
from akv.testing.ownership import OwnershipTests
from akv.testing.rows import RowTests
from akv.testing.snapshots import SnapshotTests
from akv.testing.tables import TableTests
from akv.testing.updaters import UpdaterTests
from akv.testing.values import ValueTests
from akv.testing.versions import VersionTests

__all__ = ["BackendTests", "Hooks"]


class BackendTests(
    ValueTests,
    FormTests,
    RowTests,
    TableTests,
    SnapshotTests,
    VersionTests,
    UpdaterTests,
    OptimizerTests,
    OrderTests,
    OwnershipTests,
    ErrorTests,
    AtomicityTests,
    CheckpointTests,
    CompressionTests,
    ConcurrencyTests,
    CancellationTests,
    LifetimeTests,
    ModelTests,
):
    """All of it. `Hooks` says what a subclass has to bring, and what it may."""
