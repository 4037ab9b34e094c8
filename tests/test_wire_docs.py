"""docs/wire.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from akv_tcp import wire as w
from akv_tcp.wire import limits
from akv_tcp.wire.codes import CODES
from akv_tcp.wire.head import HEAD_SIZE, MAGIC, VERSION
from akv_tcp.wire.table import DATA, MORE, TABLE

PAGE = (Path(__file__).parents[1] / "docs" / "wire.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]


def test_every_message_is_described() -> None:
    described = {row[0]: row[1:] for row in rows() if len(row) == 5 and row[0].isdigit()}
    assert set(described) == {str(row.code) for row in TABLE}
    for row in TABLE:
        name, sender, phases, fields = described[str(row.code)]
        assert name == row.name
        assert sender == (row.sender.value if row.sender else "either")
        then = f", leads to {row.then.value}" if row.then else ""
        assert phases == ", ".join(phase.value for phase in row.when) + then
        own, _, entries = fields.partition("entries")
        named = entries.replace("any kind", "none, dense, rows, coded")
        kinds = [
            kind.name.lower() for kind in w.Kind if kind.name.lower() in re.findall(r"\w+", named.partition(":")[0])
        ]
        assert kinds == [kind.name.lower() for kind in w.Kind if kind in (row.kinds or ())]
        assert len([field for field in re.sub(r"\(.*?\)", "", own).strip("; ").split(",") if field]) == len(row.checks)


def test_every_code_and_dtype_is_described() -> None:
    cells = [(number, text) for row in rows() for number, text in zip(row[::2], row[1::2], strict=False)]
    for code, error in CODES.items():
        assert (str(code), error.__name__) in cells or code == 0
    for dtype in w.DType:
        assert (str(int(dtype)), dtype.name.lower()) in cells


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    said = [
        f"head of {HEAD_SIZE} bytes",
        f"magic {MAGIC:#06X}".replace("X", "x"),
        f"This is\nversion {VERSION}",
        f"at most {limits.MAX_HEADER:,}; at most {limits.GREETING_HEADER:,} until WELCOME",
        f"Text has at most {limits.MAX_TEXT:,} bytes, bin at most {limits.MAX_BLOB}",
        f"description of an optimizer at most {limits.MAX_DESCRIPTION:,}",
        f"below {w.INLINE:,} ride",
        f"multiple of {limits.ALIGN} ",
        f"at most {limits.MAX_DIMS} dimensions",
        f"text of at most {limits.MAX_KEY:,} bytes",
        f"at most {limits.MAX_RANKS:,})",
        f"plus {limits.ENTRY_COST:,} for each entry",
        f"akv: {limits.SLICE // 1024} KiB",
        f"| {MORE} | MORE |",
        f"| {DATA} | DATA |",
    ]
    assert [text for text in said if text not in PAGE] == []
