"""Writing a checkpoint: its files beside those of the last one, then its manifest over the last one's, in one step."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np

from akv.backend.saved import Capture, Record, SavedUpdater
from akv.checkpoint.disk import NewFile, Step, bytes_of, disk_errors, locked_folder, sync_folder
from akv.checkpoint.layout import Part, Tensor
from akv.checkpoint.manifest import Entry, Manifest, encode, files_of, parts_of

__all__ = ["MANIFEST", "Writer", "open_writer", "sources"]

MANIFEST = "akv-manifest.json"
_OURS = re.compile(
    r"(?:values|states|rows)-([0-9a-f]{8})-[0-9]{5}-of-[0-9]{5}\.safetensors|akv-manifest-([0-9a-f]{8})\.tmp"
)


class Writer:
    """One checkpoint in the making; until `commit`, whoever loads gets the one before.

    Attributes:
        ident: eight hexadecimal digits, part of the names of its files, the same for all shards.
    """

    def __init__(self, path: str, values: bool, step: Step) -> None:
        self.ident = secrets.token_hex(4)
        self._path, self._values, self._step = path, values, step
        self._committed = False

    def write_shard(self, captures: list[Capture], number: int = 0, shards: int = 1) -> list[Entry]:
        """Write the files of shard `number`, and empty `captures`, so that memory is set free on the way."""
        records = [capture.record for capture in captures]
        arrays = sources(captures, self._values)
        captures.clear()
        return self.write_arrays(records, lambda tensor: (arrays.pop(tensor.part)(),), number, shards)

    def write_arrays(
        self,
        records: Sequence[Record],
        read: Callable[[Tensor], Iterable[memoryview]],
        number: int = 0,
        shards: int = 1,
    ) -> list[Entry]:
        """Write the files of shard `number`. `read` gives an array's bytes, of each array once, in order."""
        checksums: dict[Part, int] = {}
        for name, layout in files_of(self.ident, self._values, number, shards, records):
            with NewFile(os.path.join(self._path, name)) as file:
                file.write(layout.head)
                for tensor in layout.tensors:
                    crc = 0
                    for piece in read(tensor):
                        crc = file.write(piece, self._step, crc)
                    checksums[tensor.part] = crc
                file.sync()
        return [Entry(one, tuple(checksums[part] for part in parts_of(one, self._values))) for one in records]

    def commit(self, updater: SavedUpdater, shards: Sequence[Sequence[Entry]]) -> None:
        """Make a checkpoint of the shards."""
        draft = os.path.join(self._path, f"akv-manifest-{self.ident}.tmp")
        with NewFile(draft) as file:
            file.write(encode(Manifest(self.ident, self._values, updater, shards)))
            file.sync()
        # The names of the new files have to be there before the manifest that counts on them.
        sync_folder(self._path)
        os.replace(draft, os.path.join(self._path, MANIFEST))
        self._committed = True
        sync_folder(self._path)
        self._clear(lambda ident: ident != self.ident)

    def abandon(self) -> None:
        """Remove what was written, if it is not a checkpoint by now."""
        if not self._committed:
            self._clear(lambda ident: ident == self.ident)

    def _clear(self, unwanted: Callable[[str], bool]) -> None:
        # What cannot be removed is garbage and does no harm; the next save tries again.
        with suppress(OSError):
            for name in os.listdir(self._path):
                found = _OURS.fullmatch(name)
                if found is not None and unwanted(found[1] or found[2]):
                    os.unlink(os.path.join(self._path, name))


@contextmanager
def open_writer(verb: str, path: str, values: bool, step: Step) -> Generator[Writer]:
    """A writer to the folder `path`, made if its parent exists; with an error nothing of it remains, if possible.

    Args:
        values: whether values are saved, or only optimizer states.
        step: called about once a MiB with the bytes of arrays written since; may raise, to have it end.

    Raises:
        DiskError: something could not be written, or another save writes to the folder now.
    """
    with disk_errors(verb, path), locked_folder(path):
        writer = Writer(path, values, step)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise


def sources(captures: Sequence[Capture], values: bool) -> dict[Part, Callable[[], memoryview]]:
    """What gives the bytes of each array, in memory that stays as it is while anybody refers to it."""
    found: dict[Part, Callable[[], memoryview]] = {}
    for capture in captures:
        fetches: list[Callable[[], memoryview]] = [partial(_fetched, capture.fetch)] if values else []
        fetches += [partial(_lent, array, capture.loan) for array in capture.state]
        fetches += [] if capture.ids is None else [partial(_lent, capture.ids, capture.loan)]
        found.update(zip(parts_of(capture.record, values), fetches, strict=True))
    return found


def _fetched(fetch: Callable[[], np.ndarray]) -> memoryview:
    return bytes_of(np.ascontiguousarray(fetch()))


def _lent(array: np.ndarray, loan: object) -> memoryview:
    return bytes_of(np.asarray(_Lent(np.ascontiguousarray(array), loan)))


class _Lent:
    """Owner of a view's memory, so that the loan lasts as long as the view."""

    __slots__ = ("__array_interface__", "_loan", "_owner")

    def __init__(self, array: np.ndarray, loan: object) -> None:
        self._owner, self._loan = array, loan
        self.__array_interface__ = array.reshape(-1).view(np.uint8).__array_interface__
