"""The folder of a checkpoint: files that are whole or not there, whatever happens."""

from __future__ import annotations

import os
import stat
import sys
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np

from akv.errors import AkvError, BadCheckpoint, DiskError

if sys.platform != "win32":
    import fcntl

__all__ = ["NewFile", "OldFile", "Step", "bytes_of", "disk_errors", "idle", "locked_folder", "sync_folder"]

Step = Callable[[int], None]
"""Called about once a MiB with the bytes of arrays moved since; what it raises ends the work."""

# As much as a core's cache takes between the checksum and the disk; also how soon a cancelled save ends.
_CHUNK = 1 << 20
_ON_WINDOWS = os.name == "nt"


def idle(nbytes: int) -> None:
    """For bytes that nobody counts, and nobody stops."""


@contextmanager
def disk_errors(verb: str, path: str) -> Generator[None]:
    """Turn what the system raises into DiskError, and say which folder it was."""
    try:
        yield
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{verb}({path!r}): {error}; nothing was loaded") from None
    except AkvError:  # some are OSErrors too
        raise
    except OSError as error:
        where = f" at {error.filename!r}" if error.filename else ""
        raise DiskError(error.errno, f"{verb}({path!r}) failed{where}: {error.strerror}") from error


@contextmanager
def locked_folder(path: str) -> Generator[None]:
    """Make the folder unless it is there, and keep others from saving to it; its parent has to exist.

    Raises:
        DiskError: somebody else saves to it now. OSError: it cannot be made.
    """
    try:
        os.mkdir(path)
        sync_folder(os.path.dirname(path))
    except FileExistsError:
        pass
    if _ON_WINDOWS:  # where folders cannot be opened
        yield
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(folder, path)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, path: str) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DiskError(
            error.errno, f"another save writes to {path!r} now; wait for it, or choose another folder"
        ) from None
    except OSError:
        return  # a file system without locks


def sync_folder(path: str) -> None:
    """Have the names in a folder survive a loss of power."""
    if not _ON_WINDOWS:
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class NewFile:
    """A file that was not there before, written from its beginning."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - this class is the context manager

    def write(self, data: bytes | memoryview, step: Step = idle, crc: int = 0) -> int:
        """Append the bytes; return the CRC-32 of them and those before, whose CRC-32 is `crc`."""
        left = memoryview(data)
        while left:
            step(0)
            done = self._file.write(left[:_CHUNK])
            crc, left = zlib.crc32(left[:done], crc), left[done:]
            step(done)
        return crc

    def sync(self) -> None:
        """Have what was written survive a loss of power."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


class OldFile:
    """A file to read from.

    Attributes:
        name: without the folder.
        nbytes: its size when it was opened.
    """

    def __init__(self, path: str) -> None:
        """Raises BadCheckpoint: it is no regular file."""
        self.name = os.path.basename(path)
        self._file = open(path, "rb", buffering=0, opener=_open_at_once)  # noqa: SIM115 - see `close`
        status = os.fstat(self._file.fileno())
        self.nbytes = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise BadCheckpoint(f"{self.name} is no regular file")

    def read(self, nbytes: int) -> bytes:
        """The first bytes of the file, at most so many."""
        buffer = bytearray(min(nbytes, self.nbytes))
        self.read_into(memoryview(buffer), 0)
        return bytes(buffer)

    def read_into(self, target: memoryview, start: int, step: Step = idle, crc: int = 0) -> int:
        """Fill `target` with what lies from `start` on; return the CRC-32 of it and what came before (`crc`).

        Raises:
            BadCheckpoint: the file ends before.
        """
        left = target
        self._file.seek(start)
        while left:
            step(0)
            done = self._file.readinto(left[:_CHUNK])
            if not done:
                raise BadCheckpoint(f"{self.name} was cut short while it was read")
            crc, left = zlib.crc32(left[:done], crc), left[done:]
            step(done)
        return crc

    def close(self) -> None:
        """Close it; closing twice is fine."""
        self._file.close()


def _open_at_once(path: str, flags: int) -> int:
    # A pipe in a file's place must not hang the reader.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def bytes_of(array: np.ndarray) -> memoryview:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data
