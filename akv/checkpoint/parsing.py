"""Reading a manifest, of which nothing is trusted: every field is checked, and sizes are Python integers."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from akv.backend.saved import Held, Record, SavedUpdater
from akv.checkpoint.layout import dtype_named
from akv.checkpoint.manifest import FORMAT, Entry, Manifest, parts_of
from akv.errors import AkvError, BadCheckpoint, KeyTypeError
from akv.init import Table
from akv.init import from_dict as initialiser_from
from akv.optim.parameters import NOT_NEGATIVE, as_number
from akv.optim.registry import from_dict
from akv.optim.settings import as_multipliers
from akv.optim.updaters import ADD, ASSIGN, OptimizerUpdater
from akv.values.dtypes import DType
from akv.values.keys import Key, check_key, check_keys

__all__ = ["decode", "read_json", "read_records", "read_updater"]

_OPENING = re.compile(rb'\{"crc32":([0-9]{1,10}),"checkpoint":')
# Of a version, which goes on growing, and of a dimension.
_MOST = 2**62
# numpy's own limit.
_MOST_DIMENSIONS = 64
_RECORD = ("key", "shape", "dtype", "version", "count", "state")
_UPDATERS = (ASSIGN.name, ADD.name, OptimizerUpdater.name, "function")


def decode(data: bytes) -> Manifest:
    """The manifest that `encode` gave these bytes for.

    Raises:
        BadCheckpoint: it is damaged, or not akv's, or of a later version.
        InvalidArgument: it names an optimizer that is not known here. DTypeMismatch: a dtype needs ml_dtypes.
    """
    opening = _OPENING.match(data)
    if opening is None or not data.endswith(b"}"):
        raise BadCheckpoint("the manifest is not akv's, or it is cut short")
    text = memoryview(data)[opening.end() : -1]
    if zlib.crc32(text) != int(opening[1]):
        raise BadCheckpoint("the manifest is damaged: its checksum is another")
    return _manifest(read_json(bytes(text)))


def read_json(text: bytes) -> object:
    """What the text says, in which no name may stand twice. Raises BadCheckpoint: it is no JSON."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"the manifest is no JSON: {error}") from None


def _manifest(content: object) -> Manifest:
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise BadCheckpoint(f"the manifest has format {content.get('format')!r:.40}, this akv reads {FORMAT}")
    _, ident, values, updater, shards = _fields(content, "format", "id", "values", "updater", "shards")
    if not isinstance(ident, str) or not re.fullmatch("[0-9a-f]{8}", ident):
        raise BadCheckpoint(f"the manifest has the id {ident!r:.40}")
    if not isinstance(values, bool):
        raise BadCheckpoint(f"the manifest's values is {values!r:.40}")
    entries = [tuple(_entry(item, values) for item in _list(shard)) for shard in _list(shards)]
    manifest = Manifest(ident, values, read_updater(updater), entries)
    _check_records(manifest.updater, [entry.record for entry in manifest.entries])
    return manifest


def read_records(items: object, updater: SavedUpdater) -> list[Record]:
    """The keys of which `record_as_json` has told. Raises what `decode` raises."""
    records = [_record(item)[0] for item in _list(items)]
    _check_records(updater, records)
    return records


def _check_records(updater: SavedUpdater, records: Sequence[Record]) -> None:
    _check_keys([record.key for record in records])
    _check_states(updater, records)


def read_updater(item: object) -> SavedUpdater:
    """Of what `updater_as_json` has told. Raises what `decode` raises."""
    name, optimizer, rate, lr_mult, wd_mult = _fields(item, "name", "optimizer", "learning_rate", "lr_mult", "wd_mult")
    if name not in _UPDATERS or (optimizer is None) is (name == OptimizerUpdater.name):
        raise BadCheckpoint(f"the manifest has the updater {name!r:.40} with the optimizer {optimizer!r:.200}")
    return SavedUpdater(
        name,
        None if optimizer is None else from_dict(optimizer),
        None if rate is None else as_number("checkpoint", "learning_rate", rate, NOT_NEGATIVE),
        as_multipliers("checkpoint", "lr_mult", lr_mult),
        as_multipliers("checkpoint", "wd_mult", wd_mult),
    )


