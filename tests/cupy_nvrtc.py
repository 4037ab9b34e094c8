"""NVRTC through ctypes: from the wheel nvidia-cuda-nvrtc, or wherever the system's loader finds it."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from akv_cupy.kernels import Kernel


@cache
def library() -> Any:
    """The library, or None."""
    for path in [*_in_wheels(), ctypes.util.find_library("nvrtc")]:
        if path is not None:
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    return None


def _in_wheels() -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for folder in folders for path in sorted(Path(folder).glob("*/lib/libnvrtc.so*"))]
    return [path for path in found if ".alt." not in path.name]


class CompileError(Exception):
    """NVRTC's log."""


def compiled(kernel: Kernel, architecture: str, options: tuple[str, ...] | None = None) -> bytes:
    """The kernel as a cubin (for sm_...) or as PTX (for compute_...)."""
    what = "CUBIN" if architecture.startswith("sm_") else "PTX"
    flags = [f"--gpu-architecture={architecture}", *(kernel.options if options is None else options)]
    program = ctypes.c_void_p()
    source, name = kernel.source.encode(), f"{kernel.name}.cu".encode()
    _check(library().nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None))
    try:
        passed = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        if library().nvrtcCompileProgram(program, len(flags), passed):
            raise CompileError(_text(program, "ProgramLog").decode(errors="replace"))
        log = _text(program, "ProgramLog").rstrip(b"\0\n")
        assert not log, log.decode(errors="replace")
        return _text(program, what)
    finally:
        library().nvrtcDestroyProgram(ctypes.byref(program))


def _text(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    memory = ctypes.create_string_buffer(size.value)
    _check(getattr(library(), f"nvrtcGet{what}")(program, memory))
    return memory.raw


def _check(code: int) -> None:
    if code:
        raise CompileError(f"NVRTC error {code}")
