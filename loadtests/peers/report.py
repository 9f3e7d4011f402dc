"""What the samples say: medians, the best setting of each peer, ratios, goals; as tables and as Markdown. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from loadtests.peers.measure import Sample

WHOLE = "Interlock"
GOAL_STREAMS = (32, 128)
LATENCY_PEER, LATENCY_GOAL = "MLServer", 0.4


@dataclass(frozen=True, slots=True)
class Cell:
    """A server's medians at one number of streams, and the setting that reached them."""

    rate: float
    cpu_us: float
    beside_us: float
    setting: str

    def latency_ms(self, streams: int) -> float:
        """Mean time of a request, by Little's law: each of the streams always has exactly one request on its way."""
        return streams / self.rate * 1000


Row = Mapping[int, Cell]


def medians(samples: Sequence[Sample], setting: str) -> Cell:
    """The medians of one server's repetitions."""
    return Cell(
        statistics.median(sample.rate for sample in samples),
        statistics.median(sample.cpu_us for sample in samples),
        statistics.median(sample.beside_us for sample in samples),
        setting,
    )


def rows(samples: Mapping[str, Mapping[int, Sequence[Sample]]], families: Mapping[str, str]) -> dict[str, dict[int, Cell]]:
    """By family: at each number of streams the setting with the highest median rate, a peer at its best."""
    found: dict[str, dict[int, Cell]] = {}
    for server, by_streams in samples.items():
        row = found.setdefault(families[server], {})
        for streams, values in by_streams.items():
            cell = medians(values, server.partition(", ")[2])
            if streams not in row or cell.rate > row[streams].rate:
                row[streams] = cell
    return found


def ratios(table: Mapping[str, Row]) -> dict[str, dict[int, float]]:
    """What Interlock reaches of each other server's rate."""
    whole = table[WHOLE]
    return {name: {m: whole[m].rate / row[m].rate for m in whole} for name, row in table.items() if name != WHOLE}


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that was to be reached."""

    text: str
    value: float
    wanted: float
    is_reached: bool


def goals(table: Mapping[str, Row], wanted: Mapping[str, float]) -> list[Goal]:
    """The rates at 32 and 128 streams, and the latency of one stream; only of what was measured."""
    found = []
    for name, by_streams in ratios(table).items():
        for streams in sorted(set(by_streams) & set(GOAL_STREAMS)):
            if name in wanted:
                value = by_streams[streams]
                text = f"{columns(streams)}: {value:.2f} × {name} (at least {wanted[name]:g})"
                found.append(Goal(text, value, wanted[name], value >= wanted[name]))
    if LATENCY_PEER in table and 1 in table[WHOLE]:
        value = table[WHOLE][1].latency_ms(1) / table[LATENCY_PEER][1].latency_ms(1)
        text = f"1 stream: {value:.2f} of {LATENCY_PEER}'s mean latency (at most {LATENCY_GOAL:g})"
        found.append(Goal(text, value, LATENCY_GOAL, value <= LATENCY_GOAL))
    return found


def cells(table: Mapping[str, Row]) -> list[tuple[str, list[list[str]]]]:
    """The parts of the printed table: a title, and lines whose first word names the server."""
    streams = list(table[WHOLE])
    parts = [
        ("requests/s", [[name, *(f"{row[m].rate:,.0f}" for m in streams)] for name, row in table.items()]),
        ("server CPU per request, µs", [[name, *(f"{row[m].cpu_us:,.0f}" for m in streams)] for name, row in table.items()]),
        ("mean latency, ms", [[name, *(f"{row[m].latency_ms(m):.2f}" for m in streams)] for name, row in table.items()]),
        ("Interlock's requests/s ÷", [[name, *(f"{row[m]:.2f}" for m in streams)] for name, row in ratios(table).items()]),
    ]
    return [part for part in parts if part[1]]


def screen(table: Mapping[str, Row]) -> Table:
    """The whole table for a terminal."""
    shown = Table(title="one core serves, another makes the load (medians)")
    shown.add_column("")
    for streams in table[WHOLE]:
        shown.add_column(columns(streams), justify="right")
    for title, lines in cells(table):
        shown.add_section()
        shown.add_row(f"[bold]{title}[/bold]", *("" for _ in table[WHOLE]))
        for line in lines:
            shown.add_row(*line)
    return shown


def markdown(table: Mapping[str, Row], versions: Mapping[str, str], machine: Mapping[str, str], plot: str) -> str:
    """The section for the README: plot, rates with ratios, CPU, and what it was measured on."""
    streams = list(table[WHOLE])
    lines = [f"![requests per second and CPU per request, by server and streams]({plot})", ""]
    heads = ("requests/s on one core, by streams", "server CPU per request, µs", "")
    for (title, body), head in zip([part for part in cells(table) if "latency" not in part[0]], heads, strict=False):
        lines += [f"| {head or title} | {' | '.join(map(str, streams))} |", "|---|" + "---:|" * len(streams)]
        lines += [f"| {' | '.join(line)} |" for line in body] + [""]
    if 1 in table[WHOLE]:
        one = ", ".join(f"{name} {row[1].latency_ms(1):.2f} ms" for name, row in table.items())
        lines += [f"One request at a time, mean latency: {one}.", ""]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines.append(
        f"Measured on {machine['machine']}, CPython {machine['python']}, grpcio {machine['grpcio']}, onnxruntime "
        f"{machine['onnxruntime']}; {machine['pinned']}. {named}; of a peer's settings the best at each number of streams."
    )
    return "\n".join(lines) + "\n"


def best_settings(table: Mapping[str, Row]) -> list[str]:
    """One line a peer: the setting that was the best at each number of streams."""
    return [
        f"{name}: {'; '.join(f'{columns(m)}: {cell.setting}' for m, cell in row.items())}"
        for name, row in table.items()
        if any(cell.setting for cell in row.values())
    ]


def columns(streams: int) -> str:
    """A column's head."""
    return f"{streams} stream{'s' * (streams > 1)}"
