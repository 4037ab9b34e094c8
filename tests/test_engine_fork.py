"""fork: a handle from before refuses in the child, also where a thread of the parent held its lock; a new one works."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

SETUP = """
import os, sys, threading, warnings
import numpy as np
from akv import sync
from akv.errors import ForkedProcess

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: this process has threads
value = np.ones(3, np.float32)

def check_child(handle, url):
    for verb in (lambda: handle.push("w", value), lambda: handle.pull("w"), handle.flush, handle.keys):
        try:
            verb()
        except ForkedProcess as error:
            assert f"the fork that made process {os.getpid()}" in str(error)
            assert "open a new one after the fork" in str(error)
        else:
            raise AssertionError("the old handle was not refused")
    handle.close()
    with sync.connect(url) as new:
        new.init("w", 2 * value)
        assert new.push("w", 5 * value) == 2
        assert new.pull("w").tolist() == [5, 5, 5]

def fork(handle, url):
    pid = os.fork()
    if pid == 0:
        try:
            check_child(handle, url)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert handle.push("w", 7 * value) == 2  # the parent goes on
"""


def run(script: str) -> None:
    """Run a script in a process of its own; a hang is a failure."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP + textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("url", ["memory://", "memory://name", "memory://?inline=0"])
def test_a_handle_from_before_the_fork_refuses_and_a_new_one_starts_empty(url: str) -> None:
    run(f"""
    with sync.connect({url!r}) as kv:
        kv.init("w", value)
        fork(kv, {url!r})
    """)


def test_it_does_not_hang_where_another_thread_held_the_locks() -> None:
    """The engine's, and that of the list of open stores."""
    run("""
    from akv.backend.registry import _open

    kv = sync.connect("memory://name")
    kv.init("w", value)
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with kv._engine._lock, _open.lock:
            held.set()
            assert go_on.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    pid = os.fork()
    if pid == 0:
        check_child(kv, "memory://name")
        os._exit(0)
    go_on.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
    assert kv.push("w", value) == 2
    """)


def test_it_does_not_hang_where_the_stores_threads_were_at_work_and_others_waited() -> None:
    run("""
    kv = sync.connect("memory://?inline=0&max_queued=1")
    inside, go_on = threading.Semaphore(0), threading.Event()

    def updater(key, pushed, stored):
        inside.release()
        assert go_on.wait(30)

    kv.init(list("abcdef"), [value] * 6)
    kv.set_updater(updater)
    threads = [threading.Thread(target=kv.push, args=(key, value)) for key in "abcdef"]
    for thread in threads:
        thread.start()
    inside.acquire()
    pid = os.fork()
    if pid == 0:
        check_child(kv, "memory://")
        os._exit(0)
    go_on.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert os.waitpid(pid, 0)[1] == 0
    """)


def test_a_handle_that_was_closed_before_the_fork_is_closed_for_another_reason() -> None:
    run("""
    from akv.errors import StoreClosed

    kv = sync.connect("memory://")
    kv.close()
    pid = os.fork()
    if pid == 0:
        try:
            kv.flush()
        except (ForkedProcess, StoreClosed):
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    """)
