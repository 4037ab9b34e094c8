"""Compression: agreeing on it, and pushes and pulls that travel packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from akv.backend.compressed import CodedRead, CompressionStorage
from akv.backend.storage import Storage, Transaction
from akv.compression import Coded, Scheme
from akv.errors import InvalidArgument
from akv.operations.base import Operation
from akv.operations.control import Compiling
from akv.values.keys import Key
from akv.values.selection import Selection

__all__ = ["CodedPull", "CodedPush", "CodedPushPull", "SetCompression"]


class SetCompression(Compiling):
    """Agree on a scheme. `senders_pack`: who pushes has packed already, so that nothing is packed here."""

    verb = "set_gradient_compression"

    def __init__(self, spec: Mapping[str, object], senders_pack: bool = False) -> None:
        self.scheme = Scheme.of(spec)
        self._senders_pack = senders_pack
        super().__init__()

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        _able(storage).set_compression(self.scheme, self._senders_pack)
        return ()


class CodedPush(Operation):
    """A push of what a sender has packed."""

    verb = "push"

    def __init__(self, keys: Sequence[Key], values: Sequence[Coded], priority: int) -> None:
        selection = Selection.of(list(keys))
        if selection.repeats:
            raise InvalidArgument(f"{self.verb}: a key stands twice among packed values: {selection.keys!r:.200}")
        self.groups = [[value] for value in values]
        super().__init__(selection, priority, sum(value.nbytes for value in values))

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        begin = _able(storage).begin_coded
        return [begin(key, group) for key, group in zip(self.keys, self.groups, strict=True)]

    def outcome(self, results: list[Any]) -> Any:
        return results


class CodedPushPull(CodedPush):
    """The same, then a read of the result."""

    verb = "pushpull"

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        return [*super().begin(storage), *_reads(storage, self.keys)]

    def outcome(self, results: list[Any]) -> Any:
        return results[len(self.keys) :]


class CodedPull(Operation):
    """A pull whose values leave packed, where the scheme says so and packing makes them smaller."""

    verb = "pull"
    writes = False

    def __init__(self, keys: Sequence[Key], priority: int) -> None:
        super().__init__(Selection.of(list(keys)), priority, 0)

    def size(self, storage: Storage) -> int:
        return sum(map(storage.nbytes, self.keys))

    def begin(self, storage: Storage) -> Sequence[Transaction]:
        return _reads(storage, self.keys)

    def outcome(self, results: list[Any]) -> Any:
        return self.selection.spread(results)


def _reads(storage: Storage, keys: Sequence[Key]) -> list[Transaction]:
    codec = _able(storage).pull_codec
    return [CodedRead(storage, codec, key) for key in keys]


def _able(storage: Storage) -> CompressionStorage:
    if isinstance(storage, CompressionStorage):
        return storage
    raise InvalidArgument("this store does not compress; ask is_capable('compression')")
