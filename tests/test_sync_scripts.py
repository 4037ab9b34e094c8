"""The blocking face in processes of its own: Ctrl-C, the end of a script, fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sync_cases import BIG


def script(text: str, **options: Any) -> subprocess.Popen[str]:
    code = "import akv, os, signal, sys, threading\nimport numpy as np\nfrom akv import sync\n" + text
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    return out


class TestScripts:
    def test_ctrl_c_ends_a_script_that_waits(self) -> None:
        process = script("kv = sync.create()\nprint('waiting', flush=True)\nkv.wait_version('w', 1)\n")
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT, 1)

    @pytest.mark.parametrize("size", [4, BIG])
    def test_the_last_push_of_a_script_is_not_lost(self, size: int, tmp_path: Path) -> None:
        """Nor one from a thread, nor one from an exit handler."""
        text = """
        import atexit, time
        kv = sync.create()
        def update(key, pushed, stored):
            with open(sys.argv[0] if key == "no" else %r + "/" + key, "w") as file:
                for part in np.split(pushed, 4):
                    file.write(str(int(part.sum())) + " ")
            stored += pushed
        kv.init(list("abc"), [np.zeros(%d, np.float32)] * 3)
        kv._set_updater(update)
        value = np.ones(%d, np.float32)
        atexit.register(lambda: kv.push("c", value))
        threading.Thread(target=lambda: kv.push("b", value)).start()
        kv.push("a", value)
        """
        lines = [line.removeprefix("        ") for line in (text % (str(tmp_path), size, size)).splitlines()]
        finished(script("\n".join(lines)))
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("abc", f"{size // 4} " * 4)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_a_fork_is_refused(self) -> None:
        """In the child; whatever other threads held at that moment. A handle opened there works."""
        text = """
kv = sync.connect("memory://shared")
kv.init(["w", "v"], [np.ones(4, np.float32)] * 2)
go_on = True
def push():
    while go_on:
        kv.push("v", np.ones(4, np.float32))
threads = [threading.Thread(target=push, daemon=True) for _ in range(2)]
threads.append(threading.Thread(target=lambda: kv.wait_version("w", 2), daemon=True))
for thread in threads:
    thread.start()
def child():
    for call in (lambda: kv.push("w", np.ones(4, np.float32)), kv.flush, lambda: kv.wait_version("w", 99)):
        try:
            call()
        except akv.ForkedProcess as error:
            assert "before the fork" in str(error) and "open a new one" in str(error)
        else:
            return 3
    kv.close()
    with sync.connect("memory://shared") as fresh:
        assert fresh.keys() == []
        fresh.init("w", np.ones(1 << 20, np.float32))
        assert fresh.push("w", np.ones(1 << 20, np.float32)) == 2
    return 0
for _ in range(20):
    pid = os.fork()
    if not pid:
        code = 4
        try:
            signal.alarm(30)
            code = child()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
go_on = False
assert kv.push("w", np.ones(4, np.float32)) == 2
for thread in threads:
    thread.join(30)
print("parent works")
"""
        assert finished(script(text)) == "parent works\n"
