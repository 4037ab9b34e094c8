"""The garbage collector of a server: it does not look at what lasts, and still finds all cycles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tcp_cases import PATIENCE, process

SCRIPT = """
import gc
from akv_tcp.serve import calm_collector

class Knot:
    count = 0
    def __init__(self):
        self.me = self
        Knot.count += 1
    def __del__(self):
        Knot.count -= 1

calm_collector()
print(len(gc.get_objects()), gc.get_freeze_count())
most = 0
for _ in range(200_000):
    Knot()
    most = max(most, Knot.count)
gc.collect()
old = [Knot() for _ in range(100_000)]
gc.collect(1)
del old
kept = []
while Knot.count and len(kept) < 3_000_000:
    kept.append([])
print(most, Knot.count)
"""
# Objects that a pass over the young ones and those of the second generation looks at.
MOST = 50_000


def test_what_lasts_is_not_looked_at_and_cycles_of_any_age_are_collected() -> None:
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=4 * PATIENCE, check=True
    )
    looked_at, frozen, most, left = map(int, found.stdout.split())
    assert looked_at < 1000 < 10_000 < frozen
    assert 0 < most < MOST
    assert left == 0


def test_a_server_does_so_before_it_says_where_it_is(tmp_path: Path) -> None:
    code = f"""
import gc, pathlib, sys
from akv_tcp import serve
calm = serve.calm_collector
def noted():
    calm()
    pathlib.Path({str(tmp_path / "frozen")!r}).write_text(str(gc.get_freeze_count()))
serve.calm_collector = noted
sys.exit(serve.serve("127.0.0.1:0", None, "memory://"))
"""
    with process(code):
        assert int((tmp_path / "frozen").read_text()) > 10_000
