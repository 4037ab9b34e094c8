"""Which frames a message with entries goes out in: their headers, and how many bytes ride with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from .answers import Keyed
from .entries import Entry
from .limits import INLINE, MAX_HEADER, SLICE
from .listing import Listing
from .memo import MEMO, MOST_FRAMES, Plan, PlannedFrame
from .row import Row
from .stems import pack_version, stem_of
from .table import MORE

__all__ = ["plan_for"]

_Pack: TypeAlias = Callable[[object], bytes]
# An entry takes ten bytes or more.
_MOST_IN_HEADER: Final = MAX_HEADER // 10


def plan_for(row: Row, message: Keyed, listing: Listing, pack: _Pack) -> Plan:
    """Check what a message with these entries says, and pack its headers; or find that it was done before.

    Raises ValueError, or what `pack` raises: the protocol does not allow it.
    """
    # Of more a plan is not remembered anyway, and hashing takes 0.2 us for each.
    if not 1 < len(listing) <= MOST_FRAMES * _MOST_IN_HEADER:
        return _plan(row, message, listing, pack)
    question = (row.code, row.values(message), listing)
    plan = MEMO.plans.get(question)
    if plan is None:
        plan = _plan(row, message, listing, pack)
        if len(plan.frames) <= MOST_FRAMES:
            MEMO.plans.learn(question, plan)
    return plan


def _plan(row: Row, message: Keyed, listing: Listing, pack: _Pack) -> Plan:
    row.check_entries(listing)
    fields, total = row.check_fields(row.values(message)), listing.nbytes
    fixed = (*fields, len(listing), total)
    if len(listing) == 1:
        stem = stem_of(pack, fixed, listing[0])
        MEMO.learn(row.code, stem, fields, listing[0])
        header = stem + pack_version(listing[0].version)
    elif len(listing) <= _MOST_IN_HEADER:
        header = pack((*fixed, listing))
    else:
        return Plan(total, list(_frames(row.code, fixed, listing, pack)))
    if len(header) <= MAX_HEADER and listing.riding <= SLICE:
        return Plan(total, [(row.code, header, slice(None), listing.riding)])
    return Plan(total, list(_frames(row.code, fixed, listing, pack)))


def _frames(code: int, fixed: tuple[object, ...], entries: Listing, pack: _Pack) -> Iterator[PlannedFrame]:
    lead = fixed
    for part in _parts(len(pack((*fixed, ()))), entries, pack):
        header = pack((*lead, entries[part]) if lead else entries[part])
        yield code, header, part, sum([size for size in entries.sizes[part] if size < INLINE])
        code, lead = MORE, ()


def _parts(used: int, entries: tuple[Entry, ...], pack: _Pack) -> Iterator[slice]:
    """Where to cut, so that each header has room for its entries and each payload is no longer than a slice."""
    used += 2  # a list of more than 15 entries has a longer mark
    start = carried = 0
    for index, entry in enumerate(entries):
        size, load = len(pack(entry)), entry.nbytes if entry.nbytes < INLINE else 0
        if index > start and (used + size > MAX_HEADER or carried + load > SLICE):
            yield slice(start, index)
            start, used, carried = index, 3, 0
        used += size
        carried += load
    yield slice(start, len(entries))
