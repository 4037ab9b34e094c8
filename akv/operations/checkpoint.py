"""Saving to a folder, and loading from it: see `cut`, and akv.checkpoint for the files."""

from __future__ import annotations

import os
from collections.abc import Callable

from akv.backend.saved import CheckpointStorage
from akv.checkpoint import Contents, open_checkpoint, open_writer
from akv.errors import InvalidArgument
from akv.operations.cut import Restore, Staged, TakeCut

__all__ = ["Load", "LoadOptimizerStates", "Progress", "Save", "SaveOptimizerStates"]

Progress = Callable[[int, int], object]
"""Called with the bytes done, and the bytes in all."""


class _OnDisk(Staged):
    """An operation on a folder.

    Attributes:
        path: absolute.
    """

    def __init__(self, path: object, progress: object) -> None:
        self.path = _folder(self.verb, path)
        self._progress = _progress(self.verb, progress)
        self._done = self._total = 0
        super().__init__()

    def expect(self, total: int) -> None:
        """So many bytes of arrays are to be moved."""
        self._total = total
        self.report()

    def step(self, nbytes: int) -> None:
        """So many more of them were; raises whatever is to end the operation. See akv.checkpoint."""
        if self.cancelled is not None:
            raise self.cancelled
        if nbytes:
            self._done += nbytes
            self.report()

    def report(self) -> None:
        """Tell how far it is."""
        if self._progress is not None:
            self._progress(self._done, self._total)


class Save(_OnDisk, TakeCut):
    """Write all that is stored to a folder."""

    def __init__(self, path: object, progress: object = None) -> None:
        super().__init__(path, progress)

    def _keep(self, lasting: bool) -> None:
        if lasting:
            self.wanted = ()
        else:
            self._finish()

    def _finish(self) -> None:
        _, total = Contents(self.values, self.updater, [capture.record for capture in self.captures]).tensors()
        self.expect(total)
        with open_writer(self.verb, self.path, self.values, self.step) as writer:
            writer.commit(self.updater, [writer.write_shard(self.captures)])


class SaveOptimizerStates(Save):
    """Write what the optimizer keeps to a folder, and not the values."""

    verb = "save_optimizer_states"
    values = False


class Load(_OnDisk, Restore):
    """Take in all that a folder holds."""

    def __init__(self, path: object, progress: object = None) -> None:
        super().__init__(path, progress)

    def _gather(self, storage: CheckpointStorage) -> None:
        with open_checkpoint(self.verb, self.path, self.values, self.step) as reader:
            self.updater = reader.updater
            storage.check_restore(self.verb, reader.updater, reader.records, self.values)
            self.expect(reader.nbytes)
            self.items = [reader.read(record) for record in reader.records]


class LoadOptimizerStates(Load):
    """Take in what the optimizer kept, and not the values."""

    verb = "load_optimizer_states"
    values = False


def _folder(verb: str, path: object) -> str:
    """The absolute path of a folder. Raises InvalidArgument: it is no path."""
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
        if isinstance(text, str) and text and "\0" not in text:
            os.fsencode(text)
            return os.path.abspath(text)
    except (TypeError, UnicodeEncodeError):
        pass
    raise InvalidArgument(f"{verb} takes the path of a folder, a str or an os.PathLike, not {path!r:.200}")


def _progress(verb: str, progress: object) -> Progress | None:
    if progress is None or callable(progress):
        return progress
    raise InvalidArgument(f"{verb}: progress is called with two numbers of bytes; {progress!r:.80} cannot be called")
