"""From a URL to a store: which devices, how much of their memory."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from akv.backend.options import Option, choice, positive_integer
from akv.errors import InvalidArgument
from akv_cupy.device import Machine
from akv_cupy.executor import DeviceBackend
from akv_cupy.rig import Rig
from akv_cupy.storage import DeviceStorage

__all__ = ["Opener", "Provider", "read_bytes", "read_devices"]

# Called with the devices' numbers, and the most bytes that each may hold.
Opener = Callable[[Sequence[int], int | None], Machine]

_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}
_STAGING_NBYTES = 64 << 20


class Provider:
    """Opens stores on GPUs; see akv.backend.registry.Provider.

    Args:
        kind: the word of `KVStore.type`, and the scheme, for errors.
        opener: finds the devices; by default those of CUDA, through CuPy.
    """

    shared = True
    lasting = False  # the memory of a GPU is too dear for what nobody has open
    options: Mapping[str, Option]

    def __init__(self, kind: str = "cupy", opener: Opener | None = None) -> None:
        self.options = {
            "on_nonfinite": Option(choice("allow", "reject", "skip"), "allow"),
            "memory_limit": Option(read_bytes, None),
            "staging": Option(read_bytes, _STAGING_NBYTES),
        }
        self._kind, self._opener = kind, opener

    def open(self, name: str, options: Mapping[str, Any]) -> DeviceBackend:
        """Open an empty store on the devices that `name` begins with: "0", "0,1", "0,1/train"; on 0 without any.

        Raises:
            BackendUnavailable: something is missing on this machine; the text names it, and the command that mends it.
            InvalidArgument: the name has no meaning.
        """
        devices = read_devices(self._kind, name)
        opener = self._opener or importlib.import_module("akv_cupy.cuda").open_machine
        rig = Rig(opener(devices, options["memory_limit"]), options["staging"])
        storage = DeviceStorage(rig, options["on_nonfinite"])
        return DeviceBackend(self._kind, storage, options["max_queued"])


def read_devices(scheme: str, name: str) -> list[int]:
    """The numbers that a URL's name begins with. Raises InvalidArgument."""
    numbers = name.partition("/")[0]
    try:
        devices = [int(number) for number in numbers.split(",")] if numbers else [0]
    except ValueError:
        devices = []
    if not devices or min(devices) < 0 or len(set(devices)) < len(devices):
        raise InvalidArgument(
            f"{scheme}://{name}: the name begins with the devices' numbers, as in {scheme}://0 or {scheme}://0,1, "
            f"and goes on with a name of its own where there are several stores, as in {scheme}://0/train"
        )
    return devices


def read_bytes(value: Any) -> int:
    """Read a number of bytes: an integer, or one with K, M, G or T behind it (powers of 1024)."""
    text = str(value).strip().upper().removesuffix("B").removesuffix("I")
    shift = _UNITS.get(text[-1:], 0)
    try:
        return positive_integer(text[:-1] if shift else text) << shift
    except ValueError:
        raise ValueError("it has to be an integer from 1 on, with K, M, G or T behind it or not") from None
