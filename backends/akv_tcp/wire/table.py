"""The protocol as data: one row for each message: its number, sender, phases, header fields and entries.

A header is the list of the fields that a message class declares, in that order, without `request`, which is in the
head. Where a message has entries, three values follow: how many entries it has in all, how many bytes they bring in
all, and the list of the entries that fit into this frame.
"""

from __future__ import annotations

from typing import Final

from . import answers as a
from . import greetings as g
from . import requests as r
from . import transfers as t
from .entries import Kind
from .fields import blob, choice, either, flag, numbers, optional, real, record, seconds, several, text, whole
from .limits import MAX_BLOB, MAX_DESCRIPTION, MAX_KEY, MAX_RANKS, MAX_TEXT, Limits
from .row import Phase, Row, Side

__all__ = ["DATA", "MORE", "TABLE"]

MORE: Final = 126
"""The type of a frame that goes on with the entries of a message; its header is a list of entries."""

DATA: Final = 127
"""The type of a frame with a slice of one entry's bytes; its header is [entry index, offset]."""

_C, _S = Side.CLIENT, Side.SERVER
_NEW, _GREETED, _CHALLENGED, _OPEN, _CLOSED = Phase
_START = (_NEW, _GREETED, _CHALLENGED)
_GREETINGS = (_GREETED,)
_RUN = (_OPEN,)

_U32 = whole(0, 2**32 - 1)
_U64 = whole(0, 2**64 - 1)
_CODE = whole(0, 255)
_RANK = optional(_U32)
_TEXT = text(MAX_TEXT)
_NAME = text(MAX_KEY)
_ID = blob(16, 16)
_BLOB = blob(0, MAX_BLOB)
_I64 = whole(-(2**63), 2**63 - 1)
_KEY = either(_NAME, _I64)
_FACTORS = several(record(lambda *pair: pair, _KEY, real), 0, 4096)
_LIMITS = record(Limits, *[whole(1, 2**63 - 1)] * 3)
_SETTINGS = record(
    g.Settings,
    optional(choice(g.Consistency)),
    _RANK,
    _RANK,
    optional(choice(g.OnLoss)),
    optional(seconds),
)
_HELLO = (several(whole(1, 255), 1, 16), _ID, _NAME, choice(g.Role), _RANK, flag, _SETTINGS, _BLOB)
_WELCOME = (whole(1, 255), _ID, _U64, _RANK, _U32, _LIMITS, seconds, _SETTINGS, flag, _BLOB)
_ASK = (_I64, optional(seconds))
_WHY = (_CODE, _TEXT)
_RANKS = several(_U32, 0, MAX_RANKS)

_BARE = (Kind.NONE,)
_IDS = (Kind.DENSE,)
_WHOLE = (Kind.DENSE, Kind.ROWS)
_GRADS = (Kind.DENSE, Kind.ROWS, Kind.CODED)
_BEGINNING = (*_WHOLE, Kind.INITIALISER)
_ANY = (*_BARE, *_GRADS)

TABLE: Final = (
    # number, message, by, in phases, leading to, header fields, kinds of entries
    Row(1, g.Hello, _C, (_NEW,), _GREETED, _HELLO),
    Row(2, g.Challenge, _S, _GREETINGS, _CHALLENGED, (_BLOB,)),
    Row(3, g.Proof, _C, (_CHALLENGED,), _GREETED, (_BLOB,)),
    Row(4, g.Welcome, _S, _GREETINGS, _OPEN, _WELCOME),
    Row(5, g.Refuse, _S, _START, _CLOSED, _WHY),
    Row(16, r.Init, _C, _RUN, None, _ASK, _BEGINNING),
    Row(17, r.Push, _C, _RUN, None, _ASK, _GRADS),
    Row(18, r.Pull, _C, _RUN, None, (*_ASK, flag), (Kind.NONE, Kind.CODED)),
    Row(19, r.PushPull, _C, _RUN, None, _ASK, _GRADS),
    Row(20, r.Rows, _C, _RUN, None, (*_ASK, flag), _IDS),
    Row(21, r.Wait, _C, _RUN, None, _ASK, _BARE),
    Row(22, r.Delete, _C, _RUN, None, _ASK, _BARE),
    Row(23, r.Info, _C, _RUN, None, _ASK, _BARE),
    Row(24, r.Keys, _C, _RUN, None, _ASK),
    Row(32, r.SetUpdater, _C, _RUN, None, (*_ASK, _NAME)),
    Row(33, r.SetOptimizer, _C, _RUN, None, (*_ASK, text(MAX_DESCRIPTION))),
    Row(34, r.SetLearningRate, _C, _RUN, None, (*_ASK, real)),
    Row(41, r.SetMultipliers, _C, _RUN, None, (*_ASK, _NAME, _FACTORS)),
    Row(35, r.SetCompression, _C, _RUN, None, (*_ASK, _NAME, numbers(_NAME))),
    Row(36, t.Capture, _C, _RUN, None, (*_ASK, _U64, flag)),
    Row(37, t.Fetch, _C, _RUN, None, (*_ASK, _U64, _U64, _U64)),
    Row(38, t.Announce, _C, _RUN, None, _ASK, (Kind.DENSE,)),
    Row(39, t.Stage, _C, _RUN, None, _ASK, (Kind.DENSE,)),
    Row(40, t.Restore, _C, _RUN, None, (*_ASK, _U64)),
    Row(48, r.Barrier, _C, _RUN, None, (*_ASK, _NAME, _U64)),
    Row(49, r.Bye, _C, _RUN, None, _ASK),
    Row(50, r.Cancel, _C, _RUN),
    Row(51, t.Release, _C, _RUN, None, (_U64,)),
    Row(64, a.Result, _S, _RUN, None, (), _ANY),
    Row(65, a.Error, _S, _RUN, None, (*_WHY, optional(_KEY), _RANKS, optional(seconds)), _BARE),
    Row(80, a.Abort, None, _RUN),
    Row(81, a.Heartbeat, None, _RUN, None, (_U64, _U64)),
    Row(82, a.Goodbye, None, _RUN, _CLOSED, _WHY),
)
"""Every message, by number: 1 handshake, 16 keys, 32 job, 48 session, 64 answers, 80 connection."""
