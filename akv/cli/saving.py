"""`akv save` and `akv load`: a store to a folder, and back."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from time import perf_counter
from typing import Any

from akv.checkpoint import open_checkpoint
from akv.checkpoint.disk import idle
from akv.cli.looking import change, look
from akv.cli.progress import Bar
from akv.sync import KVStore

__all__ = ["add"]

Verb = Callable[..., None]
Open = Callable[[str], KVStore]


def add(commands: Any) -> None:
    """Add the commands to a parser."""
    parser = _add(commands, "save", "write all that a store holds to a folder on this machine")
    parser.add_argument("path", help="the folder to write; its parent has to exist")
    parser.set_defaults(run=lambda chosen: _run(chosen, lambda url: look(url, None), KVStore.save, "saved"))
    parser = _add(commands, "load", "take in all that a checkpoint holds")
    parser.add_argument("path", help="the folder of the checkpoint, on this machine")
    parser.set_defaults(run=lambda chosen: _run(chosen, lambda url: change(url, None), KVStore.load, "loaded"))


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("url", help="such as tcp://127.0.0.1:7070/job")
    return parser


def _run(chosen: argparse.Namespace, connect: Open, verb: Verb, done: str) -> int:
    start = perf_counter()
    with closing(connect(chosen.url)) as kv, Bar(verb.__name__) as bar:  # see looking
        verb(kv, chosen.path, progress=bar.show)
    seconds = perf_counter() - start
    with open_checkpoint(verb.__name__, chosen.path, True, idle) as reader:
        keys, where = len(reader.records), chosen.path
        print(f"{done} {keys} {'key' if keys == 1 else 'keys'}, {reader.nbytes} bytes in {seconds:.2f} s: {where}")
    return 0
