"""Run the benchmarks and print a table, which docs/benchmarks.md keeps.

python -m benchmarks             all of them, some minutes
python -m benchmarks --smoke     all of them, tiny: do they run?
python -m benchmarks small bulk  some of them
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform

import numpy as np

NAMES = (
    "small",
    "bulk",
    "lag",
    "memory",
    "rows",
    "network",
    "network_lag",
    "urgent",
    "server_memory",
    "rounds",
    "link",
    "optimizers",
    "compression",
    "checkpoint",
)
# Only by name: few machines have what they need.
APART = ("gpu",)


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, *APART, []], help="which (default: all)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that they run, measures nothing")
    arguments = parser.parse_args()
    print(
        f"CPython {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores ({platform.machine()})\n"
    )
    print("| what | measured | goal | |\n|---|---|---|---|")
    for name in arguments.names or NAMES:
        for row in importlib.import_module(f"benchmarks.{name}").run(arguments.smoke):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