def _entry(item: object, values: bool) -> Entry:
    record, checksums = _record(item, "crc32")
    crcs = tuple(_whole(crc, 2**32 - 1) for crc in _list(checksums))
    if len(crcs) != len(parts_of(record, values)):
        raise BadCheckpoint(
            f"the manifest has {len(crcs)} checksums for key {record.key!r:.80} with the states {record.state}"
        )
    return Entry(record, crcs)


def _record(item: object, *more: str) -> tuple[Record, Any]:
    """A key, and the field that stands beside what is known of it."""
    more = (*more, "table") if isinstance(item, dict) and "table" in item else more
    key, sizes, name, version, count, states, *others = _fields(item, *_RECORD, *more)
    shape, dtype = tuple(_whole(size, _MOST) for size in _list(sizes)), _dtype(name)
    # With the largest elements that there are: numpy counts those of an empty array too.
    if len(shape) > _MOST_DIMENSIONS or math.prod(size for size in shape if size) * 16 > _MOST:
        raise BadCheckpoint(f"the manifest has key {key!r:.80} with the shape {shape!r:.200}")
    state = None if states is None else tuple(_dtype(one) for one in _list(states))
    held = _held(key, others.pop(), shape, dtype) if "table" in more else None
    record = Record(_key(key), shape, dtype, _whole(version, _MOST), _whole(count, _MOST), state, held)
    return record, others.pop() if others else None


def _held(key: object, item: object, shape: tuple[int, ...], dtype: DType) -> Held:
    initialiser, rows, cleared = _fields(item, "initialiser", "rows", "cleared")
    described = initialiser_from(initialiser)
    try:
        table = Table(shape, dtype, described)
    except AkvError as error:
        raise BadCheckpoint(f"the manifest has key {key!r:.80} as a table that is none: {error}") from None
    if not isinstance(cleared, bool):
        raise BadCheckpoint(f"the manifest has {cleared!r:.40} where true or false should be")
    return Held(table.initialiser, _whole(rows, shape[0]), cleared)


def _key(key: Any) -> Key:
    try:
        return check_key(key)
    except KeyTypeError as error:
        raise BadCheckpoint(f"the manifest has a key that is none: {error}") from None


def _check_keys(keys: Sequence[Key]) -> None:
    try:
        check_keys(keys)
    except KeyTypeError as error:
        raise BadCheckpoint(f"the manifest: {error}") from None
    if len(set(keys)) < len(keys):
        raise BadCheckpoint("the manifest names a key twice")


def _check_states(updater: SavedUpdater, records: Sequence[Record]) -> None:
    """Raise BadCheckpoint unless the arrays are what the optimizer would make: it relies on that."""
    made: dict[DType, tuple[DType, ...]] = {}
    for record in (record for record in records if record.state is not None or record.count):
        if updater.optimizer is None or record.state is None:
            raise BadCheckpoint(f"the manifest has a state of key {record.key!r:.80}, but no optimizer or no arrays")
        if record.dtype not in made:
            updater.optimizer.check(record.key, record.dtype)
            made[record.dtype] = tuple(
                array.dtype for array in updater.optimizer.create_state(np.empty(0, record.dtype))
            )
        if record.state != made[record.dtype]:
            raise BadCheckpoint(f"the manifest has the wrong states of key {record.key!r:.80}: {record.state!r:.200}")


def _dtype(name: object) -> DType:
    if not isinstance(name, str):
        raise BadCheckpoint(f"the manifest has {name!r:.40} where a dtype should be")
    return dtype_named(name)


def _whole(value: object, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    raise BadCheckpoint(f"the manifest has {value!r:.40} where a whole number from 0 to {most} should be")


def _list(value: object) -> list[Any]:
    if isinstance(value, list):
        return value
    raise BadCheckpoint(f"the manifest has {value!r:.40} where a list should be")


def _fields(value: object, *names: str) -> list[Any]:
    if isinstance(value, dict) and value.keys() == set(names):
        return [value[name] for name in names]
    raise BadCheckpoint(f"the manifest has {value!r:.80} where {', '.join(names)} should be")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in it")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
