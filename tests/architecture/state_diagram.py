"""The picture of a version's states in docs/design.md, drawn from the table. Run as a script, it writes it there."""

from __future__ import annotations

from pathlib import Path

from gateway.versions import states

START, END = "<!-- states: generated from gateway/versions/states.py -->", "<!-- end of states -->"


def diagram() -> str:
    """The diagram as a Markdown block."""
    return f"```mermaid\n{states.diagram().strip()}\n```"


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "design.md"
    before, _, rest = page.read_text().partition(START)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{START}\n{diagram()}\n{END}{after}")
