"""Writing: what a push does to the value of one key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from akv.backend.screen import Screen
from akv.optim.updaters import ASSIGN, Elementwise
from akv.values.device import OnDevice
from akv.values.forms import Value
from akv.values.keys import Key
from akv.values.rowsparse import RowSparse, merge
from akv_cupy import arithmetic
from akv_cupy.cell import Cell
from akv_cupy.guests import bring_guest, own
from akv_cupy.inputs import borrow, borrow_all, bring
from akv_cupy.inspection import inspect
from akv_cupy.lane import Lane
from akv_cupy.rig import Rig
from akv_cupy.transaction import DeviceTransaction
from akv_cupy.updating import update

__all__ = ["AssignWrite", "RowWrite", "UpdateWrite", "Write"]


class Write(DeviceTransaction):
    """What all writes share: what was pushed, where the outcome is, and the step to the next version."""

    __slots__ = ("_cell", "_dropped", "_key", "_parts", "_screen", "_target")

    def __init__(self, rig: Rig, key: Key, cell: Cell, parts: Sequence[Value], screen: Screen | None) -> None:
        super().__init__(rig, cell.nbytes)
        self._key, self._cell, self._parts, self._screen = key, cell, parts, screen
        self._target = cell.array
        self._dropped = False

    def prepare(self, lane: Lane) -> None:
        if self._screen is not None:
            self._dropped = inspect(lane, self._parts, self._screen)
        if not self._dropped:
            self.take(lane)

    def apply(self, lane: Lane) -> None:
        if not self._dropped:
            self.change(lane)
            lane.next[self._cell] = self._target

    def take(self, lane: Lane) -> None:
        """`prepare` of a push that counts."""

    def change(self, lane: Lane) -> None:
        """`apply` of a push that counts."""

    def commit(self) -> int:
        cell = self._cell
        if not self._dropped:
            cell.array = self._target
            cell.count += 1
            cell.version += 1
        return cell.version


class AssignWrite(Write):
    """The sum of some arrays takes the value's place. It is made in fresh memory: no error leaves half of it."""

    __slots__ = ("_donate",)

    def __init__(
        self, rig: Rig, key: Key, cell: Cell, parts: Sequence[Value], donate: bool, screen: Screen | None
    ) -> None:
        super().__init__(rig, key, cell, parts, screen)
        self._donate = donate

    def take(self, lane: Lane) -> None:
        cell, first = self._cell, self._parts[0]
        if len(self._parts) > 1:
            self._target = lane.empty(cell.home, cell.shape, cell.dtype)
            arithmetic.add_up(lane, borrow_all(lane, self._parts, cell.home), self._target)
        elif not isinstance(first, OnDevice):
            self._target = bring(lane, first, cell.home)
        else:
            self._target = (bring_guest if self._donate else own)(lane, first, cell.home)


class UpdateWrite(Write):
    """The sum of some arrays goes through an updater, which changes the value in place."""

    __slots__ = ("_inputs", "_updater")

    def __init__(
        self, rig: Rig, key: Key, cell: Cell, parts: Sequence[Value], updater: Elementwise, screen: Screen | None
    ) -> None:
        super().__init__(rig, key, cell, parts, screen)
        self._updater = updater

    def take(self, lane: Lane) -> None:
        self._inputs = arithmetic.total(lane, borrow_all(lane, self._parts, self._cell.home))

    def change(self, lane: Lane) -> None:
        cell = self._cell
        state = cell.state_for(lane, self._updater)
        update(lane, self._updater, self._key, cell.count + 1, cell.array, self._inputs, state)


class RowWrite(Write):
    """Only some rows were pushed. An assign clears the others, as if the rows had come in a dense array of zeros."""

    __slots__ = ("_ids", "_rows", "_updater")

    def __init__(
        self, rig: Rig, key: Key, cell: Cell, parts: Sequence[RowSparse], updater: Elementwise, screen: Screen | None
    ) -> None:
        super().__init__(rig, key, cell, parts, screen)
        self._updater = updater

    def take(self, lane: Lane) -> None:
        cell, merged = self._cell, merge(cast("Sequence[RowSparse]", self._parts))
        self._ids = borrow(lane, merged.indices, cell.home)
        self._rows = borrow(lane, merged.values, cell.home)
        if self._updater is ASSIGN:
            self._target = lane.empty(cell.home, cell.shape, cell.dtype)
            lane.clear(self._target)
            arithmetic.scatter(lane, self._rows, self._ids, self._target)

    def change(self, lane: Lane) -> None:
        if self._updater is ASSIGN:
            return
        cell = self._cell
        arrays = (cell.array, *cell.state_for(lane, self._updater))
        rows = [arithmetic.gather(lane, array, self._ids) for array in arrays]
        update(lane, self._updater, self._key, cell.count + 1, rows[0], self._rows, rows[1:])
        for array, new in zip(arrays, rows, strict=True):
            arithmetic.scatter(lane, new, self._ids, array)
