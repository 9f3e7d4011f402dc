"""Results for people, as tables on the terminal and Markdown, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.bench.scenario import KEPT, MISSED, Grid, Result, Scenario, Verdict

_STYLES = {KEPT: "green", MISSED: "red"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario's run: its result, or in ``broke`` what broke it off."""

    scenario: Scenario
    result: Result
    verdicts: Sequence[Verdict]
    took_s: float
    broke: str = ""


def show(console: Console, outcome: Outcome) -> None:
    """Prints one scenario on the terminal."""
    if outcome.broke:
        console.print(f"  [red]broke off:[/red] {outcome.broke}", markup=True)
    for grid in outcome.result.grids:
        console.print(_table(grid))
    for note in outcome.result.notes:
        console.print(f"  {note}", markup=False)
    for verdict in outcome.verdicts:
        word = f"[{_STYLES.get(verdict.word, 'yellow')}]{verdict.word}[/]"
        console.print(f"  {_number(verdict.value)} {verdict.goal.about}; the goal is {verdict.goal.bound}: {word}")


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title or None)
    for place, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if place else "left")
    for row in grid.rows:
        table.add_row(*row)
    return table


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Returns one scenario's entry, without figures that are no number."""
    return {
        "about": outcome.scenario.about,
        "took_s": round(outcome.took_s, 1),
        "broke": outcome.broke,
        "figures": {name: value for name, value in outcome.result.figures.items() if math.isfinite(value)},
        "goals": [
            {
                "figure": verdict.goal.figure,
                "about": verdict.goal.about,
                "at_least": verdict.goal.at_least,
                "at_most": verdict.goal.at_most,
                "value": verdict.value if math.isfinite(verdict.value) else None,
                "verdict": verdict.word,
            }
            for verdict in outcome.verdicts
        ],
        "tables": [
            {"title": g.title, "columns": list(g.columns), "rows": [list(r) for r in g.rows]} for g in outcome.result.grids
        ],
        "notes": list(outcome.result.notes),
    }


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Returns the short report: a table of goals, then each scenario's tables."""
    lines = ["# Benchmark", "", *_goals_markdown(outcomes)]
    for outcome in outcomes:
        lines += ["", f"## {outcome.scenario.name}", "", f"{outcome.scenario.about[0].upper()}{outcome.scenario.about[1:]}."]
        if outcome.broke:
            lines += ["", f"Broke off: {outcome.broke}"]
        for grid in outcome.result.grids:
            lines += ["", *grid_markdown(grid)]
        for note in outcome.result.notes:
            lines += ["", note]
    return "\n".join(lines) + "\n"


def _goals_markdown(outcomes: Sequence[Outcome]) -> list[str]:
    rows = [
        [outcome.scenario.name, verdict.goal.about, verdict.goal.bound, _number(verdict.value), verdict.word]
        for outcome in outcomes
        for verdict in outcome.verdicts
    ]
    return grid_markdown(Grid("", ["scenario", "what", "goal", "measured", "verdict"], rows))


def grid_markdown(grid: Grid) -> list[str]:
    """Returns a table as lines of Markdown."""
    lines = [f"**{grid.title}**", ""] if grid.title else []
    lines.append(f"| {' | '.join(grid.columns)} |")
    lines.append("|---|" + "---:|" * (len(grid.columns) - 1))
    return lines + [f"| {' | '.join(row)} |" for row in grid.rows]


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
