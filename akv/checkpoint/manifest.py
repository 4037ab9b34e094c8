"""The manifest: all of a checkpoint but the arrays, and what the files with those have to be, byte for byte."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from akv.backend.saved import Record, SavedUpdater
from akv.checkpoint.layout import ROW_IDS, Layout, Part, Tensor, lay_out, name_of
from akv.errors import InvalidArgument

__all__ = [
    "FORMAT",
    "MOST_NBYTES",
    "Entry",
    "Manifest",
    "encode",
    "files_of",
    "groups_of",
    "parts_of",
    "record_as_json",
    "tensors_of",
    "updater_as_json",
]

FORMAT = 1
# A million keys make some 150 MB of manifest.
MOST_NBYTES = 1 << 28
_INT64 = np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key in a shard, and the CRC-32 of its arrays, in the order of `tensors_of`."""

    record: Record
    checksums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint holds. `ident` is part of its files' names; without `values` it holds optimizer states only."""

    ident: str
    values: bool
    updater: SavedUpdater
    shards: Sequence[Sequence[Entry]]

    @property
    def entries(self) -> Iterator[Entry]:
        """The keys of all shards."""
        return (entry for shard in self.shards for entry in shard)


def files_of(
    ident: str, values: bool, number: int, shards: int, records: Sequence[Record]
) -> Iterator[tuple[str, Layout]]:
    """The files of one shard: their names, and what they look like. Raises InvalidArgument: too many keys."""
    for kind, tensors in groups_of(values, records):
        yield f"{kind}-{ident}-{number:05}-of-{shards:05}.safetensors", lay_out(tensors)


def groups_of(values: bool, records: Sequence[Record]) -> Iterator[tuple[str, list[Tensor]]]:
    """What goes into a file of its own: values, if they are saved; optimizers' arrays and row ids, if there are any."""
    tensors = [tensor for record in records for tensor in tensors_of(record, values)]
    if values:
        yield "values", [tensor for tensor in tensors if tensor.part[1] == 0]
    if states := [tensor for tensor in tensors if tensor.part[1] > 0]:
        yield "states", states
    if rows := [tensor for tensor in tensors if tensor.part[1] == ROW_IDS]:
        yield "rows", rows


def tensors_of(record: Record, values: bool) -> list[Tensor]:
    """The arrays that are saved of a key: its value, with `values`; what its optimizer keeps; a table's row ids."""
    dtypes = enumerate((record.dtype, *(record.state or ())))
    found = [Tensor((record.key, n), dtype, record.saved_shape) for n, dtype in dtypes if n or values]
    if record.held is not None:
        found.append(Tensor((record.key, ROW_IDS), _INT64, (record.held.rows,)))
    return found


def parts_of(record: Record, values: bool) -> list[Part]:
    """Which they are, in that order."""
    numbers = [*range(not values, 1 + len(record.state or ())), *([] if record.held is None else [ROW_IDS])]
    return [(record.key, number) for number in numbers]


def encode(manifest: Manifest) -> bytes:
    """The manifest's bytes.

    Raises:
        InvalidArgument: there are too many keys.
    """
    content = {
        "format": FORMAT,
        "id": manifest.ident,
        "values": manifest.values,
        "updater": updater_as_json(manifest.updater),
        "shards": [[_entry_as_json(entry) for entry in shard] for shard in manifest.shards],
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MOST_NBYTES - 64:
        raise InvalidArgument(f"the manifest would have {len(text)} bytes, the most is {MOST_NBYTES - 64}")
    return b'{"crc32":%d,"checkpoint":%b}' % (zlib.crc32(text), text)


def updater_as_json(updater: SavedUpdater) -> dict[str, object]:
    """What a store does with pushed values."""
    return {
        "name": updater.name,
        "optimizer": None if updater.optimizer is None else updater.optimizer.to_dict(),
        "learning_rate": updater.learning_rate,
        "lr_mult": [list(pair) for pair in updater.lr_mult.items()],
        "wd_mult": [list(pair) for pair in updater.wd_mult.items()],
    }


def _entry_as_json(entry: Entry) -> dict[str, object]:
    return {**record_as_json(entry.record), "crc32": entry.checksums}


def record_as_json(record: Record) -> dict[str, object]:
    """One key. Only those of tables have the last field."""
    held = record.held
    table = held and {"initialiser": held.initialiser.to_dict(), "rows": held.rows, "cleared": held.cleared}
    return {
        "key": record.key,
        "shape": record.shape,
        "dtype": name_of(record.dtype),
        "version": record.version,
        "count": record.count,
        "state": None if record.state is None else [name_of(dtype) for dtype in record.state],
        **({"table": table} if table else {}),
    }
