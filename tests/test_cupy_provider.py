"""URLs of stores on GPUs, and what a machine lacks for them: found out when a store is opened, with advice."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import pytest
from cupy_cases import machine_of, provider, simulated

import akv
from akv import sync
from akv.backend.registry import resolve
from akv.cli import doctor, main
from akv_cupy import probe as probe_module
from akv_cupy.probe import check, probe
from akv_cupy.provider import read_bytes, read_devices


@pytest.mark.parametrize(
    ("name", "devices"), [("", [0]), ("0", [0]), ("1", [1]), ("0,1", [0, 1]), ("3,1/train", [3, 1]), ("0/1", [0])]
)
def test_the_name_begins_with_the_devices(name: str, devices: list[int]) -> None:
    assert read_devices("cupy", name) == devices


@pytest.mark.parametrize("name", ["x", "0,", "0,0", "-1", "0 1", "train/0", ",", "1.0"])
def test_a_name_without_meaning(name: str) -> None:
    with pytest.raises(akv.InvalidArgument, match=r"cupy://0,1"):
        read_devices("cupy", name)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("1", 1), ("512K", 512 << 10), ("3M", 3 << 20), ("2G", 2 << 30), ("2GiB", 2 << 30), ("1t", 1 << 40), (7, 7)],
)
def test_numbers_of_bytes(text: object, nbytes: int) -> None:
    assert read_bytes(text) == nbytes


@pytest.mark.parametrize("text", ["", "0", "-1G", "G", "1.5G", "many"])
def test_no_number_of_bytes(text: str) -> None:
    with pytest.raises(ValueError, match=r"integer|invalid literal"):
        read_bytes(text)


async def test_options() -> None:
    provider()
    with simulated("0/options") as url:
        async with akv.connect(f"{url}?memory_limit=8M&staging=16M&on_nonfinite=reject") as kv:
            assert machine_of(url).devices[0].pool.limit == 8 << 20
            assert kv.type == "simulated"
    with pytest.raises(akv.InvalidArgument, match="memory_limit='much'"):
        await akv.connect("simulated://0?memory_limit=much")


async def test_stores_by_name() -> None:
    provider()
    with simulated("0/a") as one, simulated("0/b") as other:
        async with akv.connect(one) as kv, akv.connect(one) as same, akv.connect(other) as apart:
            await kv.broadcast("w", akv_ones())
            assert await same.keys() == ["w"]
            assert await apart.keys() == []
        async with akv.connect(one) as kv:
            assert await kv.keys() == []


def akv_ones() -> Any:
    import numpy as np

    return np.ones(3, np.float32)


def test_nothing_imports_cupy_before_a_store_is_opened() -> None:
    code = "import sys, akv, akv_cupy, akv_cupy.cuda; sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# -- what is missing ------------------------------------------------------------------------------------------------


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"cuda error {status}")
        self.status = status


def fake(driver: int = 12040, count: Any = 1, nvrtc: BaseException | None = None, answer: Any = 42) -> Any:
    """A cupy on a machine that has so much."""

    def get_device_count() -> int:
        if isinstance(count, int):
            return count
        raise count

    def create_program(*arguments: object) -> int:
        if nvrtc is not None:
            raise nvrtc
        return 1

    def kernel(*arguments: object) -> None:
        if isinstance(answer, BaseException):
            raise answer

    runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 12090,
        getDeviceCount=get_device_count,
        getDeviceProperties=lambda index: {"name": b"Sim", "totalGlobalMem": 2**34, "major": 9, "minor": 0},
    )
    compiler = types.SimpleNamespace(
        createProgram=create_program,
        compileProgram=lambda *_: None,
        destroyProgram=lambda *_: None,
        getVersion=lambda: (12, 9),
    )
    module = types.ModuleType("cupy")
    found = types.SimpleNamespace(get=lambda: [answer])
    module.__dict__.update(
        __version__="14.2.0",
        RawKernel=lambda *_: kernel,
        ndarray=lambda *_: found,
        cuda=types.SimpleNamespace(
            runtime=runtime,
            nvrtc=compiler,
            Device=lambda index: Nothing(),
            Stream=lambda **_: Nothing(),
            MemoryPool=lambda: types.SimpleNamespace(malloc=lambda nbytes: None),
        ),
    )
    return module


class Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


LADDER = [
    ("driver", fake(driver=0), [0], r"no NVIDIA driver.*nvidia-smi.*--gpus all"),
    ("old driver", fake(11080, CUDARuntimeError(35)), [0], r"driver is for CUDA 11\.8, and CuPy for 12\.9.*cuda12"),
    ("fork", fake(count=CUDARuntimeError(3)), [0], r"forked.*spawn"),
    ("other", fake(count=CUDARuntimeError(802)), [0], r"cuda error 802.*nvidia-smi"),
    ("none", fake(count=0), [0], r"no device is visible.*CUDA_VISIBLE_DEVICES"),
    ("absent", fake(count=2), [0, 2], r"no device 2, only 2.*cupy://0 to 1"),
    (
        "NVRTC",
        fake(nvrtc=RuntimeError("no libnvrtc.so.12")),
        [0],
        r"libnvrtc\.so\.12.*pip install 'cuda-toolkit\[nvrtc",
    ),
    ("launch", fake(answer=RuntimeError("broken")), [0], r"device 0 fails: broken"),
    ("answer", fake(answer=41), [0], r"41 instead of 42"),
]


@pytest.mark.parametrize(("module", "devices", "text"), [case[1:] for case in LADDER], ids=[case[0] for case in LADDER])
def test_what_is_missing_is_named_with_what_mends_it(
    module: Any, devices: list[int], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(akv.BackendUnavailable, match=text):
        check(devices)


def test_a_whole_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake(count=2))
    steps = list(probe())
    assert [step.name for step in steps] == ["CuPy", "driver", "devices", "NVRTC", "a run"]
    assert all(step.good for step in steps)
    assert "Sim, 16 GiB, compute capability 9.0" in steps[2].text


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(akv.BackendUnavailable, match=r"CuPy is not installed.*pip install.*cuda12"):
        check([0])


def test_a_cupy_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Any:
        raise ImportError("libcuda.so.1: cannot open shared object file", name="cupy_backends")

    monkeypatch.setattr(probe_module.importlib, "import_module", load)
    with pytest.raises(akv.BackendUnavailable, match=r"cannot be imported: libcuda\.so\.1"):
        check([0])


async def test_it_is_found_out_at_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake(driver=0))
    try:
        resolve("cupy://0", {})
    except akv.UnknownStore:
        pytest.skip("akv is installed as it was before there was cupy://")
    with pytest.raises(akv.BackendUnavailable, match="no NVIDIA driver"):
        await akv.connect("cupy://0")
    with pytest.raises(akv.BackendUnavailable, match="no NVIDIA driver"):
        sync.connect("cupy://0")


# -- akv doctor -------------------------------------------------------------------------------------------------------


def test_doctor_names_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake(driver=0))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("Python", "akv", "numpy", "event loop", "memory://"):
        assert word in text
    assert "ok  numpy" in text


def test_doctor_gives_the_steps_of_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake(driver=0))
    point = types.SimpleNamespace(name="cupy", load=lambda: probe)
    found = {finding.name: finding for finding in doctor._probed(point)}  # type: ignore[arg-type]
    assert found["cupy: CuPy"].good
    assert not found["cupy: driver"].good
    assert "nvidia-smi" in found["cupy: driver"].advice
    # What needs no driver is looked at, too; what needs one is not.
    assert found["cupy: NVRTC"].good
    assert "cupy: devices" not in found


def test_doctor_survives_what_it_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise OSError("this library is not for here")

    point = types.SimpleNamespace(name="strange", load=broken, value="strange:thing")
    monkeypatch.setattr(doctor, "entry_points", lambda group: [point])
    findings = list(doctor.examine())
    assert [finding.good for finding in findings if finding.name.startswith("strange")] == [False, False]
    assert all("not for here" in finding.text for finding in findings if finding.name.startswith("strange"))


def test_doctor_on_asyncios_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKV_UVLOOP", "0")
    assert "asyncio" in doctor._loop().text
