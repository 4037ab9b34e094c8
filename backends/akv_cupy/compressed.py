"""Writing under gradient compression, with the codecs that have kernels: packed and restored on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from akv.backend.screen import Screen
from akv.compression import Coded, Compression
from akv.errors import DTypeMismatch, InvalidArgument
from akv.optim.updaters import ASSIGN, Elementwise
from akv.values.dtypes import DType, accumulator
from akv.values.forms import Value
from akv.values.keys import Key
from akv_cupy import arithmetic, kernels
from akv_cupy.cell import Cell
from akv_cupy.device import Array, Device
from akv_cupy.inputs import borrow
from akv_cupy.lane import Lane
from akv_cupy.rig import Rig
from akv_cupy.writes import UpdateWrite

__all__ = ["PackedWrite", "PackingWrite", "Residuals", "can_code"]


def can_code(codec: Compression, dtype: DType) -> bool:
    """Whether there are kernels for this codec and values of this dtype."""
    try:
        kernels.encoding(codec, dtype, 1, feedback=True)
        kernels.decoding(codec, accumulator(dtype), 1)
    except (InvalidArgument, DTypeMismatch, kernels.NotTranslatable):
        return False
    return True


class Residuals:
    """What error feedback remembers, on the devices: an array per key and place in the list of a push."""

    def __init__(self) -> None:
        self._by_key: dict[Key, dict[int, Array]] = {}

    def of(self, lane: Lane, key: Key, place: int, like: Array) -> Array:
        """The residual for gradients like this one, zeros at first; its owner has the turn of the key."""
        found = self._by_key.setdefault(key, {}).get(place)
        if found is None:
            found = lane.empty(like.device, (like.size,), accumulator(like.dtype))
            lane.clear(found)
            self._by_key[key][place] = found
        return found

    def drop(self, key: Key) -> None:
        """The key was deleted."""
        self._by_key.pop(key, None)


class _Restoring(UpdateWrite):
    """The sum of restored values goes through an updater, or takes the value's place."""

    __slots__ = ("_codec",)

    def __init__(
        self,
        rig: Rig,
        key: Key,
        cell: Cell,
        parts: Sequence[Value],
        codec: Compression,
        updater: Elementwise,
        screen: Screen | None,
    ) -> None:
        super().__init__(rig, key, cell, parts, updater, screen)
        self._codec = codec

    def keep(self, lane: Lane, packed: Sequence[Array]) -> None:
        """Restore and sum; in fresh memory, also for an assign."""
        cell = self._cell
        self._inputs = lane.empty(cell.home, cell.shape, accumulator(cell.dtype))
        for number, one in enumerate(packed):
            coding = kernels.decoding(self._codec, self._inputs.dtype, self._inputs.size, add=number > 0)
            self._launch(lane, coding, self._inputs, *_views(coding, one))
        if self._updater is ASSIGN:
            self._target = lane.empty(cell.home, cell.shape, cell.dtype)
            arithmetic.cast(lane, self._inputs, self._target)

    def change(self, lane: Lane) -> None:
        if self._updater is not ASSIGN:
            super().change(lane)

    def _launch(self, lane: Lane, coding: kernels.Coding, *arguments: Array) -> None:
        lane.launch(self._cell.home, coding.kernel, coding.size, *arguments, *coding.numbers)

    def _room(self, lane: Lane, home: Device) -> Array:
        return lane.empty(home, (self._codec.packed_nbytes(self._target.size),), np.dtype(np.uint8))


class PackingWrite(_Restoring):
    """Gradients are packed with their residuals, and restored: what a receiver would make of them."""

    __slots__ = ("_residuals",)

    def __init__(
        self,
        rig: Rig,
        key: Key,
        cell: Cell,
        parts: Sequence[Value],
        codec: Compression,
        residuals: Residuals,
        updater: Elementwise,
        screen: Screen | None,
    ) -> None:
        super().__init__(rig, key, cell, parts, codec, updater, screen)
        self._residuals = residuals

    def take(self, lane: Lane) -> None:
        grads = [borrow(lane, part, self._cell.home) for part in self._parts]
        self.keep(lane, [self._pack(lane, place, grad) for place, grad in enumerate(grads)])

    def _pack(self, lane: Lane, place: int, grad: Array) -> Array:
        packed = self._room(lane, grad.device)
        coding = kernels.encoding(self._codec, grad.dtype, grad.size, feedback=True)
        residual = self._residuals.of(lane, self._key, place, grad)
        self._launch(lane, coding, *_views(coding, packed), residual, grad)
        return packed


class PackedWrite(_Restoring):
    """What senders have packed."""

    __slots__ = ("_packed",)

    def __init__(
        self, rig: Rig, key: Key, cell: Cell, packed: Sequence[Coded], updater: Elementwise, screen: Screen | None
    ) -> None:
        super().__init__(rig, key, cell, (), packed[0].codec, updater, screen)
        self._packed = packed

    def prepare(self, lane: Lane) -> None:
        if self._screen is not None and self._codec.carries_nonfinite:
            for value in self._packed:
                # A codec that carries what is not finite is restored to be looked at, here and not on the device.
                self._screen.look(_restored(value))
        super().prepare(lane)

    def take(self, lane: Lane) -> None:
        self.keep(lane, [borrow(lane, value.packed, self._cell.home) for value in self._packed])


def _restored(value: Coded) -> np.ndarray:
    values = np.empty(value.size, accumulator(value.dtype))
    value.codec.decode(value.packed, values)
    return values


def _views(coding: kernels.Coding, packed: Array) -> list[Array]:
    return [packed.seen_as(dtype) for dtype in coding.views]
