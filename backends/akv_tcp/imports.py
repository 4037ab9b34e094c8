"""A store on its way in: staged piece by piece, beside what is stored, and taken in when all is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from akv import operations as ops
from akv.backend.saved import CheckpointStorage, Record, Restored
from akv.backend.storage import Storage, Transaction
from akv.checkpoint import Contents
from akv.checkpoint.layout import Part, Tensor
from akv.checkpoint.manifest import tensors_of
from akv.checkpoint.restoring import restored
from akv.errors import AkvError, BackendUnavailable, BadCheckpoint, InvalidArgument
from akv.values.buffers import empty

from . import wire as w
from .wire.entries import check_entry

__all__ = ["Check", "Import", "ImportStates", "StagePiece", "Staging"]

_VERBS = {True: "load", False: "load_optimizer_states"}
# In place of a number of bytes: a client may have sent more before it hears that the stream is at its end.
_SPENT = -1


class Staging:
    """The arrays of some contents, as far as they have come.

    Attributes:
        nbytes: of all of them.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        tensors, self.nbytes = contents.tensors()
        self._due = deque(tensor for tensor in tensors if tensor.nbytes)
        self._filled = 0
        self._arrays: dict[Part, np.ndarray] = {}

    def write(self, offset: int, data: memoryview) -> None:
        """Take in the next bytes.

        Raises:
            InvalidArgument: they are not the next. BadCheckpoint. BackendUnavailable: there is no memory for them.
        """
        if offset != self._filled or offset + len(data) > self.nbytes:
            raise InvalidArgument(
                f"{len(data)} bytes came for place {offset}, where {self._filled} of {self.nbytes} bytes are there"
            )
        # Until all is in its place: after an error nothing more is taken in, nor handed out.
        self._filled, stop = _SPENT, offset + len(data)
        while data:
            tensor = self._due[0]
            start = offset - tensor.start
            piece = np.frombuffer(data[: tensor.nbytes - start], np.uint8)
            if tensor.dtype == np.bool_ and piece.max() > 1:
                raise BadCheckpoint(f"key {tensor.part[0]!r:.80} has a bool that is neither 0 nor 1")
            self._memory(tensor)[start : start + piece.size] = piece
            data, offset = data[piece.size :], offset + piece.size
            if offset == tensor.start + tensor.nbytes:
                self._due.popleft()
        self._filled = stop

    def items(self) -> list[Restored]:
        """All that was staged, for the store to keep.

        Raises:
            InvalidArgument: not all has come, or it was handed out before.
        """
        if self._filled != self.nbytes:
            raise InvalidArgument(f"{self._filled} of {self.nbytes} bytes have come; nothing was loaded")
        self._filled = _SPENT
        return [self._item(record) for record in self.contents.records]

    def _item(self, record: Record) -> Restored:
        values = self.contents.values
        arrays = [
            self._arrays.pop(one.part) if one.part in self._arrays else empty(one.shape, one.dtype)
            for one in tensors_of(record, values)
        ]
        return restored(record, values, arrays)

    def _memory(self, tensor: Tensor) -> np.ndarray:
        """An array's bytes."""
        if tensor.part not in self._arrays:
            try:
                self._arrays[tensor.part] = empty(tensor.shape, tensor.dtype)
            except MemoryError:
                raise BackendUnavailable(f"the server has no memory for {tensor.nbytes} bytes") from None
        return self._arrays[tensor.part].reshape(-1).view(np.uint8)


class Check(ops.Staged):
    """Find out whether a checkpoint of these contents would be taken in.

    Attributes:
        staging: the outcome.
    """

    verb = "load"
    writes = False

    def __init__(self, text: memoryview) -> None:
        self._text = text
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        able = self.able(storage)
        contents = Contents.decode(bytes(self._text))
        self._text = memoryview(b"")
        for record in contents.records:
            _check_reach(record)
        able.check_restore(_VERBS[contents.values], contents.updater, contents.records, contents.values)
        self.staging = Staging(contents)
        return ()


class StagePiece(ops.Staged):
    """Take in a piece."""

    verb = "load"
    writes = False

    def __init__(self, staging: Staging, offset: int, data: memoryview) -> None:
        self._staging, self._offset, self._data = staging, offset, data
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        self._staging.write(self._offset, self._data)
        self._data = memoryview(b"")
        return ()


class Import(ops.Restore):
    """Have what was staged take effect."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        super().__init__()

    def _gather(self, storage: CheckpointStorage) -> None:
        self.updater, self.items = self._staging.contents.updater, self._staging.items()


class ImportStates(Import):
    """The same, for what the optimizer kept."""

    verb = "load_optimizer_states"
    values = False


def _check_reach(record: Record) -> None:
    """Raise InvalidArgument for a key that could be stored, but that no client could name or read."""
    try:
        check_entry((record.key, 0, int(w.dtype_from_numpy(record.dtype)), record.shape, 0, 0, 0, 0, 0))
        str(record.key).encode()
    except (ValueError, AkvError) as error:
        raise InvalidArgument(f"key {record.key!r:.80} cannot be kept by a server: {error}") from None
