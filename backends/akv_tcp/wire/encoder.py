"""From a message to what goes out: frames of which only heads and headers are new memory, and tensors to be sliced."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import error as StructError
from typing import Final, TypeAlias, cast

from akv.errors import InvalidArgument

from .answers import Keyed
from .buffers import Buffer, Growing, Payload, pieces_of
from .frames import CORK, Frame, new_frame
from .head import pack_head
from .header import new_pack
from .limits import INLINE, MOST_ENTRIES, Limits
from .link import Link
from .listing import Joined, Listing, listing_of
from .memo import MEMO, Plan
from .message import Message
from .outgoing import Bulk, Outgoing
from .plans import plan_for
from .row import Phase, Row, Side
from .stems import VERSION_NBYTES, pack_version
from .table import MORE
from .versions import FEW, Versions, headers_of

__all__ = ["Encoder", "encode_answer"]

_Pieces: TypeAlias = tuple[Buffer, ...]
_NOTHING: Final[_Pieces] = ()


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
        if (
            type(entries) is Versions
            and not (row.checks or message.data)
            and FEW <= len(entries) <= self.limits.entries
        ):
            return Outgoing(message, request, _frames_of_versions(row.code, request, entries), [], False)
        listing = listing_of(entries)
        plan = plan_for(row, message, listing, self.pack)
        if len(listing) > self.limits.entries or plan.total > self.limits.message:
            raise ValueError(f"{len(listing)} entries with {plan.total} bytes; the peer takes {self.limits}. Split it")
        joined = _joined(listing, message.data)
        if joined is not None:
            return Outgoing(message, request, _cut(plan, request, joined), [], False)
        riding, bulks = _split_payloads(listing, message)
        frames = [
            new_frame(code, request, header, list(chain.from_iterable(riding[part])), nbytes)
            for code, header, part, nbytes in reversed(plan.frames)
        ]
        if plan.total < CORK:
            return Outgoing(message, request, [[b"".join(frame)] for frame in frames], [], False)
        bulks.reverse()
        return Outgoing(message, request, frames, bulks, True)


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


def _joined(listing: Listing, data: Sequence[Payload]) -> Buffer | None:
    """The payloads in one piece, if they are bytes, all of which ride with the entries, and which nobody can change."""
    if type(data) is Joined:
        return data.whole if data.listing is listing and len(data.whole) == listing.riding else None
    if not data and not listing.nbytes:
        return b""
    if len(data) != len(listing) or set(map(type, data)) != {bytes}:
        return None
    copies = cast("Sequence[bytes]", data)
    return b"".join(copies) if listing.largest < INLINE and list(map(len, copies)) == listing.sizes else None


def _frames_of_versions(code: int, request: int, entries: Versions) -> list[Frame]:
    frames: list[Frame] = []
    for header in headers_of(entries):
        frames.append(new_frame(code, request, header, (), 0))
        code = MORE
    frames.reverse()
    return frames


def _cut(plan: Plan, request: int, joined: Buffer) -> list[Frame]:
    """The frames, the next one last, each with its part of the payloads."""
    frames: list[Frame] = []
    start = 0
    for code, header, _, nbytes in plan.frames:
        frames.append(new_frame(code, request, header, [joined[start : start + nbytes]], nbytes))
        start += nbytes
    frames.reverse()
    return frames


def _split_payloads(entries: Listing, message: Keyed) -> tuple[list[_Pieces], list[Bulk]]:
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
