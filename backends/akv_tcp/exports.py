"""A store on its way out: captured at one moment, and read piece by piece, which takes as long as the client takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from akv import operations as ops
from akv.backend.storage import Storage, Transaction
from akv.checkpoint import Contents, sources
from akv.checkpoint.layout import Part
from akv.errors import InvalidArgument

from . import wire as w

__all__ = ["Cut", "Export", "ExportStates", "FetchPiece"]

# The most bytes of one answer, whatever the client asks for.
_MOST = 16 << 20


class Cut:
    """What a store held at one moment. Large arrays are never copied; what was read is let go on the way.

    Attributes:
        contents: as JSON.
    """

    def __init__(self, contents: Contents, arrays: Mapping[Part, Callable[[], memoryview]]) -> None:
        self.contents = contents.encode()
        tensors, self._nbytes = contents.tensors()
        self._left = deque((one.start, one.start + one.nbytes, arrays[one.part]) for one in tensors if one.nbytes)

    def read(self, offset: int, nbytes: int) -> tuple[memoryview, ...]:
        """Bytes from `offset` on, in runs that follow each other; in all `nbytes`, or less: at least one if there is.

        Raises:
            InvalidArgument: they are none of the arrays' bytes, or were let go.
        """
        left = self._left
        while left and left[0][1] <= offset:
            left.popleft()
        if not left or offset < left[0][0]:
            raise InvalidArgument(f"byte {offset} of {self._nbytes} is not there any more, or never was")
        stop = min(self._nbytes, offset + min(nbytes, _MOST))
        runs: list[memoryview] = []
        for start, end, fetch in left:
            if start >= stop:
                break
            runs.append(fetch()[max(0, offset - start) : min(stop, end) - start])
        return _joined(runs)


def _joined(runs: Sequence[memoryview]) -> tuple[memoryview, ...]:
    """The same bytes with small runs copied together: each run of its own costs more than its bytes."""
    found: list[memoryview] = []
    small: list[memoryview] = []
    for run in [*runs, None]:
        if run is not None and len(run) < w.INLINE:
            small.append(run)
            continue
        if small:
            found.append(memoryview(b"".join(small)))
            small = []
        if run is not None:
            found.append(run)
    return tuple(found)


class Export(ops.TakeCut):
    """Make a cut of the store.

    Attributes:
        cut: the outcome.
    """

    def _finish(self) -> None:
        captures, self.captures = self.captures, []
        contents = Contents(self.values, self.updater, [capture.record for capture in captures])
        self.cut = Cut(contents, sources(captures, self.values))


class ExportStates(Export):
    """Make a cut of what its optimizer keeps."""

    verb = "save_optimizer_states"
    values = False


class FetchPiece(ops.Staged):
    """Read a piece of a cut.

    Attributes:
        runs: the outcome.
    """

    verb = "save"
    writes = False

    def __init__(self, cut: Cut, offset: int, nbytes: int) -> None:
        self._cut, self._offset, self._nbytes = cut, offset, nbytes
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        self.runs = self._cut.read(self._offset, self._nbytes)
        return ()
