"""Pages for people: lines that fit a screen, tables for facts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sources import ROOT

MAX_COLUMNS = 120  # of a line of prose
MAX_CELL = 200  # characters of a table's cell; more is a paragraph
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_fit_a_screen(page: Path) -> None:
    wide = [
        f"{number}: {len(line)} columns"
        for number, line in enumerate(_prose(page), 1)
        if len(line) > MAX_COLUMNS and not line.startswith(("|", "!["))
    ]
    assert wide == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_hold_facts_not_paragraphs(page: Path) -> None:
    cells = [cell.strip() for line in _prose(page) if line.startswith("|") for cell in re.split(r"(?<!\\)\|", line)]
    assert [cell for cell in cells if len(re.sub(r"\]\([^)]*\)", "]", cell)) > MAX_CELL] == []


def _prose(page: Path) -> list[str]:
    """The page's lines; those of code and of blocks that a command writes are empty."""
    hidden = re.compile(r"^```.*?^```|^<!-- (bench-peers): .*?^<!-- /\1 -->", re.DOTALL | re.MULTILINE)
    return hidden.sub(lambda block: "\n" * block[0].count("\n"), page.read_text()).split("\n")
