"""Reading a checkpoint: all is checked before the first array is made, and each array when it has been read."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import numpy as np

from akv.backend.saved import Record, Restored, SavedUpdater
from akv.checkpoint.contents import Contents
from akv.checkpoint.disk import OldFile, Step, bytes_of, disk_errors
from akv.checkpoint.layout import Part, Tensor
from akv.checkpoint.manifest import MOST_NBYTES, Manifest, files_of, parts_of
from akv.checkpoint.parsing import decode
from akv.checkpoint.restoring import restored
from akv.checkpoint.writing import MANIFEST
from akv.errors import BadCheckpoint, InvalidArgument
from akv.values.buffers import empty

__all__ = ["Reader", "open_checkpoint"]

Places = dict[Part, tuple[OldFile, Tensor]]


class Reader:
    """An open checkpoint, whose manifest and files agree.

    Attributes:
        contents: what there is to read, of all shards, without values if none are wanted.
        nbytes: of all its arrays.
    """

    def __init__(self, manifest: Manifest, places: Places, values: bool, step: Step) -> None:
        self.contents = Contents(values, manifest.updater, [entry.record for entry in manifest.entries])
        self._tensors, self.nbytes = self.contents.tensors()
        self._checksums = {
            part: checksum
            for entry in manifest.entries
            for part, checksum in zip(parts_of(entry.record, manifest.values), entry.checksums, strict=True)
        }
        self._places, self._step = places, step

    @property
    def updater(self) -> SavedUpdater:
        """What the saved store did with pushed values."""
        return self.contents.updater

    @property
    def records(self) -> Sequence[Record]:
        """The keys."""
        return self.contents.records

    def read(self, record: Record) -> Restored:
        """The arrays of one key, fresh.

        Raises:
            BadCheckpoint: they are damaged.
        """
        values = self.contents.values
        arrays = [self._array(part) for part in parts_of(record, values)]
        return restored(record, values, arrays)

    def read_pieces(self, nbytes: int) -> Iterator[memoryview]:
        """The bytes of all arrays, in the order of `Contents.tensors`, in pieces of `nbytes`; the last may be shorter.

        A piece's memory stays as it is until the second one after it is asked for.

        Raises:
            BadCheckpoint: they are damaged; which may only show when some of them have been given out.
        """
        memory = [np.empty(min(nbytes, self.nbytes), np.uint8).data for _ in range(2)]
        filled = 0
        for tensor in self._tensors:
            start, crc = 0, 0
            while start < tensor.nbytes:
                target = memory[0][filled : filled + tensor.nbytes - start]
                crc = self._fill(tensor.part, target, start, crc)
                start, filled = start + len(target), filled + len(target)
                if filled == nbytes:
                    yield memory[0]
                    memory.reverse()
                    filled = 0
            self._check(tensor.part, crc)
        if filled:
            yield memory[0][:filled]

    def _array(self, part: Part) -> np.ndarray:
        _, tensor = self._places[part]
        array = empty(tensor.shape, tensor.dtype)
        self._check(part, self._fill(part, bytes_of(array), 0, 0))
        return array

    def _fill(self, part: Part, target: memoryview, start: int, crc: int) -> int:
        """Read bytes of an array, from `start` on."""
        file, tensor = self._places[part]
        crc = file.read_into(target, tensor.start + start, self._step, crc)
        if tensor.dtype == np.bool_ and np.frombuffer(target, np.uint8).max(initial=0) > 1:
            raise BadCheckpoint(f"{tensor.name!r:.80} in {file.name} has a bool that is neither 0 nor 1")
        return crc

    def _check(self, part: Part, crc: int) -> None:
        file, tensor = self._places[part]
        if crc != self._checksums[part]:
            raise BadCheckpoint(f"{tensor.name!r:.80} in {file.name} is damaged: its checksum is another")


@contextmanager
def open_checkpoint(verb: str, path: str, values: bool, step: Step) -> Generator[Reader]:
    """A reader of the checkpoint in the folder `path`.

    Args:
        values: whether values are wanted, or only optimizer states.
        step: called about once a MiB with the bytes of arrays read since; may raise, to have it end.

    Raises:
        BadCheckpoint: there is none, or it is damaged. DiskError: it could not be read.
        InvalidArgument: it does not hold what is wanted, or it names an optimizer that is not known here.
        DTypeMismatch: a dtype needs ml_dtypes.
    """
    with disk_errors(verb, path), ExitStack() as stack:
        manifest, places = _open(path, values, stack)
        if values and not manifest.values:
            raise InvalidArgument(f"{verb}({path!r}): it holds optimizer states only, for load_optimizer_states")
        if not values and manifest.updater.optimizer is None:
            raise InvalidArgument(f"{verb}({path!r}): it holds no optimizer; the store had none")
        yield Reader(manifest, places, values, step)


def _open(path: str, values: bool, stack: ExitStack) -> tuple[Manifest, Places]:
    manifest = _read_manifest(path)
    while True:
        try:
            return manifest, _open_files(path, manifest, values and manifest.values, stack)
        except FileNotFoundError as error:
            # A save may have come between: then there is another manifest, and what it names is there.
            before, manifest = manifest, _read_manifest(path)
            if manifest.ident == before.ident:
                raise BadCheckpoint(f"{error.filename!r} is missing") from None


def _read_manifest(path: str) -> Manifest:
    try:
        file = OldFile(os.path.join(path, MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.exists(path):
            raise BadCheckpoint(f"it is no checkpoint: there is no {MANIFEST} in it") from None
        raise
    with closing(file):
        if file.nbytes > MOST_NBYTES:
            raise BadCheckpoint(f"the manifest has {file.nbytes} bytes, the most is {MOST_NBYTES}")
        return decode(file.read(file.nbytes))


def _open_files(path: str, manifest: Manifest, values: bool, stack: ExitStack) -> Places:
    places: Places = {}
    for number, shard in enumerate(manifest.shards):
        records = [entry.record for entry in shard]
        for name, layout in files_of(manifest.ident, values, number, len(manifest.shards), records):
            file = stack.enter_context(closing(OldFile(os.path.join(path, name))))
            if file.nbytes != layout.nbytes:
                raise BadCheckpoint(f"{name} has {file.nbytes} bytes; the manifest says {layout.nbytes}")
            if file.read(len(layout.head)) != layout.head:
                raise BadCheckpoint(f"{name} does not begin as the manifest says")
            places.update((tensor.part, (file, tensor)) for tensor in layout.tensors)
    return places
