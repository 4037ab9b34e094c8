"""A codec from words and numbers: `{"type": "2bit", "threshold": 0.5}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from akv.compression.bits import OneBit, TwoBit
from akv.compression.casts import BFloat16, Float16
from akv.compression.codec import Compression
from akv.compression.int8 import Int8
from akv.compression.topk import TopK
from akv.errors import InvalidArgument
from akv.optim.parameters import build

CODECS: dict[str, type[Compression]] = {one.name: one for one in (OneBit, TwoBit, BFloat16, Float16, Int8, TopK)}


def from_spec(spec: Mapping[str, object]) -> Compression:
    """The codec that `spec` describes; parameters left out take their defaults.

    Raises InvalidArgument for a spec that is no mapping, an unknown or missing type, an unknown parameter, or a value
    outside its range; the text names the known ones. Safe with what a client sent.
    """
    if not isinstance(cast(Any, spec), Mapping):
        raise InvalidArgument(f'compression is described by a mapping such as {{"type": "2bit"}}, not by {spec!r}')
    numbers = dict(spec)
    codec: Compression = build(_find(numbers.pop("type", None)), "compression", numbers)
    return codec


def _find(name: object) -> type[Compression]:
    if not isinstance(name, str) or name not in CODECS:
        raise InvalidArgument(f"no compression has the type {name!r}; known are {', '.join(sorted(CODECS))}")
    return CODECS[name]
