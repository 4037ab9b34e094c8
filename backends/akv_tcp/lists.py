"""Many small values in one message: what describes them is known when it comes again, and their bytes move together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any

import numpy as np

from akv import operations as ops
from akv.values.dtypes import NATIVE
from akv.values.forms import Value, check_cast
from akv.values.keys import Key
from akv.values.selection import MOST_KNOWN, Selection
from akv.values.singles import Singles, dtypes_of, shapes_of, singles_of

from . import wire as w
from .payloads import COPIED_NBYTES, array_from, value_from

__all__ = ["joined", "named", "take_list", "values_from"]

# Lists of up to MOST_KNOWN keys, each of which takes some 200 bytes.
_MOST = 32
_DENSE = int(w.Kind.DENSE)
_ONLY_DENSE = frozenset([_DENSE])


def named(selection: Selection, version: int = 0) -> w.Listing:
    """Entries that say nothing but keys, and a version."""
    return (_named if 1 < len(selection.keys) <= MOST_KNOWN else _named.__wrapped__)(selection, version)


def joined(selection: Selection | None, values: Sequence[Any]) -> tuple[w.Listing, w.Joined] | None:
    """Entries for several values, one for each key (or without keys), and a copy of their bytes.

    None: they are not all small C-contiguous arrays of numpy's own dtypes, or too many to be remembered.
    """
    if not 1 < len(values) <= MOST_KNOWN or set(map(type, values)) != {np.ndarray}:
        return None
    listing = _described(selection, dtypes_of(values), shapes_of(values))
    if listing is None:
        return None
    try:
        return listing, w.Joined(listing, b"".join(values))  # a quarter of the time of `tobytes` of each
    except TypeError:  # one is not contiguous
        return None


def values_from(entries: Sequence[w.Entry], data: Sequence[w.Payload]) -> Sequence[Value] | Singles[np.ndarray]:
    """`value_from` of each; small arrays of one dtype and shape as the rows of one array, on the memory of `data`."""
    if not isinstance(data, w.Joined) or data.listing.kinds != _ONLY_DENSE:
        return list(map(value_from, entries, data))
    one = data.listing.alike
    if one is None or not one.shape:
        return Singles(list(map(array_from, entries, data)))
    return singles_of(np.ndarray((len(data), *one.shape), w.dtype_to_numpy(one.dtype), data.whole))


def take_list(read: ops.Pull, result: w.Result) -> list[np.ndarray] | None:
    """Take an answer with a small array for each key, where the caller has one array of that shape for each, or none.

    Returns the values for the caller: no values where they were written to arrays. None: the answer is another, or does
    not fit, and nothing has happened.

    Raises:
        DTypeMismatch: a value cannot be cast. Nothing has been written to.
    """
    values, outs = values_from(result.entries, result.data) if isinstance(result.data, w.Joined) else None, read.outs
    if not isinstance(values, Singles) or len(values) != len(read.keys):
        return None
    if outs is None:
        return [value.copy() for (value,) in values]
    if not isinstance(outs, Singles) or shapes_of(outs.values) != shapes_of(values.values):
        return None
    if dtypes_of(outs.values) == dtypes_of(values.values):
        for (out,), (value,) in zip(outs, values, strict=True):
            out[...] = value
    else:
        _cast_all(read, outs, values)
    return []


def _cast_all(read: ops.Pull, outs: Singles[Any], values: Singles[np.ndarray]) -> None:
    for key, (out,), (value,) in zip(read.keys, outs, values, strict=True):
        check_cast(read.verb, key, value.dtype, out.dtype)
    with np.errstate(all="ignore"):  # once: it takes a microsecond
        for (out,), (value,) in zip(outs, values, strict=True):
            np.copyto(out, value, casting="unsafe")


@lru_cache(_MOST)
def _named(selection: Selection, version: int) -> w.Listing:
    return w.Listing(w.bare_entries(selection.keys, repeat(version)))


@lru_cache(_MOST)
def _described(
    selection: Selection | None, dtypes: tuple[np.dtype[Any], ...], shapes: tuple[tuple[int, ...], ...]
) -> w.Listing | None:
    """Entries that announce arrays of these forms; None: one is not small, or of a dtype that is not numpy's own."""
    keys: Sequence[Key | None] = [None] * len(dtypes) if selection is None else selection.keys
    sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in zip(dtypes, shapes, strict=True)]
    if not set(dtypes) <= NATIVE or max(sizes) > COPIED_NBYTES:
        return None
    columns = zip(keys, repeat(_DENSE), map(w.dtype_from_numpy, dtypes), shapes, repeat(0), sizes, strict=False)
    return w.Listing([w.new_entry((*column, 0, 0, 0)) for column in columns])
