"""Damaged, truncated, foreign and forged checkpoints: each is an error of akv's, none changes anything or allocates."""

from __future__ import annotations

import copy
import json
import os
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_cases import MANIFEST, contents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import akv
from akv import optim, sync
from akv.backend.saved import Capture, Record, SavedUpdater
from akv.checkpoint import open_writer
from akv.checkpoint.layout import Tensor, lay_out

quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make(folder: Path) -> None:
    with sync.connect("memory://") as kv:
        kv.init(["w", "b", "mask"], [np.ones((2, 3), np.float32), np.ones(3), np.array([True, False])])
        kv.set_optimizer(optim.SGD(momentum=0.9, lr_mult={"w": 0.5}))
        kv.push("w", np.ones((2, 3), np.float32))
        kv.save(folder)


def content(folder: Path) -> Any:
    return json.loads((folder / MANIFEST).read_bytes())["checkpoint"]


def forge(folder: Path, checkpoint: Any, text: str | None = None) -> None:
    """Write a manifest whose checksum is right."""
    data = (json.dumps(checkpoint, separators=(",", ":")) if text is None else text).encode()
    (folder / MANIFEST).write_bytes(b'{"crc32":%d,"checkpoint":%b}' % (zlib.crc32(data), data))


def values_file(folder: Path) -> Path:
    (path,) = folder.glob("values-*")
    return path


def refuses(folder: Path, error: type[Exception] = akv.BadCheckpoint, match: str | None = None) -> None:
    """A load has to fail with this, and to leave a store as it was."""
    with sync.connect("memory://") as kv:
        kv.init(["w", "mine"], [np.zeros((2, 3), np.float32), np.ones(2)])
        before = contents(kv)
        for verb in (kv.load, kv.load_optimizer_states):
            with pytest.raises(error, match=match) as caught:
                verb(folder)
            assert isinstance(caught.value, akv.AkvError)
            assert contents(kv) == before
        kv.set_optimizer(optim.Adam())  # no optimizer was taken over


def flips(data: bytes) -> Iterator[bytes]:
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        yield bytes(changed)


@pytest.mark.parametrize("kind", ["values", "states", "akv"])
def test_every_flipped_bit_and_every_cut_is_noticed(kind: str, tmp_path: Path) -> None:
    make(tmp_path)
    (path,) = tmp_path.glob(f"{kind}-*")
    data = path.read_bytes()
    damaged = [*flips(data), *(data[:length] for length in range(len(data))), data + b"\0", b""]
    with sync.connect("memory://") as kv:
        for each in damaged:
            path.write_bytes(each)
            with pytest.raises(akv.BadCheckpoint, match="nothing was loaded"):
                kv.load(tmp_path)
            assert kv.keys() == []
        path.write_bytes(data)
        kv.load(tmp_path)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    make(tmp_path)
    (states,) = tmp_path.glob("states-*")
    states.unlink()
    refuses(tmp_path, match=r"missing|'b'")


HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "overlap": lambda h: h["w"].update(data_offsets=h["b"]["data_offsets"]),
    "beyond": lambda h: h["w"].update(data_offsets=[0, 2**63]),
    "backwards": lambda h: h["w"].update(data_offsets=[24, 0]),
    "negative": lambda h: h["w"].update(data_offsets=[-24, 0]),
    "dtype": lambda h: h["w"].update(dtype="I32"),
    "shape": lambda h: h["w"].update(shape=[3, 2]),
    "too large": lambda h: h["w"].update(shape=[2**40, 2**40]),
    "missing": lambda h: h.pop("w"),
    "one more": lambda h: h.update(x=h["w"]),
    "other name": lambda h: h.update(W=h.pop("w")),
    "metadata": lambda h: h.pop("__metadata__"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies(name: str, tmp_path: Path) -> None:
    make(tmp_path)
    path = values_file(tmp_path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    HEADERS[name](header)
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with sync.connect("memory://") as kv, pytest.raises(akv.BadCheckpoint, match="values-"):
        kv.load(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_a_header_length_that_lies(length: int, tmp_path: Path) -> None:
    make(tmp_path)
    path = values_file(tmp_path)
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with sync.connect("memory://") as kv, pytest.raises(akv.BadCheckpoint, match="begin"):
        kv.load(tmp_path)


def test_a_name_that_stands_twice(tmp_path: Path) -> None:
    make(tmp_path)
    path = values_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"mask"', b'"w","w"', 1))
    with sync.connect("memory://") as kv, pytest.raises(akv.BadCheckpoint):
        kv.load(tmp_path)


def test_a_bool_that_is_neither(tmp_path: Path) -> None:
    make(tmp_path)
    path = values_file(tmp_path)
    data = path.read_bytes()[:-2] + b"\x02\x00"
    path.write_bytes(data)
    forged = content(tmp_path)
    (mask,) = [entry for entry in forged["shards"][0] if entry["key"] == "mask"]
    mask["crc32"] = [zlib.crc32(b"\x02\x00")]
    forge(tmp_path, forged)
    with sync.connect("memory://") as kv, pytest.raises(akv.BadCheckpoint, match="neither 0 nor 1"):
        kv.load(tmp_path)


NASTY: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 7, 2**31, 2**62, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308),
    *("", "w", "../w", "00000000", "sgd", "adam", "float64", "float8_e4m3", "object", "O", "function", "add", "\ud800"),
    *([], [[]], [None], [1], [2, 3], [2**62, 2**62], [0, 2**62], [1] * 65, [True], ["float32"], ["float32"] * 3),
    *({}, {"name": "sgd"}, {"key": "w"}),
]


def spots(item: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to everything inside a JSON value."""
    yield here
    inside = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    for name, value in inside:
        yield from spots(value, (*here, name))


Change = Callable[[Any, Any], object]


def changed(item: Any, spot: tuple[Any, ...], change: Change) -> Any:
    item = {"all": copy.deepcopy(item)}
    holder, spot = item, ("all", *spot)
    for name in spot[:-1]:
        holder = holder[name]
    change(holder, spot[-1])
    return item.get("all")


def put(value: Any) -> Change:
    return lambda holder, name: holder.__setitem__(name, value)


CHANGES: list[Change] = [
    lambda holder, name: holder.pop(name),
    lambda holder, name: holder.extend(holder) if isinstance(holder, list) else None,
    *map(put, NASTY),
]


@quick
@given(data=st.data())
def test_a_forged_manifest_is_refused_or_fits(tmp_path: Path, data: st.DataObject) -> None:
    if not (tmp_path / "good").exists():
        make(tmp_path)
        (tmp_path / "good").write_text(json.dumps(content(tmp_path)))
    forged = json.loads((tmp_path / "good").read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        spot = data.draw(st.sampled_from(list(spots(forged))))
        forged = changed(forged, spot, data.draw(st.sampled_from(CHANGES)))
    forge(tmp_path, forged)
    with sync.connect("memory://") as kv:
        try:
            kv.load(tmp_path)
        except akv.AkvError:
            assert kv.keys() == []
            kv.set_optimizer(optim.Adam())
            return
        keys = kv.keys()
        for key in (key for key in keys if kv.info(key).dtype.kind == "f"):
            kv.push(key, kv.pull(key))


def test_every_spot_with_every_nasty_value(tmp_path: Path) -> None:
    make(tmp_path)
    good = content(tmp_path)
    pairs = [(spot, value) for spot in spots(good) for value in NASTY]
    for spot, value in random.Random(1).sample(pairs, 800):
        forge(tmp_path, changed(good, spot, put(value)))
        with sync.connect("memory://") as kv:
            try:
                kv.load(tmp_path)
            except akv.AkvError:
                assert kv.keys() == []


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 5000,
        "NaN",
        "Infinity",
        '{"format":1,"format":1,"id":"00000000","values":true,"updater":{},"shards":[]}',
        '{"format":2,"anything":[]}',
        "\x00",
        "",
        '"\ud7ff',
    ],
    ids=range(10),
)
def test_json_that_is_none_or_strange(text: str, tmp_path: Path) -> None:
    make(tmp_path)
    forge(tmp_path, None, text)
    refuses(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\x80\x04K\x01.",
        b'{"crc32":0,"checkpoint":}',
        b"\xff" * 1000,
        b'{"crc32":99999999999,"checkpoint":{}}',
    ],
)
def test_a_manifest_of_somebody_else(data: bytes, tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / MANIFEST).write_bytes(data)
    refuses(tmp_path, match="manifest")


def test_a_manifest_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    make(tmp_path)
    os.truncate(tmp_path / MANIFEST, 1 << 40)
    refuses(tmp_path, match="the most is")


@pytest.mark.parametrize("kind", ["values", "akv"])
def test_a_pipe_in_a_files_place_hangs_nobody(kind: str, tmp_path: Path) -> None:
    make(tmp_path)
    (path,) = tmp_path.glob(f"{kind}-*")
    path.unlink()
    os.mkfifo(path)
    with sync.connect("memory://") as kv, pytest.raises(akv.BadCheckpoint, match="no regular file"):
        kv.load(tmp_path)
    path.unlink()
    path.mkdir()
    with sync.connect("memory://") as kv, pytest.raises((akv.BadCheckpoint, akv.DiskError)):
        kv.load(tmp_path)


@pytest.mark.parametrize("path", ["file", "folder"])
def test_what_is_no_checkpoint(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    refuses(tmp_path / path, match="no checkpoint")


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (2**61,), (0, 2**61)])
def test_nothing_is_allocated_for_what_is_not_there(shape: tuple[int, ...], tmp_path: Path) -> None:
    make(tmp_path)
    forged = content(tmp_path)
    forged["shards"] = [[{**forged["shards"][0][1], "shape": shape}]]
    forge(tmp_path, forged)
    layout = lay_out([Tensor(("b", 0), np.dtype(np.float64), shape)])
    values_file(tmp_path).write_bytes(layout.head)
    tracemalloc.start()
    try:
        with sync.connect("memory://") as kv, pytest.raises(akv.BadCheckpoint):
            kv.load(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


MOMENTUM = SavedUpdater("optimizer", optim.SGD(momentum=0.9))
F2, F4, F8, I8 = (np.dtype(char) for char in "efdq")


@pytest.mark.parametrize(
    ("updater", "dtype", "count", "state"),
    [
        (MOMENTUM, F4, 1, (F8,)),
        (MOMENTUM, F4, 1, (F2,)),
        (MOMENTUM, F4, 1, (F4, F4)),
        (MOMENTUM, F4, 1, ()),
        (MOMENTUM, F4, 1, None),
        (MOMENTUM, I8, 1, (I8,)),
        (SavedUpdater("optimizer", optim.SGD()), F4, 1, (F4,)),
        (SavedUpdater("assign"), F4, 1, (F4,)),
        (SavedUpdater("assign"), F4, 0, ()),
        (SavedUpdater("assign"), F4, 1, None),
    ],
)
def test_states_that_the_optimizer_never_made(
    updater: SavedUpdater, dtype: Any, count: int, state: tuple[Any, ...] | None, tmp_path: Path
) -> None:
    record = Record("w", (3,), dtype, 1, count, state)
    arrays = [np.zeros(3, one) for one in state or ()]
    with open_writer("save", str(tmp_path), True, lambda nbytes: None) as writer:
        shard = writer.write_shard([Capture(record, lambda: np.zeros(3, dtype), arrays)])
        writer.commit(updater, [shard])
    with sync.connect("memory://") as kv, pytest.raises((akv.BadCheckpoint, akv.DTypeMismatch), match="'w'"):
        kv.load(tmp_path)


@pytest.mark.parametrize("name", ["version", "count", "crc32"])
@pytest.mark.parametrize("value", [True, -1, 2**62 + 1, 1.0, "1", None])
def test_numbers_that_are_none(name: str, value: Any, tmp_path: Path) -> None:
    make(tmp_path)
    forged = content(tmp_path)
    entry = forged["shards"][0][0]
    entry[name] = [value, *entry[name][1:]] if name == "crc32" else value
    forge(tmp_path, forged)
    refuses(tmp_path, match="whole number")


def test_a_key_that_stands_in_two_shards(tmp_path: Path) -> None:
    capture = Capture(Record("w", (3,), F4, 1), lambda: np.zeros(3, F4))
    with open_writer("save", str(tmp_path), True, lambda nbytes: None) as writer:
        writer.commit(SavedUpdater("assign"), [writer.write_shard([capture], number, 2) for number in range(2)])
    refuses(tmp_path, match="twice")


def test_an_optimizer_that_is_unknown_here_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    forged = content(tmp_path)
    forged["updater"]["optimizer"] = {"name": "mine"}
    forge(tmp_path, forged)
    refuses(tmp_path, akv.InvalidArgument, "'mine'")
