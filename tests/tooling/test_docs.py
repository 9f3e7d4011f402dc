from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_make_target_that_is_documented_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {name for page in PAGES for name in re.findall(r"`?make ([a-z-]+)`?", _code(page.read_text()))}
    assert used <= targets


def test_every_option_of_serve_that_is_documented_exists_and_none_is_missing() -> None:
    from gateway.cli.serve import serve

    parameters = set(serve.__annotations__) - {"return", "as_json", "context"}
    told = set(re.findall(r"^\| `--([a-z-]+)`", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    assert {option.replace("-", "_") for option in told} == parameters


def _code(text: str) -> str:
    """Only what stands in code, inline or in blocks."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
