"""What a handle offers is what the reference says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import akv
from akv import sync

REFERENCE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("face", [akv.KVStore, sync.KVStore], ids=["async", "blocking"])
def test_every_public_name_of_a_handle_is_in_the_reference(face: type) -> None:
    names = [name for name in dir(face) if not name.startswith("_")]
    assert "push" in names
    assert [name for name in names if not re.search(rf"\b{name}\b", REFERENCE)] == []
