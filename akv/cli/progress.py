"""How far a command is, for whoever waits at a terminal."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType

__all__ = ["Bar"]

# Seconds between two looks of the line.
_PAUSE = 0.1
_WIDTH = 30


class Bar:
    """One line on stderr that is written over and over, and gone in the end; none where stderr is no terminal."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._shown = 0  # characters
        self._start = self._next = monotonic()
        self._visible = sys.stderr.isatty()

    def show(self, done: int, total: int) -> None:
        """So many bytes of all are done."""
        now = monotonic()
        if not self._visible or (now < self._next and done < total):
            return
        self._next = now + _PAUSE
        self._write(self._text(done, total, now - self._start))

    def _text(self, done: int, total: int, seconds: float) -> str:
        share = done / total if total else 0.0
        bar = "#" * int(share * _WIDTH)
        speed = f", {_amount(done / seconds)}/s" if seconds > _PAUSE else ""
        return f"{self._verb} [{bar:{_WIDTH}}] {share:4.0%} of {_amount(total)}{speed}"

    def _write(self, text: str) -> None:
        print(f"\r{text:{self._shown}}", end="", file=sys.stderr, flush=True)
        self._shown = len(text)

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._write("")
            print("\r", end="", file=sys.stderr, flush=True)


def _amount(nbytes: float) -> str:
    """A number of bytes with three digits, in units of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if nbytes < 999.5:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.4g} TB"
