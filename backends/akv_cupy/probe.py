"""What a store on a GPU needs, looked at step by step: CuPy, the driver, the devices, NVRTC, and one kernel run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from akv.errors import BackendUnavailable

__all__ = ["Step", "check", "probe"]

_SOURCE = 'extern "C" __global__ void akv_probe(int *found) { found[0] = 42; }'
_EXTRAS = "pip install 'akv-store[cuda12]' (or [cuda13], for a driver that shows CUDA 13 in nvidia-smi)"
_ERROR_INITIALIZATION, _ERROR_INSUFFICIENT_DRIVER = 3, 35


class Step(NamedTuple):
    """What was looked at, whether it is there, what was found, and what to do if not."""

    name: str
    good: bool
    text: str
    advice: str = ""


class _Missing(Exception):
    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.text, self.advice = text, advice


def check(indices: Sequence[int]) -> None:
    """Go through all steps.

    Raises:
        BackendUnavailable: at the first that is missing; the text says what to do.
    """
    for step in probe(indices):
        if not step.good:
            raise BackendUnavailable(f"cupy://: {step.text}; {step.advice} (`akv doctor` looks at all steps)")


def probe(indices: Sequence[int] | None = None) -> Iterator[Step]:
    """The steps, for devices with these numbers, or all; up to the first one that is missing, and NVRTC in any case."""
    failed = False
    for name, look in _STEPS:
        if failed and look is not _nvrtc:
            continue
        try:
            yield Step(name, True, look(indices))
        except _Missing as missing:
            failed = True
            yield Step(name, False, missing.text, missing.advice)
            if look is _cupy:
                return


def _cupy(indices: Sequence[int] | None) -> str:
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        if getattr(error, "name", None) == "cupy":
            raise _Missing("CuPy is not installed", _EXTRAS) from error
        raise _Missing(f"CuPy is installed, and cannot be imported: {error}", f"install it again: {_EXTRAS}") from error
    built = cupy.cuda.runtime.runtimeGetVersion()
    return f"CuPy {cupy.__version__}, for CUDA {_version(built)}"


def _driver(indices: Sequence[int] | None) -> str:
    found = _runtime().driverGetVersion()
    if not found:
        raise _Missing(
            "there is no NVIDIA driver here",
            "install one, so that nvidia-smi works; in a container, start it with --gpus all",
        )
    return f"for CUDA up to {_version(found)}"


def _devices(indices: Sequence[int] | None) -> str:
    runtime = _runtime()
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise _without_devices(runtime, error) from error
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    limited = "" if seen is None else f", with CUDA_VISIBLE_DEVICES={seen!r}"
    if not count:
        raise _Missing(f"no device is visible{limited}", "unset CUDA_VISIBLE_DEVICES, or look at nvidia-smi")
    absent = [index for index in indices or () if index >= count]
    if absent:
        raise _Missing(f"there is no device {absent[0]}, only {count}{limited}", f"open cupy://0 to {count - 1}")
    return "; ".join(_described(index) for index in (range(count) if indices is None else indices))


def _without_devices(runtime: Any, error: Any) -> _Missing:
    if error.status == _ERROR_INITIALIZATION:
        return _Missing(
            "CUDA does not start, as it never does in a process forked from one that used it",
            "start processes with multiprocessing's spawn method, or look at nvidia-smi",
        )
    if error.status == _ERROR_INSUFFICIENT_DRIVER:
        text = f"the driver is for CUDA {_version(runtime.driverGetVersion())}, and CuPy for "
        return _Missing(
            f"{text}{_version(runtime.runtimeGetVersion())}", "update the driver, or take the extra [cuda12]"
        )
    return _Missing(f"CUDA says {error}", "look at nvidia-smi")


def _described(index: int) -> str:
    about = _runtime().getDeviceProperties(index)
    return (
        f"{index}: {about['name'].decode()}, {about['totalGlobalMem'] / 2**30:.0f} GiB, "
        f"compute capability {about['major']}.{about['minor']}"
    )


def _nvrtc(indices: Sequence[int] | None) -> str:
    nvrtc: Any = importlib.import_module("cupy").cuda.nvrtc
    try:
        program = nvrtc.createProgram(_SOURCE, "akv_probe.cu", (), ())
        try:
            # The oldest that kernels are tested for; whatever card there is, this needs none.
            nvrtc.compileProgram(program, ("--gpu-architecture=compute_80",))
        finally:
            nvrtc.destroyProgram(program)
    except Exception as error:  # of cuda.pathfinder's where it is missing, of NVRTC's where it does not work
        raise _Missing(
            f"the compiler of CUDA kernels does not work: {error}",
            "pip install 'cuda-toolkit[nvrtc,cudart]==12.*', or 13 for cupy-cuda13x; the extras of akv-store bring it",
        ) from error
    return "{}.{} compiles kernels".format(*nvrtc.getVersion())


def _run(indices: Sequence[int] | None) -> str:
    cupy: Any = importlib.import_module("cupy")
    places = range(_runtime().getDeviceCount()) if indices is None else indices
    kernel = cupy.RawKernel(_SOURCE, "akv_probe")
    for index in places:
        try:
            with cupy.cuda.Device(index), cupy.cuda.Stream(non_blocking=True):
                # From a pool of its own: the process's pool is not ours to fill.
                memory = cupy.cuda.MemoryPool().malloc(4)
                found = cupy.ndarray((1,), "int32", memory)
                kernel((1,), (1,), (found,))
                answer = int(found.get()[0])
        except Exception as error:  # of CuPy's, CUDA's or the compiler's, of which there are many
            raise _Missing(f"a kernel on device {index} fails: {error}", "look at nvidia-smi") from error
        if answer != 42:
            raise _Missing(f"a kernel on device {index} gives {answer} instead of 42", "look at nvidia-smi")
    return f"a kernel ran on {', '.join(map(str, places))}"


def _runtime() -> Any:
    return importlib.import_module("cupy").cuda.runtime


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


_STEPS: Sequence[tuple[str, Callable[[Sequence[int] | None], str]]] = (
    ("CuPy", _cupy),
    ("driver", _driver),
    ("devices", _devices),
    ("NVRTC", _nvrtc),
    ("a run", _run),
)
