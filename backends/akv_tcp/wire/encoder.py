"""From a message to what goes out: frames of which only heads and headers are new memory, and tensors to be sliced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from struct import error as StructError
from typing import Final, TypeAlias, cast

from akv.errors import InvalidArgument

from .answers import Keyed
from .buffers import Buffer, Growing, Payload, pieces_of
from .entries import Entry
from .frames import CORK, Frame, new_frame
from .head import pack_head
from .header import new_pack
from .limits import INLINE, MAX_HEADER, MOST_ENTRIES, SLICE, Limits
from .link import Link
from .memo import MEMO, MOST_FRAMES, VERSION_NBYTES, Plan, PlannedFrame, pack_version, stem_of
from .message import Message
from .outgoing import Bulk, Outgoing
from .row import Phase, Row, Side
from .table import MORE
from .versions import EMPTY, MOST_TOLD, TOLD_NBYTES, mark, pack_versions

__all__ = ["Encoder", "encode_answer"]

_Pieces: TypeAlias = tuple[Buffer, ...]
_NOTHING: Final[_Pieces] = ()
# An entry takes ten bytes or more.
_MOST_IN_HEADER: Final = MAX_HEADER // 10


class Encoder:
    """Turns the messages of one connection into frames.

    `limits` are the peer's: after WELCOME, set them to its. `pack` packs a header.
    """

    __slots__ = ("_link", "limits", "pack")

    def __init__(self, link: Link) -> None:
        self.limits = Limits()
        self.pack = new_pack()
        self._link = link

    def encode(self, message: Message) -> Outgoing:
        """Check a message, plan its frames, and move the connection's phase.

        The frames refer to the memory in the message's `data`.

        Raises InvalidArgument for what the protocol, the phase or the limits do not allow; nothing has changed then.
        """
        row = self._link.sending(message)
        try:
            if row.kinds is None:
                outgoing = self._encode_plain(row, message)
            else:
                keyed = cast(Keyed, message)
                one = self._encode_known(row, keyed) if len(keyed.entries) == 1 else None
                outgoing = one or self._encode_batch(row, keyed)
        except (ValueError, TypeError, OverflowError, StructError) as error:
            raise InvalidArgument(f"{row.name} cannot be sent: {error}") from error
        self._link.move(row)
        return outgoing

    def _encode_plain(self, row: Row, message: Message) -> Outgoing:
        request = row.request_of(message)
        header = self.pack(row.check_fields(row.values(message)))
        return Outgoing(message, request, [new_frame(row.code, request, header, (), 0)], [], False)

    def _encode_known(self, row: Row, message: Keyed) -> Outgoing | None:
        """The frames of a message of one entry whose header, but for the version, was checked and packed before."""
        entry, data = message.entries[0], message.data
        stem = MEMO.stem(row.code, row.values(message), entry)
        nbytes = entry.nbytes
        if stem is None or nbytes > self.limits.message or len(data) > 1:
            return None
        request = row.request_of(message)
        payload = data[0] if data else None
        head = pack_head(row.code, request, len(stem) + VERSION_NBYTES, nbytes if nbytes < INLINE else 0)
        lead = head + stem + pack_version(entry.version)
        if nbytes == 0 and payload is None:
            return Outgoing(message, request, [[lead]], [], False)
        # What would be copied before it is written is copied at once: then the memory is free.
        if type(payload) is bytes and len(payload) == nbytes < CORK:
            return Outgoing(message, request, [[lead + payload]], [], False)
        pieces = pieces_of(payload, nbytes)
        if nbytes >= INLINE:
            growing = payload if isinstance(payload, Growing) else None
            return Outgoing(message, request, [[lead]], [Bulk(0, pieces, nbytes, growing)], True)
        if nbytes < CORK:
            return Outgoing(message, request, [[b"".join((lead, *pieces))]], [], False)
        return Outgoing(message, request, [[lead, *pieces]], [], True)

    def _encode_batch(self, row: Row, message: Keyed) -> Outgoing:
        request, entries = row.request_of(message), message.entries
        versions = None if row.checks or message.data else pack_versions(entries)
        if versions is not None and len(entries) <= self.limits.entries:
            return Outgoing(message, request, self._frames_of_versions(row.code, request, versions), [], False)
        question = (row.code, row.values(message), entries)
        # Of more a plan is not remembered anyway, and hashing takes 0.2 us for each.
        known = 1 < len(entries) <= MOST_FRAMES * _MOST_IN_HEADER
        plan = MEMO.plans.get(question) if known else None
        if plan is None:
            plan = self._plan(row, message)
            if known and len(plan.frames) <= MOST_FRAMES:
                MEMO.plans.learn(question, plan)
        if len(entries) > self.limits.entries or plan.total > self.limits.message:
            raise ValueError(f"{len(entries)} entries with {plan.total} bytes; the peer takes {self.limits}. Split it")
        if _are_copies(entries, message.data):
            frames = [
                new_frame(code, request, header, [b"".join(message.data[part])], nbytes)  # type: ignore[arg-type]
                for code, header, part, nbytes in reversed(plan.frames)
            ]
            return Outgoing(message, request, frames, [], False)
        riding, bulks = _split_payloads(entries, message)
        frames = [
            new_frame(code, request, header, list(chain.from_iterable(riding[part])), nbytes)
            for code, header, part, nbytes in reversed(plan.frames)
        ]
        if plan.total < CORK:
            return Outgoing(message, request, [[b"".join(frame)] for frame in frames], [], False)
        bulks.reverse()
        return Outgoing(message, request, frames, bulks, True)

    def _plan(self, row: Row, message: Keyed) -> Plan:
        """Check what a message says, and pack its headers."""
        entries, fields = row.check_entries(message.entries), row.check_fields(row.values(message))
        total = sum([entry.nbytes for entry in entries])
        inline = sum([entry.nbytes for entry in entries if entry.nbytes < INLINE])
        fixed = (*fields, len(entries), total)
        if len(entries) == 1:
            stem = stem_of(self.pack, fixed, entries[0])
            MEMO.learn(row.code, stem, fields, entries[0])
            header = stem + pack_version(entries[0].version)
        elif len(entries) <= _MOST_IN_HEADER:
            header = self.pack((*fixed, entries))
        else:
            return Plan(total, list(self._frames(row.code, fixed, entries)))
        if len(header) <= MAX_HEADER and inline <= SLICE:
            return Plan(total, [(row.code, header, slice(None), inline)])
        return Plan(total, list(self._frames(row.code, fixed, entries)))

    def _frames(self, code: int, fixed: tuple[object, ...], entries: tuple[Entry, ...]) -> Iterator[PlannedFrame]:
        lead = fixed
        for part in self._parts(len(self.pack((*fixed, ()))), entries):
            header = self.pack((*lead, entries[part]) if lead else entries[part])
            yield code, header, part, sum([entry.nbytes for entry in entries[part] if entry.nbytes < INLINE])
            code, lead = MORE, ()

    def _frames_of_versions(self, code: int, request: int, versions: bytes) -> list[Frame]:
        count = len(versions) // TOLD_NBYTES
        lead = self.pack((count, 0, ())).removesuffix(EMPTY)
        frames: list[Frame] = []
        for start in range(0, count, MOST_TOLD):
            stop = min(start + MOST_TOLD, count)
            header = lead + mark(stop - start) + versions[start * TOLD_NBYTES : stop * TOLD_NBYTES]
            frames.append(new_frame(code, request, header, (), 0))
            code, lead = MORE, b""
        frames.reverse()
        return frames

    def _parts(self, used: int, entries: tuple[Entry, ...]) -> Iterator[slice]:
        """Where to cut, so that each header has room for its entries and each payload is no longer than a slice."""
        used += 2  # a list of more than 15 entries has a longer mark
        start = carried = 0
        for index, entry in enumerate(entries):
            size, load = len(self.pack(entry)), entry.nbytes if entry.nbytes < INLINE else 0
            if index > start and (used + size > MAX_HEADER or carried + load > SLICE):
                yield slice(start, index)
                start, used, carried = index, 3, 0
            used += size
            carried += load
        yield slice(start, len(entries))


def encode_answer(message: Message) -> Outgoing:
    """The frames of a server's answer of any length, made in any thread; nothing else of the message is kept.

    Raises InvalidArgument for what the protocol does not allow.
    """
    link = Link(Side.SERVER)
    link.phase = Phase.OPEN
    encoder = Encoder(link)
    encoder.limits = Limits(entries=MOST_ENTRIES)
    outgoing = encoder.encode(message)
    outgoing.message = Message()
    return outgoing


def _are_copies(entries: tuple[Entry, ...], data: Sequence[Payload]) -> bool:
    """Whether the payloads are bytes, all of which ride with the entries, and which nobody can change."""
    if len(data) != len(entries) or set(map(type, data)) != {bytes}:
        return False
    sizes = list(map(len, cast("Sequence[bytes]", data)))
    return max(sizes) < INLINE and sizes == [entry.nbytes for entry in entries]


def _split_payloads(entries: tuple[Entry, ...], message: Keyed) -> tuple[list[_Pieces], list[Bulk]]:
    """What rides with each entry, and what travels in slices."""
    data = message.data or (None,) * len(entries)
    if len(data) != len(entries):
        raise ValueError(f"{len(entries)} entries with {len(data)} payloads")
    riding: list[_Pieces] = []
    bulks: list[Bulk] = []
    for entry, payload in zip(entries, data, strict=True):
        nbytes = entry.nbytes
        if type(payload) is bytes and len(payload) == nbytes < INLINE:
            riding.append((payload,))
            continue
        pieces = pieces_of(payload, nbytes)
        if nbytes < INLINE:
            riding.append(pieces if nbytes else _NOTHING)
        else:
            bulks.append(Bulk(len(riding), pieces, nbytes, payload if isinstance(payload, Growing) else None))
            riding.append(_NOTHING)
    return riding, bulks
