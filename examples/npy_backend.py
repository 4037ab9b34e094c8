"""A backend of one's own: a store that keeps its values in a folder of .npy files, `npy:///path/of/the/folder`.

    python examples/npy_backend.py

akv's base class does the sums, updaters, optimizers, rows, versions and checks; what is left is where a value lives. A
package would name `backend` as an entry point of the group `akv.backends`; a script registers it, as `main` does. That
it does all a store has to do is for akv's conformance suite to say: see tests/test_example_npy_backend.py.

One process at a time may use a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np

import akv
from akv.backend.options import Option, flag
from akv.backend.registry import register
from akv.backend.simple import SimpleProvider, SimpleStorage
from akv.values.dtypes import EXTENDED, extended_dtype
from akv.values.keys import Key

__all__ = ["NpyStorage", "backend", "path_of"]


class NpyStorage(SimpleStorage):
    """One file per key: the value, which `np.load` reads, and after it the key, the version and the dtype as JSON."""

    where = "disk"

    def __init__(self, folder: Path, fsync: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._fsync = folder, fsync
        super().__init__()

    def get(self, key: Key) -> np.ndarray:
        return read(path_of(self._folder, key))[0]

    def put(self, key: Key, array: np.ndarray, version: int) -> None:
        self._replace(path_of(self._folder, key), array, {"key": key, "version": version})

    def remove(self, key: Key, version: int) -> None:
        # The version has to last, although the value is gone.
        self._replace(path_of(self._folder, key), np.empty(0), {"key": key, "version": version, "removed": True})

    def scan(self) -> Iterator[tuple[Key, np.ndarray | None, int]]:
        for path in sorted(self._folder.glob("*.npy")):
            array, about = read(path)
            yield about["key"], None if "removed" in about else array, about["version"]

    def _replace(self, path: Path, array: np.ndarray, about: dict[str, Any]) -> None:
        """In one step: whatever happens, there is the old file or the new one."""
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            write(file, array, about)
            if self._fsync:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)


def path_of(folder: Path, key: Key) -> Path:
    """The file of a key: for people a piece of the key, for uniqueness its hash (1 and "1" are different keys)."""
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
    return folder / f"{quote(str(key), safe='', errors='replace')[:64]}-{digest}.npy"


def write(file: BinaryIO, array: np.ndarray, about: dict[str, Any]) -> None:
    """A value, and what there is to say about it."""
    if array.dtype.name in EXTENDED:  # bfloat16 and its kin, which a .npy file has no name for
        about = {**about, "dtype": array.dtype.name}
        array = array.view(f"u{array.dtype.itemsize}")
    np.save(file, array, allow_pickle=False)
    np.save(file, np.array(json.dumps(about)), allow_pickle=False)


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """What `write` wrote."""
    with path.open("rb") as file:
        array: np.ndarray = np.load(file, allow_pickle=False)
        about: dict[str, Any] = json.loads(str(np.load(file, allow_pickle=False)))
    return array.view(extended_dtype(about["dtype"], str(path))) if "dtype" in about else array, about


def open_folder(name: str, options: Mapping[str, Any]) -> NpyStorage:
    """Open the folder that stands in the URL."""
    folder = Path(name)
    if not folder.is_absolute() or str(folder.resolve()) != name:
        # By two names it would be two stores.
        raise akv.InvalidArgument(f"npy:// takes the absolute path of a folder, such as {folder.resolve()}, not {name}")
    return NpyStorage(folder, options["fsync"])


backend = SimpleProvider("npy", open_folder, options={"fsync": Option(flag, False)}, quick=False)


async def main(folder: str) -> None:
    """Train one weight, close the store, and find it again."""
    async with akv.connect(f"npy://{folder}") as kv:
        await kv.init("w", np.ones(3, np.float32))
        await kv.set_optimizer(akv.optim.SGD(learning_rate=0.5))
        print("version", await kv.push("w", np.array([1, 2, 3], np.float32)))
    async with akv.connect(f"npy://{folder}") as kv:
        print("found again:", await kv.pull("w"), await kv.info("w"))
    print("files:", *os.listdir(folder))


if __name__ == "__main__":
    register("npy", backend)
    with tempfile.TemporaryDirectory() as temporary:
        akv.run(main(str(Path(temporary).resolve())))
