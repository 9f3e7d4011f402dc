"""The picture of a version's states in docs/design.md, drawn from the table. Run as a script, it writes it there."""

from __future__ import annotations

from pathlib import Path

from gateway.lifecycle.states import TRANSITIONS

START, END = "<!-- states: generated from gateway/lifecycle/states.py -->", "<!-- end of states -->"


def diagram() -> str:
    """A Mermaid state diagram, one arrow a transition, in the table's order."""
    arrows = [f"    {_name(source)} --> {_name(target)}: {_name(event)}" for (source, event), target in TRANSITIONS.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> NEW", *arrows, "```"])


def _name(value: object) -> str:
    return str(getattr(value, "name", value))


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "design.md"
    before, _, rest = page.read_text().partition(START)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{START}\n{diagram()}\n{END}{after}")
