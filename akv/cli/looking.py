"""`akv ls`, `info`, `get` and `put`: look into a running store, and change a value."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from akv import sync
from akv.backend.registry import Location, resolve
from akv.cli.files import read_array, write_array
from akv.errors import InvalidArgument, KeyNotFound
from akv.job.options import JOB_OPTIONS
from akv.sync import KVStore
from akv.values.keys import Key

__all__ = ["add", "change", "look"]

# Seconds for each call: somebody waits at a terminal.
TIMEOUT = 30.0

# Keys that a call asks about: a server takes 65,536 at most.
_KEYS = 1 << 14


def add(commands: Any) -> None:
    """Add the commands to a parser."""
    _add(commands, "ls", _list, "list the keys of a store with shape, dtype and version")
    _add(commands, "info", _info, "what is known of one key", key=True)
    parser = _add(commands, "get", _get, "print a value, or write it to a file", key=True)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the value there instead of printing it: as .safetensors, if its name ends so, else as .npy",
    )
    parser = _add(commands, "put", _put, "store the array of a file: init, or push where the key exists", key=True)
    parser.add_argument(
        "file",
        type=Path,
        help="a .npy file, as numpy.save writes it; or a .safetensors with the key, or with one array",
    )
    parser.set_defaults(open=change)


def _add(
    commands: Any, name: str, run: Callable[[KVStore, argparse.Namespace], None], text: str, key: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("url", help="such as tcp://127.0.0.1:7070/job")
    if key:
        parser.add_argument("key", help="text, or an integer where the store's keys are integers")
    parser.set_defaults(run=lambda chosen: _with_store(chosen, run), open=look)
    return parser


def _with_store(chosen: argparse.Namespace, run: Callable[[KVStore, argparse.Namespace], None]) -> int:
    with closing(chosen.open(chosen.url)) as kv:  # not `with kv`, which reports a worker that fails as lost
        run(kv, chosen)
    return 0


def look(url: str, timeout: float | None = TIMEOUT) -> KVStore:
    """Open a store as one who only looks: takes no worker's place in a job, and makes none by misspelling its name.

    timeout: in seconds, where neither the URL nor AKV_TIMEOUT says one.
    """
    store = resolve(url, {})
    return sync.connect(url, **_patience(store, timeout), **_as_reader(store))


def change(url: str, timeout: float | None = TIMEOUT) -> KVStore:
    """Open a store to change it: in a job as a worker, but not as the one whose number AKV_RANK is.

    timeout: see `look`.
    """
    store = resolve(url, {})
    ranked = "rank" in store.provider.options and "rank" not in store.said
    return sync.connect(url, **_patience(store, timeout), **({"rank": None} if ranked else {}))


def _patience(store: Location, timeout: float | None) -> Mapping[str, object]:
    """The option, unless somebody has said another time-out: an argument would win over that."""
    return {} if "timeout" in store.said or "AKV_TIMEOUT" in os.environ else {"timeout": timeout}


def _as_reader(store: Location) -> Mapping[str, object]:
    """A reader's options, where there are roles. What URL and environment say of a job, they say to its workers."""
    wishes = JOB_OPTIONS.keys() & store.provider.options
    if store.provider.shared:
        # Within a process only what is opened with `workers` is a job, and has roles.
        wishes = wishes - {"workers"} if store.options.get("workers") else set()
    return {**dict.fromkeys(wishes), "role": "reader"} if "role" in wishes else {}


def _list(kv: KVStore, chosen: argparse.Namespace) -> None:
    keys = kv.keys()
    infos = [info for start in range(0, len(keys), _KEYS) for info in kv.info(keys[start : start + _KEYS])]
    lines = [(repr(key), str(info.dtype), str(info.shape)) for key, info in zip(keys, infos, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells, info in zip(lines, infos, strict=True):
        padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        print(*padded, f"version {info.version}", f"{info.nbytes} bytes", sep="  ")


def _info(kv: KVStore, chosen: argparse.Namespace) -> None:
    info = kv.info(_key(kv, chosen.key))
    for name in ("shape", "dtype", "version", "nbytes", "where"):
        print(f"{name:8} {getattr(info, name)}")


def _get(kv: KVStore, chosen: argparse.Namespace) -> None:
    key = _key(kv, chosen.key)
    value = kv.pull(key)
    if chosen.output is None:
        print(np.array2string(value, threshold=1000))
    else:
        write_array(chosen.output, key, value)
        print(f"{chosen.output} has {value.dtype} {value.shape}, {value.nbytes} bytes", file=sys.stderr)


def _put(kv: KVStore, chosen: argparse.Namespace) -> None:
    key = _key(kv, chosen.key)
    value = read_array(chosen.file, key)
    try:
        version = kv.push(key, value)
    except KeyNotFound:
        kv.init(key, value)
        version = kv.info(key).version
    print(f"{key!r} is at version {version}", file=sys.stderr)


def _key(kv: KVStore, text: str) -> Key:
    """The key that was typed, of the kind that the store uses."""
    known = kv.keys()
    if known and isinstance(known[0], int):
        try:
            return int(text)
        except ValueError:
            raise InvalidArgument(f"the keys of this store are integers, not {text!r}") from None
    return text
