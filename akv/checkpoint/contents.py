"""What a checkpoint holds, told before its arrays come: for those who send them one after the other, without files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from akv.backend.saved import Record, SavedUpdater
from akv.checkpoint.layout import Tensor, place, ranked
from akv.checkpoint.manifest import groups_of, record_as_json, updater_as_json
from akv.checkpoint.parsing import read_json, read_records, read_updater
from akv.errors import BadCheckpoint

__all__ = ["Contents"]

# Records in one call of json, which lets no other thread run meanwhile: 1 ms, where 50,000 of them take 100.
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Contents:
    """A store, or a server's part of one, without the arrays; without `values` only the optimizer's are meant."""

    values: bool
    updater: SavedUpdater
    records: Sequence[Record]

    def tensors(self) -> tuple[list[Tensor], int]:
        """The arrays in the order of the files, one after the other from 0 on, and the bytes that they have in all."""
        return place((tensor for _, group in groups_of(self.values, self.records) for tensor in ranked(group)), 0)

    def encode(self) -> bytes:
        """As JSON."""
        records = map(record_as_json, self.records)
        parts = iter(lambda: _as_json(list(islice(records, _AT_ONCE)))[1:-1], "")
        opening = _as_json({"values": self.values, "updater": updater_as_json(self.updater)})
        return f'{opening[:-1]},"records":[{",".join(parts)}]}}'.encode()

    @classmethod
    def decode(cls, text: bytes) -> Contents:
        """What `encode` gave this text for; of which nothing is trusted.

        Raises:
            BadCheckpoint: it is nothing like that. KeyTypeError, DTypeMismatch.
            InvalidArgument: it names an optimizer that is not known here.
        """
        content = read_json(text)
        if not isinstance(content, dict) or content.keys() != {"values", "updater", "records"}:
            raise BadCheckpoint(f"{content!r:.80} is not the contents of a checkpoint")
        values, updater = content["values"], read_updater(content["updater"])
        if not isinstance(values, bool):
            raise BadCheckpoint(f"values is {values!r:.40}, neither true nor false")
        return cls(values, updater, read_records(content["records"], updater))


def _as_json(content: object) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
