"""Stores on simulated devices, and looking behind their back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from akv.backend import registry
from akv.values.keys import Key
from akv_cupy.executor import DeviceBackend
from akv_cupy.provider import Provider
from akv_cupy.simulated import SimulatedMachine
from akv_cupy.simulated.machine import raw

__all__ = ["SCHEME", "backend_of", "machine_of", "simulated", "stored"]

SCHEME = "simulated"


class Simulated(Provider):
    """`simulated://0,1/name`: as `cupy://`, without a GPU."""

    def __init__(self) -> None:
        self.machines: list[SimulatedMachine] = []
        super().__init__(SCHEME, self._open)

    def _open(self, devices: Sequence[int], limit: int | None) -> SimulatedMachine:
        machine = SimulatedMachine(len(devices), limit, seed=len(self.machines))
        self.machines.append(machine)
        return machine


def provider() -> Simulated:
    """The one that is registered."""
    known = registry._registered.get(SCHEME)
    if known is None:
        known = Simulated()
        registry.register(SCHEME, known)
    assert isinstance(known, Simulated)
    return known


def backend_of(url: str) -> DeviceBackend:
    """The backend of a store with a name."""
    name = url.removeprefix(f"{SCHEME}://").partition("?")[0]
    backend: Any = registry._open.engines[SCHEME, name].backend
    assert isinstance(backend, DeviceBackend)
    return backend


def machine_of(url: str) -> SimulatedMachine:
    """Its machine."""
    machine: Any = backend_of(url).storage.rig.machine
    return machine


def stored(url: str, key: Key) -> np.ndarray:
    """What is in the device's memory right now, waited for or not; it can be changed."""
    return raw(backend_of(url).storage._catalog.entries[key].array)


@contextmanager
def simulated(name: str = "0/test") -> Iterator[str]:
    """The URL of a store on simulated devices; afterwards nothing must have gone unordered there."""
    made = provider().machines
    before = len(made)
    yield f"{SCHEME}://{name}"
    for machine in made[before:]:
        assert not machine.scheduler.complaints
    del made[before:]
