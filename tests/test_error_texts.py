"""What errors say: sentences that name the operation, the server, and what two optimizers differ in."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tcp_cases import serving, until

import akv
from akv import optim, sync
from akv.operations import Barrier, Flush, Operation, Pull, Push
from akv.optim.contrast import contrast

ONES = np.ones(3, np.float32)

# -- operations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Push("w", ONES, 5, False), "push of key 'w'"),
        (Pull([1, 2], None, 0), "pull of keys 1, 2"),
        (Pull(list("abcd"), None, 0), "pull of keys 'a', 'b', 'c', ... (4 keys)"),
        (Flush(), "flush"),
        (Barrier("end"), "barrier 'end'"),
    ],
)
def test_an_operation_by_its_verb_and_keys(op: Operation, text: str) -> None:
    assert str(op) == text
    assert repr(op) == f"<{text}, priority {op.priority}, new>"


# -- servers --------------------------------------------------------------------------------------------------


async def test_whatever_a_server_refuses_is_said_to_be_its_word() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", ONES)
        await kv.set_optimizer(optim.SGD(learning_rate=0.1))
        refused: list[tuple[Any, type[akv.AkvError]]] = [
            (lambda: kv.pull("x"), akv.KeyNotFound),
            (lambda: kv.push("w", np.ones(4, np.float32)), akv.ShapeMismatch),
            (lambda: kv.set_optimizer(optim.Adam()), akv.UpdaterConflict),
            (lambda: kv.delete("x"), akv.KeyNotFound),
            (lambda: kv.init("w", ONES), akv.KeyExists),
        ]
        for ask, kind in refused:
            with pytest.raises(kind) as caught:
                await ask()
            assert str(caught.value).startswith(f"{server.url}: ")
            assert str(caught.value).count(server.url) == 1


async def test_nor_is_it_forgotten_for_those_who_wait_for_a_version() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job") as kv:
        await kv.init("w", ONES)
        waiting = kv.wait_version("w", 9)
        await until(lambda: server.sessions[0].busy)
        server.sessions[0].stop(akv.StoreClosed("enough"))
        with pytest.raises(akv.StoreClosed, match=f"^{server.url}: enough"):
            await waiting


async def test_a_time_out_says_what_whose_and_how_long() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job", timeout=0.05) as kv:
        await kv.init("w", ONES)
        with pytest.raises(akv.AkvTimeout) as caught:
            await kv.pull("w", min_version=7)
        found = str(caught.value)
        assert found.startswith("pull of key 'w' was not done within 0.05 s; it waits for version 7")
        assert server.url in found


async def test_a_time_out_of_a_round_names_the_ranks_that_are_missing() -> None:
    async with serving() as server, akv.connect(f"{server.url}/job?workers=2", timeout=0.05) as kv:
        await kv.init("w", ONES)
        pushed = kv.push("w", ONES)
        with pytest.raises(akv.AkvTimeout) as caught:
            await kv.pull("w")
        await pushed
        assert re.match(r"pull of key 'w' was not done within 0\.05 s; it has started; tcp://", str(caught.value))
        assert "for ranks [1]" in str(caught.value)


# -- optimizers -----------------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([0.0, 0.125, 0.25, 0.5])
SGDS = st.builds(
    optim.SGD,
    learning_rate=NUMBERS,
    momentum=NUMBERS,
    wd=NUMBERS,
    lr_mult=st.dictionaries(st.sampled_from("abcdefgh"), NUMBERS),
)


@given(SGDS, SGDS)
def test_of_two_optimizers_only_what_differs_is_said_with_both_numbers(one: optim.SGD, other: optim.SGD) -> None:
    names = ("learning_rate", "momentum", "wd", "lr_mult")
    differing = [name for name in names if getattr(one, name) != getattr(other, name)]
    for text, optimizer in zip(contrast(one, other), (one, other), strict=True):
        assert text.startswith("SGD(")
        assert [name for name in names if f"{name}=" in text] == differing
        assert all(f"{name}={getattr(optimizer, name)!r}" in text for name in differing if name != "lr_mult")


def test_factors_of_many_keys_stay_a_line() -> None:
    keys = [f"layer {number}" for number in range(4096)]
    one = optim.SGD(lr_mult=dict.fromkeys(keys, 0.5))
    other = optim.Adam(lr_mult=dict.fromkeys(keys[1:], 0.5) | {keys[9]: 2.0})
    assert contrast(one, other) == (
        "SGD(learning_rate=0.01, lr_mult={'layer 0': 0.5, 'layer 9': 0.5})",
        "Adam(learning_rate=0.001, lr_mult={'layer 9': 2.0})",
    )
    assert "'layer 2': 0.5, ... (4096 that differ)}" in contrast(one, optim.SGD())[0]


@pytest.mark.parametrize("current", [optim.SGD(learning_rate=0.5), "add"])
async def test_a_conflict_with_a_checkpoint_is_as_short(current: Any, tmp_path: Any) -> None:
    async with akv.connect("memory://") as saved, akv.connect("memory://") as kv:
        await saved.init("w", ONES)
        await saved.set_optimizer(optim.SGD(learning_rate=0.25))
        await saved.save(tmp_path / "ck")
        await (kv.set_updater if current == "add" else kv.set_optimizer)(current)
        wanted = "a store with SGD, and this store has 'add';"
        if current != "add":
            wanted = "a store with SGD(learning_rate=0.25), and this store has SGD(learning_rate=0.5);"
        with pytest.raises(akv.UpdaterConflict, match=re.escape(wanted)):
            await kv.load(tmp_path / "ck")


def test_an_error_of_the_disk_reads_as_a_sentence(tmp_path: Path) -> None:
    with sync.connect("memory://") as kv, pytest.raises(akv.DiskError, match=r"^load\('.*nowhere'\) failed") as info:
        kv.load(tmp_path / "nowhere")
    assert info.value.errno == errno.ENOENT


def test_a_key_without_end_is_not_shown_whole() -> None:
    with sync.connect("memory://") as kv, pytest.raises(akv.KeyNotFound) as info:
        kv.pull("k" * 5000)
    assert len(str(info.value)) < 300
