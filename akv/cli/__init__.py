"""The command `akv`: run a server, look into a running store, save and load it, look at what is installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from akv.cli import doctor, looking, saving, serving
from akv.errors import AkvError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 with one line on stderr; 130 after Ctrl-C."""
    about = "Run a server of akv stores, look into a running store, save and load it, look at what is installed."
    parser = argparse.ArgumentParser(prog="akv", description=about, epilog="`akv COMMAND --help` says more.")
    parser.add_argument("--version", action="version", version=f"akv {doctor.release()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    serving.add(commands)
    looking.add(commands)
    saving.add(commands)
    doctor.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except (AkvError, OSError) as error:
        print(f"akv: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("akv: interrupted", file=sys.stderr)
        return 130
    return status
