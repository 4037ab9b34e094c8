"""Gradients packed on their way to a server: a thread packs, and the connection sends what is packed already.

A push is packed once, whatever becomes of the connection; sent again it is the same bytes. A key's residual takes
effect when the server has applied the push: until then there are two, and a push that comes to nothing leaves the old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from akv.backend.compressed import check_packable
from akv.backend.thread_pool import ThreadPool
from akv.compression import Compression, Scheme
from akv.errors import DTypeMismatch, NonFinite, ProtocolError
from akv.optim import sum_into
from akv.optim.blocks import flat
from akv.values.dtypes import DType, accumulator
from akv.values.forms import Value, check_shape
from akv.values.keys import Key

from . import wire as w

__all__ = ["Packing", "Quantiser"]

# Values per step. The loop's thread takes 50 us to wake up: where each step's loops run for less, it finds the
# interpreter taken, and the first bytes leave after 2.3 ms instead of 0.6 (with 1 << 16).
_BLOCK = 1 << 18
# The loop hears of progress each time so many bytes are packed: at 1 Gbit/s they take 1 ms.
_NEWS = 128 * 1024
# Gradients of no more bytes than this are packed on the loop; a thread hop costs as much.
_AT_ONCE = 256 * 1024


class Quantiser:
    """What a client that compresses knows: the scheme and, for each key, what was not sent yet."""

    def __init__(self) -> None:
        self._scheme: Scheme | None = None
        self._prepared: set[DType] = set()
        self.pool = ThreadPool("akv-tcp")
        self._residuals: dict[Key, np.ndarray] = {}
        # One of each size: fresh memory of 64 MiB costs 10 ms, and to give it back costs some, too.
        self._spare: dict[int, np.ndarray] = {}

    @property
    def scheme(self) -> Scheme | None:
        """How gradients are packed, if they are."""
        return self._scheme

    @scheme.setter
    def scheme(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self.pool.submit(partial(self.prepare, np.dtype(np.float32)))

    def prepare(self, dtype: DType) -> None:
        """In a thread: compile what packing values of this dtype needs, which takes a second where it is not cached."""
        if self._scheme is not None and dtype not in self._prepared:
            self._scheme.prepare(dtype)
            self._prepared.add(dtype)

    def is_prepared(self, dtype: DType) -> bool:
        """Whether nothing has to be compiled."""
        return dtype in self._prepared

    def pack(self, verb: str, keys: Sequence[Key], groups: Sequence[Sequence[Value]]) -> Packing | None:
        """The packing of a push, still to be started; None where nothing is compressed.

        Raises:
            InvalidArgument, DTypeMismatch: a value cannot be packed. ShapeMismatch: the values of a key differ.
        """
        if self.scheme is None:
            return None
        codec = self.scheme.push
        checked = [_checked(verb, key, group) for key, group in zip(keys, groups, strict=True)]
        parcels = [self._parcel(verb, codec, key, arrays) for key, arrays in zip(keys, checked, strict=True)]
        return Packing(self, parcels)

    @property
    def pull_codec(self) -> Compression:
        """How values come packed. Raises ProtocolError: they should not."""
        if self.scheme is None or self.scheme.pull is None:
            raise ProtocolError("packed values have come that nobody asked for")
        return self.scheme.pull

    def _parcel(self, verb: str, codec: Compression, key: Key, arrays: Sequence[np.ndarray]) -> Parcel:
        size, work = arrays[0].size, accumulator(arrays[0].dtype)
        old = self._residuals.get(key)
        if old is not None and (old.size, old.dtype) != (size, work):
            old = None  # another client has deleted the key, and made one of that name that is different
        spare = self._spare.pop(size * work.itemsize, None)
        return Parcel(verb, codec, key, arrays, old, np.empty(size, work) if spare is None else spare.view(work))

    def settle(self, parcel: Parcel, applied: bool) -> None:
        """The server has applied it, or it never will."""
        unused: np.ndarray | None = parcel.residual
        if applied:
            unused = self._residuals.get(parcel.key)
            self._residuals[parcel.key] = parcel.residual
        if unused is not None:
            self._spare[unused.nbytes] = unused

    def drop(self, keys: Sequence[Key]) -> None:
        """The keys were deleted."""
        for key in keys:
            self._residuals.pop(key, None)


class Parcel:
    """The sum of one key's values, and its packed bytes.

    Attributes:
        residual: the new one.
        growing: the bytes.
    """

    __slots__ = ("_codec", "_grads", "_like", "_old", "_packed", "_verb", "growing", "key", "residual")

    def __init__(
        self,
        verb: str,
        codec: Compression,
        key: Key,
        arrays: Sequence[np.ndarray],
        old: np.ndarray | None,
        residual: np.ndarray,
    ) -> None:
        self._verb, self._codec, self.key = verb, codec, key
        self._like, self._grads = arrays[0], [flat(array) for array in arrays]
        self._old, self.residual = old, residual
        self._packed = np.empty(codec.packed_nbytes(residual.size), np.uint8)
        self.growing = w.Growing(self._packed.data)

    @property
    def entry(self) -> w.Entry:
        """What announces the bytes."""
        dtype = w.dtype_from_numpy(self._like.dtype)
        return w.Entry(self.key, w.Kind.CODED, dtype, self._like.shape, 0, self._packed.size)

    @property
    def bulky(self) -> bool:
        """Whether the bytes travel in slices."""
        return self._packed.size >= w.INLINE

    def fill(self) -> Iterator[None]:
        """Pack, with a stop now and then. Raises NonFinite."""
        codec, size = self._codec, self.residual.size
        step = max(_BLOCK // codec.granule, 1) * codec.granule
        for start in range(0, size, step):
            stop = min(start + step, size)
            low, high = codec.packed_nbytes(start), codec.packed_nbytes(stop)
            self._fill(slice(start, stop), self._packed[low:high])
            self.growing.filled = high
            if not low or low // _NEWS < high // _NEWS:
                yield

    def _fill(self, part: slice, packed: np.ndarray) -> None:
        grad, residual = self._grad(part), self.residual[part]
        if not self._codec.carries_nonfinite and not np.isfinite(grad).all():
            raise NonFinite(
                f"{self._verb} of key {self.key!r}: NaN or infinity cannot be packed with {self._codec.name}; "
                "nothing has changed"
            )
        residual[...] = 0 if self._old is None else self._old[part]
        self._codec.encode(grad, residual, packed)

    def _grad(self, part: slice) -> np.ndarray:
        values: list[np.ndarray] = [grad[part] for grad in self._grads]
        if len(values) == 1:
            return values[0]
        total: np.ndarray = np.empty(values[0].size, self.residual.dtype)
        sum_into(total, values)
        return total


class Packing:
    """One push while it is packed; all but the thread's own part is for the loop.

    Attributes:
        begun: what rides in the first frames is packed, so that it may be sent; set by whoever sends it.
        error: why it came to nothing.
    """

    def __init__(self, quantiser: Quantiser, parcels: Sequence[Parcel]) -> None:
        self.begun = False
        self.error: Exception | None = None
        self._quantiser, self._parcels = quantiser, parcels
        self._stopped = self._finished = False
        self._waiting: Callable[[], None] | None = None

    @property
    def entries(self) -> tuple[w.Entry, ...]:
        """What announces the values."""
        return tuple(parcel.entry for parcel in self._parcels)

    @property
    def data(self) -> list[w.Payload]:
        """Their bytes."""
        return [parcel.growing if parcel.bulky else parcel.growing.view for parcel in self._parcels]

    def start(self, loop: asyncio.AbstractEventLoop, news: Callable[[], None]) -> None:
        """Pack. `news` is called on the loop when it may be sent, when there is more, and when it is over."""
        self._loop, self._news = loop, news
        small = sum(parcel.residual.nbytes for parcel in self._parcels) <= _AT_ONCE
        if small and all(self._quantiser.is_prepared(parcel.residual.dtype) for parcel in self._parcels):
            self._work(lambda call: call())
        else:
            self._quantiser.pool.submit(lambda: self._work(self._post))

    def release(self, then: Callable[[], None]) -> bool:
        """Whether nothing is read or written any more; else that will be so soon, and then `then` is called."""
        self._stopped = True
        if not self._finished and self._waiting is None:
            self._waiting = then
        return self._finished

    def settle(self, applied: Sequence[Key]) -> None:
        """It is over; the server has applied these keys. Once, and not before `release` says yes."""
        for parcel in self._parcels:
            self._quantiser.settle(parcel, parcel.key in applied)
        self._parcels = ()

    # -- in a thread ------------------------------------------------------------------------------------------

    def _work(self, post: Callable[[Callable[[], None]], None]) -> None:
        try:
            for parcel in self._parcels:
                self._quantiser.prepare(parcel.residual.dtype)
            self._fill([parcel for parcel in self._parcels if not parcel.bulky], lambda: None)
            post(self._news)
            self._fill([parcel for parcel in self._parcels if parcel.bulky], lambda: post(self._news))
        except Exception as error:
            self.error = error
        post(self._finish)

    def _fill(self, parcels: Sequence[Parcel], news: Callable[[], None]) -> None:
        for parcel in parcels:
            for _ in parcel.fill():
                if self._stopped:
                    return
                news()

    def _post(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            self._stopped = True  # the loop is closed

    # -- on the loop ------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._finished = True
        then, self._waiting = self._waiting, None
        (then or self._news)()


def _checked(verb: str, key: Key, group: Sequence[Value]) -> list[np.ndarray]:
    arrays = [check_packable(verb, key, value) for value in group]
    for array in arrays[1:]:
        check_shape(verb, key, array.shape, arrays[0].shape)
        if array.dtype != arrays[0].dtype:
            raise DTypeMismatch(f"{verb} of key {key!r}: values of {arrays[0].dtype} and of {array.dtype}")
    return arrays
