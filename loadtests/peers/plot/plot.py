"""
Draws the comparison as a PNG: requests a second and CPU per request, one bar a server at each number of streams.

Runs in an environment of its own (`build/peers/plot`, matplotlib). Usage: plot.py RESULT.json PICTURE.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot: no display is needed
import matplotlib.pyplot as plt

PANELS = (("rate", "requests per second"), ("cpu_us", "server CPU per request, µs"))
# Interlock stands out; its peers and the bare echo keep the colours that people with colour blindness tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#B0B0B0", "#56B4E9")
BAR = 0.8


def draw(table: dict[str, dict[str, dict[str, Any]]], caption: str, target: Path) -> None:
    """``table``: by server and streams the medians. Logarithmic, for the servers differ by more than ten times."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(12, 4.6), layout="constrained")
    for axis, (key, title) in zip(axes, PANELS, strict=True):
        bars(axis, table, key)
        axis.set_title(title, fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.supxlabel(caption, fontsize=8, color="#555555")
    figure.savefig(target, dpi=110)


def bars(axis: Any, table: dict[str, dict[str, dict[str, Any]]], key: str) -> None:
    """One panel: groups of bars by streams, each with its figure."""
    streams = list(next(iter(table.values())))
    width = BAR / len(table)
    for place, (name, row) in enumerate(table.items()):
        at = [group - BAR / 2 + (place + 0.5) * width for group in range(len(streams))]
        shown = axis.bar(at, [row[m][key] for m in streams], width * 0.95, label=name, color=COLOURS[place % len(COLOURS)])
        axis.bar_label(shown, [short(row[m][key]) for m in streams], fontsize=6.5, padding=1, rotation=90)
    axis.set_yscale("log")
    axis.margins(y=0.18)
    axis.set_xticks(range(len(streams)), [f"{m} stream{'s' * (m != '1')}" for m in streams])
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", which="major", color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)


def short(value: float) -> str:
    """A figure that fits above a bar: 25.3k, 812, 38."""
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


if __name__ == "__main__":
    result = json.loads(Path(sys.argv[1]).read_text())
    draw(result["table"], result["caption"], Path(sys.argv[2]))
