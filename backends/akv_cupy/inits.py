"""Initialising: a new value."""

from __future__ import annotations

from akv.backend.catalog import Catalog
from akv.values.device import OnDevice
from akv.values.forms import Value
from akv.values.keys import Key
from akv_cupy.cell import Cell
from akv_cupy.device import Array
from akv_cupy.guests import own
from akv_cupy.inputs import bring
from akv_cupy.lane import Lane
from akv_cupy.rig import Rig
from akv_cupy.transaction import DeviceTransaction

__all__ = ["Create"]


class Create(DeviceTransaction):
    """An init: a copy in a device's memory, which joins the catalog when it is whole."""

    __slots__ = ("_array", "_catalog", "_key", "_owner", "_value")

    def __init__(self, rig: Rig, catalog: Catalog[Cell], key: Key, value: Value, owner: int) -> None:
        super().__init__(rig, value.nbytes)
        self._catalog, self._key, self._value, self._owner = catalog, key, value, owner
        self._array: Array

    def prepare(self, lane: Lane) -> None:
        home = self._rig.home()
        value = self._value
        self._array = own(lane, value, home) if isinstance(value, OnDevice) else bring(lane, value, home)

    def apply(self, lane: Lane) -> None:
        """Nothing is there that could change."""

    def commit(self) -> None:
        cell = Cell(self._rig, self._array, self._catalog.first_version(self._key))
        cell.owners.add(self._owner)
        self._catalog.add(self._key, cell)
