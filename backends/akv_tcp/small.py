"""Pushes and pulls of one small array: the same messages as all others, without a request and an answer as objects."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np

from akv import operations as ops
from akv.operations import Operation
from akv.values.dtypes import NATIVE
from akv.values.keys import Key

from . import wire as w

__all__ = ["small_answer", "small_operation", "small_request", "take_answer"]

# Of keys with shapes and priorities, and of shapes: each takes some 300 bytes.
_MOST: Final = 10_000
_DENSE: Final = int(w.Kind.DENSE)
_VERSION_ONLY: Final = w.FrameTemplate(w.Result(1, (w.Entry(None),)))


def small_request(number: int, op: Operation) -> bytes | None:
    """The frame of the request for an operation whose gradients are not packed; None if it goes the long way."""
    try:
        if type(op) is ops.Pull and len(op.keys) == 1:
            return _pull(op.keys[0], op.priority).fill(number, op.min_version)
        if type(op) is not ops.Push or len(op.keys) != 1 or len(op.groups[0]) != 1:
            return None
        array = op.groups[0][0]
        if type(array) is not np.ndarray or array.nbytes >= w.INLINE:
            return None
        if array.dtype not in NATIVE or not array.flags.c_contiguous:
            return None
        return _push(op.keys[0], op.priority, array.dtype, array.shape).fill(number, 0, array.data)
    except ValueError:  # the protocol does not allow it: the long way says why
        return None


def small_operation(small: w.SmallMessage) -> Operation | None:
    """What a request asks for; None: it goes the long way."""
    key, kind, dtype, shape = small.entry[:4]
    if small.row.make is w.Push:
        if kind != _DENSE:
            return None
        # A copy, since compiled updaters are made for arrays that are aligned.
        return ops.Push(key, np.ndarray(shape, w.dtype_to_numpy(dtype), bytes(small.data)), small.fields[0])
    if kind or small.fields[2]:
        return None
    op = ops.Pull(key, None, small.fields[0])
    op.min_version = small.version
    return op


def small_answer(op: Operation, number: int) -> bytes | None:
    """The frame of the answer; None if it goes the long way."""
    result: Any = op.result
    if op.writes:
        return _VERSION_ONLY.fill(number, result)
    if type(result) is not np.ndarray or result.dtype not in NATIVE or not result.flags.c_contiguous:
        return None
    return _value(result.dtype, result.shape).fill(number, 0, result.data)


def take_answer(op: Operation, small: w.SmallMessage) -> bool:
    """Make an operation's outcome of its answer, if that is as plain as its question; else nothing has happened."""
    _, kind, code, shape = small.entry[:4]
    if type(op) is ops.Push and not kind:
        op.result = op.outcome([small.version])
        return True
    if type(op) is not ops.Pull or kind != _DENSE or len(op.keys) != 1:
        return False
    value: np.ndarray = np.ndarray(shape, w.dtype_to_numpy(code), small.data)
    if op.outs is None:
        op.result = op.outcome([value.copy()])
        return True
    (outs,) = op.outs
    if len(outs) != 1 or type(out := outs[0]) is not np.ndarray or (out.shape, out.dtype) != (shape, value.dtype):
        return False
    out[...] = value
    op.result = op.out
    return True


@lru_cache(_MOST)
def _push(key: Key, priority: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> w.FrameTemplate:
    return w.FrameTemplate(w.Push(1, priority, None, (_dense(key, dtype, shape),)))


@lru_cache(_MOST)
def _pull(key: Key, priority: int) -> w.FrameTemplate:
    return w.FrameTemplate(w.Pull(1, priority, None, False, (w.Entry(key),)))


@lru_cache(_MOST)
def _value(dtype: np.dtype[Any], shape: tuple[int, ...]) -> w.FrameTemplate:
    return w.FrameTemplate(w.Result(1, (_dense(None, dtype, shape),)))


def _dense(key: Key | None, dtype: np.dtype[Any], shape: tuple[int, ...]) -> w.Entry:
    nbytes = math.prod(shape) * dtype.itemsize
    return w.Entry(key, _DENSE, w.dtype_from_numpy(dtype), shape, 0, nbytes)
