"""The protocol between akv's clients and servers, without I/O (docs/wire.md describes it for other languages).

A connection is a `Link` shared by a `Decoder` and a `Sender`. Bytes in: `Decoder.get_buffer`, `buffer_updated`,
`next_event`. Bytes out: `Sender.put`, `next_batch`, `drained`. Both ends use the same classes. Faults of the peer raise
ProtocolError, faults of this side InvalidArgument. Nothing here is safe to use from two threads at once.
"""

from __future__ import annotations

from .answers import Abort, Error, Goodbye, Heartbeat, Keyed, Result, cost_of
from .buffers import Buffer, Growing, Payload, array_bytes
from .codes import code_of, error_from, fitting_text
from .decoder import Decoder
from .dtypes import DType, dtype_from_numpy, dtype_to_numpy
from .encoder import Encoder, encode_answer
from .entries import Entry, Kind, bare_entries, new_entry, rows_nbytes
from .events import Aborted, Event, Landing, Part, Refused, Reserve
from .greetings import Challenge, Consistency, Hello, OnLoss, Proof, Refuse, Role, Settings, Welcome
from .limits import INLINE, MOST_ENTRIES, Limits, cost
from .link import Link
from .listing import Joined, Listing, listing_of
from .message import Message
from .outgoing import Outgoing
from .requests import (
    Barrier,
    Batch,
    Bye,
    Cancel,
    Delete,
    Info,
    Init,
    Keys,
    Number,
    Pull,
    Push,
    PushPull,
    Read,
    Request,
    Rows,
    SetCompression,
    SetLearningRate,
    SetMultipliers,
    SetOptimizer,
    SetUpdater,
    Wait,
)
from .row import Phase, Side
from .sender import URGENT, Sender, Withdrawn
from .small import FrameTemplate, SmallMessage
from .transfers import Announce, Capture, Fetch, Release, Restore, Stage
from .versions import Versions, kinds_of, versions_in

__all__ = [
    "INLINE",
    "MOST_ENTRIES",
    "URGENT",
    "Abort",
    "Aborted",
    "Announce",
    "Barrier",
    "Batch",
    "Buffer",
    "Bye",
    "Cancel",
    "Capture",
    "Challenge",
    "Consistency",
    "DType",
    "Decoder",
    "Delete",
    "Encoder",
    "Entry",
    "Error",
    "Event",
    "Fetch",
    "FrameTemplate",
    "Goodbye",
    "Growing",
    "Heartbeat",
    "Hello",
    "Info",
    "Init",
    "Joined",
    "Keyed",
    "Keys",
    "Kind",
    "Landing",
    "Limits",
    "Link",
    "Listing",
    "Message",
    "Number",
    "OnLoss",
    "Outgoing",
    "Part",
    "Payload",
    "Phase",
    "Proof",
    "Pull",
    "Push",
    "PushPull",
    "Read",
    "Refuse",
    "Refused",
    "Release",
    "Request",
    "Reserve",
    "Restore",
    "Result",
    "Role",
    "Rows",
    "Sender",
    "SetCompression",
    "SetLearningRate",
    "SetMultipliers",
    "SetOptimizer",
    "SetUpdater",
    "Settings",
    "Side",
    "SmallMessage",
    "Stage",
    "Versions",
    "Wait",
    "Welcome",
    "Withdrawn",
    "array_bytes",
    "bare_entries",
    "code_of",
    "cost",
    "cost_of",
    "dtype_from_numpy",
    "dtype_to_numpy",
    "encode_answer",
    "error_from",
    "fitting_text",
    "kinds_of",
    "listing_of",
    "new_entry",
    "rows_nbytes",
    "versions_in",
]
